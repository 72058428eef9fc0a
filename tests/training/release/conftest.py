from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.training.synthesis.phantom import draw_chest
from covid_ct_mask_net.training.synthesis.slice_supply import Ground


@pytest.fixture(scope="session")
def ground() -> Ground:
    """A small phantom that lesions are put into, made once."""
    chest = draw_chest(np.random.default_rng(5), 96, 12.0)
    shown = [k for k in range(len(chest.hu)) if np.count_nonzero(chest.lungs[k]) > 150]
    return Ground.of(chest, shown, real=False)
