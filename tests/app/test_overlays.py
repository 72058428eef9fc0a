"""Pictures of slices."""

from __future__ import annotations

import numpy as np

from covid_ct_mask_net.app.overlays import LESION_COLOURS, Drawn, draw_slice
from covid_ct_mask_net.labels import LesionClass


def test_the_number_of_a_lesion_stands_beside_it() -> None:
    """Also where the lesion is slanted, and the corner of its box far away."""
    hu = np.full((96, 96, 1), -800.0, np.float32)
    slanted = np.tril(np.ones((60, 60), bool)) & np.triu(np.ones((60, 60), bool), -12)
    lesion = Drawn(1, LesionClass.CONSOLIDATION, (20, 10), slanted)
    picture = draw_slice(hu, np.diag([-1.0, -1.0, 5.0, 1.0]), 0, [lesion], [], longest=768).astype(int)
    coloured = np.abs(picture[:768] - LESION_COLOURS[LesionClass.CONSOLIDATION]).sum(axis=2) < 30
    rows, columns = np.nonzero(coloured)
    # Pixels are 8 wide here. Right of the diagonal edge there is the number alone, and that near the edge.
    beyond = (columns / 8 - 10) - (rows / 8 - 20)
    assert 1.5 < beyond.max() < 6
