"""Lungs cut by the field of view, on chests whose lungs are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from builders.chest import make_chest
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.geometry import voxel_spacing
from covid_ct_mask_net.transforms import LungMaskd
from covid_ct_mask_net.transforms.lungs import segment_lungs
from covid_ct_mask_net.transforms.truncation import circle_of_reconstruction, field_of_view, side_cut

CHEST = make_chest(spacing=(3.0, 3.0, 5.0))


def _masked(hu: NDArray[np.float32]) -> dict:
    volume = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(hu))[None], affine=torch.as_tensor(CHEST.affine)
    )
    return LungMaskd(keys="volume")({"volume": volume})


def _circle(radius_mm: float) -> NDArray[np.float32]:
    """The chest as reconstructed in a circle around the middle of the image."""
    columns, rows = np.ogrid[: CHEST.hu.shape[0], : CHEST.hu.shape[1]]
    outside = ((columns - 63) * 3.0) ** 2 + ((rows - 46) * 3.0) ** 2 > radius_mm**2
    hu = CHEST.hu.copy()
    hu[outside] = -1024.0
    return hu


@pytest.mark.parametrize(
    ("cut", "codes"),
    [
        (slice(None), []),
        (slice(15, -15), []),
        # 10 mm of the lateral edge of the right lung are missing.
        (slice(27, -10), ["LUNG_TRUNCATED"]),
        # A fifth of both lungs is missing.
        (slice(30, -30), None),
        # The middle of the chest and one lung.
        (slice(0, 60), None),
        (slice(64, None), None),
    ],
    ids=["whole", "body cut, lungs whole", "edge of one lung", "both lungs cut", "right half", "left half"],
)
def test_a_field_of_view_that_cuts_the_lungs(cut: slice, codes: list[str] | None) -> None:
    if codes is None:
        with pytest.raises(NotAssessableError, match="field of view") as caught:
            _masked(CHEST.hu[cut])
        assert caught.value.code == "LUNG_TRUNCATED"
        return
    assert [warning.code for warning in _masked(CHEST.hu[cut])["warnings"]] == codes


def test_one_lung_in_a_whole_chest_is_assessed() -> None:
    """After the removal of a lung the other one is there, and air beside the body at both edges."""
    chest = make_chest(without_lung=1)
    assert not side_cut(chest.hu, segment_lungs(chest.hu, chest.affine), voxel_spacing(chest.affine)).one_side


@pytest.mark.parametrize(("radius_mm", "cut"), [(115.0, True), (145.0, False), (190.0, False)])
def test_a_circle_of_reconstruction_that_cuts_the_lungs(radius_mm: float, cut: bool) -> None:
    hu = _circle(radius_mm)
    lungs = segment_lungs(hu, CHEST.affine)
    inside = np.count_nonzero((CHEST.lungs > 0) & (hu > -1024.0))
    # What is in the picture is found: the air of a cut lung does not count as outside of the body.
    assert np.count_nonzero(lungs) == pytest.approx(inside, rel=0.06)
    share = side_cut(hu, lungs, (3.0, 3.0, 5.0)).share
    assert (share > 0.15) if cut else (share == 0.0)


def test_the_circle_is_told_from_the_body() -> None:
    spacing = (3.0, 3.0, 5.0)
    assert circle_of_reconstruction(_circle(115.0), spacing) is not None
    assert circle_of_reconstruction(CHEST.hu, spacing) is None
    # Air set to the lowest value leaves the shape of the body, which is no circle.
    bare = np.where(CHEST.hu < -930.0, np.float32(-1024.0), CHEST.hu)
    assert not field_of_view(bare).all()
    assert circle_of_reconstruction(bare, spacing) is None
    assert circle_of_reconstruction(np.full((8, 8, 4), -1024.0, np.float32), spacing) is None
