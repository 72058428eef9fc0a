from __future__ import annotations

from dataclasses import replace

import numpy as np

from covid_ct_mask_net.training.synthesis.anatomy import LEFT, RIGHT, draw_anatomy, draw_plane

AXIS = np.arange(-200, 200, 2, dtype=np.float32)
ANATOMY = replace(draw_anatomy(np.random.default_rng(1)), heart=1.0, blood_hu=45.0, gas=True)


def test_patient_right_is_the_low_side_of_x() -> None:
    _, lungs = draw_plane(ANATOMY, 0.6 * ANATOMY.height, AXIS, AXIS)
    columns = np.argwhere(lungs == RIGHT)[:, 1].mean(), np.argwhere(lungs == LEFT)[:, 1].mean()
    assert AXIS[int(columns[0])] < -30 < 30 < AXIS[int(columns[1])]


def test_left_lung_gives_way_to_the_heart() -> None:
    _, lungs = draw_plane(ANATOMY, 0.3 * ANATOMY.height, AXIS, AXIS)
    front = lungs[AXIS < -20]
    assert np.count_nonzero(front == LEFT) < 0.95 * np.count_nonzero(front == RIGHT)


def test_dependent_lung_is_denser() -> None:
    hu, lungs = draw_plane(ANATOMY, 0.55 * ANATOMY.height, AXIS, AXIS)
    back, front = hu[AXIS > 40][lungs[AXIS > 40] > 0], hu[AXIS < -40][lungs[AXIS < -40] > 0]
    assert back.mean() > front.mean() + 0.4 * ANATOMY.gradient_hu


def test_a_plane_has_bone_fat_air_and_trachea() -> None:
    hu, lungs = draw_plane(ANATOMY, 0.8 * ANATOMY.height, AXIS, AXIS)
    assert hu.max() > 400
    assert (hu == -100).mean() > 0.02
    carina_x, carina_y = ANATOMY.carina[2], ANATOMY.carina[1]
    here = np.argmin(np.abs(AXIS - carina_y)), np.argmin(np.abs(AXIS - carina_x))
    assert hu[here] == -1000
    assert lungs[here] == 0


def test_no_lung_above_the_apex_or_below_the_base() -> None:
    for z in (-5.0, ANATOMY.height + 5.0):
        assert not draw_plane(ANATOMY, z, AXIS, AXIS)[1].any()
