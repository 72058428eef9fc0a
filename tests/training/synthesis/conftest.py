from __future__ import annotations

import numpy as np
import pytest

from covid_ct_mask_net.training.synthesis.phantom import Chest, draw_chest


@pytest.fixture(scope="session")
def chest() -> Chest:
    """A small phantom, made once."""
    return draw_chest(np.random.default_rng(5), 128, 8.0)
