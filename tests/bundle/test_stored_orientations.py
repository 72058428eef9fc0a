"""One chest stored in all 48 orders and directions of its axes: the same result, but for what is counted."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.app.findings import Findings
from covid_ct_mask_net.app.views import View, views
from covid_ct_mask_net.nifti_file import LoadNiftid
from covid_ct_mask_net.pipeline import VolumePipeline
from covid_ct_mask_net.postprocessing import nifti_result
from covid_ct_mask_net.results import StudyResult

AFFINE = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
CODES = [
    "".join(c) for order in itertools.permutations(("LR", "PA", "SI")) for c in itertools.product(*order)
]
# One of each order, none as it is drawn.
ORDERS = ["RAI", "RIA", "ARI", "AIR", "IRA", "IAR"]
# Where the axes of the drawn volume go.
_PATIENT = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@functools.cache
def _pipeline(suspects: bool) -> VolumePipeline:
    return oracle_pipeline(suspects=suspects)


def _assessed(folder: Path, codes: str, *, suspects: bool = False) -> tuple[StudyResult, dict[Any, Any]]:
    """Store the chest, without lesions for one who suspects all, and assess it."""
    image = nibabel.Nifti1Image(
        chest_with_lesions(lesions=not suspects).transpose(2, 1, 0).astype(np.int16), AFFINE
    )
    wanted = nibabel.orientations.axcodes2ornt(codes)
    image.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(AFFINE), wanted)
    ).to_filename(folder / f"{codes}.nii")
    pipeline = _pipeline(suspects)
    data = LoadNiftid("volume")({"volume": folder / f"{codes}.nii", "source_key": "key"})
    data = pipeline.assess(pipeline.infer(pipeline.prepare(data)))
    return nifti_result(data, pipeline.model, "volume"), data


def _places(result: dict[str, Any]) -> list[Any]:
    """Take what is counted in the source out of a result."""
    geometry = result.pop("geometry")
    taken = [(s.pop("source_index"), [d.pop("box") for d in s["detections"]]) for s in result["slices"]]
    return [*taken, geometry["orientation"]]


def _counted(position: float, code: str) -> float:
    """Return a place of the drawn volume, counted along an axis of another."""
    axis, sign = _PATIENT[code]
    return position if sign > 0 else (96, 96, 40)[axis] - position


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _assessed(tmp_path_factory.mktemp("drawn"), "LPS")[0].to_json()


@pytest.mark.parametrize("codes", CODES)
def test_results_are_the_same_but_for_what_is_counted(tmp_path: Path, drawn: str, codes: str) -> None:
    expected, result = json.loads(drawn), json.loads(_assessed(tmp_path, codes)[0].to_json())
    where, places = _places(expected), _places(result)
    for one in (expected, result):
        one.pop("created", None)
    assert result == expected
    assert places[-1] == codes
    (along,) = (axis for axis in codes if axis in "SI")
    first, second = (axis for axis in codes if axis not in "SI")
    for (index, boxes), (found, found_boxes) in zip(where[:-1], places[:-1], strict=True):
        assert found + 0.5 == _counted(index + 0.5, along)
        assert len(found_boxes) == len(boxes)
        for box, found_box in zip(boxes, found_boxes, strict=True):
            sides = [
                sorted(_counted(box[_PATIENT[code][0] + corner], code) for corner in (0, 2))
                for code in (first, second)
            ]
            assert found_box == pytest.approx([sides[0][0], sides[1][0], sides[0][1], sides[1][1]], abs=2e-3)
    assert any(boxes for _, boxes in places[:-1])


def _views(folder: Path, codes: str) -> tuple[View, ...]:
    result, data = _assessed(folder, codes, suspects=True)
    findings = Findings.of(data, result, None)
    assert findings is not None
    return views(result, findings)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[View, ...]:
    return _views(tmp_path_factory.mktemp("pictures"), "LPS")


@pytest.mark.parametrize("codes", ORDERS)
def test_pictures_show_the_slices_that_made_the_class(
    tmp_path: Path, pictures: tuple[View, ...], codes: str
) -> None:
    found = _views(tmp_path, codes)
    assert len(pictures) == 3
    assert [one.key for one in found] == [one.key for one in pictures]
    for one, other in zip(found, pictures, strict=True):
        np.testing.assert_array_equal(one.picture, other.picture)
