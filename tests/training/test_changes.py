"""Changes of slices do what their names say, on a chest whose lungs are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training import changes

SIDE = 128


def _chest(table: bool = True) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return a slice (1, H, W), its body and its lungs; a lesion lies in one lung, a table below the body."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    body = (columns / 0.42) ** 2 + ((rows + 0.05) / 0.33) ** 2 < 1
    lungs = np.zeros_like(body)
    for centre in (-0.19, 0.19):
        lungs |= ((columns - centre) / 0.13) ** 2 + ((rows + 0.05) / 0.22) ** 2 < 1
    image = np.where(body, 0.9, 0.23)
    image[lungs] = 0.25
    image[(rows**2 + (columns + 0.19) ** 2) < 0.004] = 0.5
    if table:
        image[(rows > 0.32) & (rows < 0.35) & (np.abs(columns) < 0.35)] = 1.0
    return torch.from_numpy(image.astype(np.float32))[None], body, lungs


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("name", changes.all_changes())
def test_every_change_keeps_shape_range_and_source(name: str) -> None:
    image, _, _ = _chest()
    before = image.clone()
    after = changes.changed(image, name)
    assert torch.equal(image, before), "the slice itself is not written into"
    assert (after.shape, after.dtype) == (image.shape, torch.float32)
    assert 0 <= float(after.min()) <= float(after.max()) <= 1
    assert not torch.equal(after, image)


def test_body_and_lungs_are_found_without_the_table() -> None:
    image, body, lungs = _chest()
    found_body, found_lungs = changes.body_and_lungs(image[0].numpy())
    assert _iou(found_body, body) > 0.97
    assert _iou(found_lungs, lungs) > 0.95
    # The lesion belongs to the lung.
    assert found_lungs[SIDE // 2 - 1, int(0.31 * SIDE)]


def test_erased_lungs_hold_no_evidence_and_only_lungs_nothing_else() -> None:
    image, body, lungs = _chest()
    erased = changes.lungs_erased(image)[0].numpy()
    inside = lungs & changes.body_and_lungs(image[0].numpy())[1]
    assert np.unique(erased[inside]).tolist() == [np.float32(0.9)]
    assert (erased[~body] == image[0].numpy()[~body]).all()
    alone = changes.only_lungs(image)[0].numpy()
    assert (alone[~body] == 0).all()
    assert np.array_equal(alone[inside], image[0].numpy()[inside])
    bare = changes.border_removed(image)[0].numpy()
    assert bare[int(0.83 * SIDE), SIDE // 2] == 0, "no table"
    assert np.array_equal(bare[inside], image[0].numpy()[inside])


def test_slices_without_body_or_lungs() -> None:
    air = torch.zeros(1, 40, 40)
    assert torch.equal(changes.lungs_erased(air), air)
    assert not changes.only_lungs(air).any()
    solid = torch.full((1, 40, 40), 0.9)
    assert torch.equal(changes.lungs_erased(solid), solid)


def test_windows_shift_the_right_way() -> None:
    image, _, _ = _chest()
    brighter, darker = (changes.changed(image, f"robustness-window-{one}") for one in ("brighter", "darker"))
    assert float(brighter.mean()) > float(image.mean()) > float(darker.mean())
    wider = changes.changed(image, "robustness-window-wider")
    assert float(wider.std()) < float(image.std())


def test_rotation_and_spacing_move_what_they_should() -> None:
    image = torch.zeros(1, 101, 101)
    image[0, 50, 80] = 1.0
    turned = changes.rotated(image, 90)
    assert turned[0].argmax() == (50 - 30) * 101 + 50
    # 30 pixels from the centre become 37.5 at 1.25 times the size, 24 at 0.8.
    column = int(changes.respaced(image, 1.25)[0].sum(0).argmax())
    assert column - 50 in (37, 38)
    assert int(changes.respaced(image, 0.8)[0].sum(0).argmax()) - 50 == 24


def test_jpeg_and_grid_take_detail_away() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 64, 64, generator=generator)
    strong, weak = changes.jpeg(image, 50), changes.jpeg(image, 90)
    assert float((strong - image).abs().mean()) > float((weak - image).abs().mean()) > 0
    assert float(changes.coarser(image, 1.5).std()) < 0.8 * float(image.std())


def test_records_are_repeated_for_each_change() -> None:
    records = [{"file": "a"}, {"file": "b"}]
    repeated = changes.under_changes(records, ["control-only-lungs", "robustness-jpeg-50"])
    assert [(one["file"], one["change"]) for one in repeated] == [
        ("a", "control-only-lungs"), ("b", "control-only-lungs"),
        ("a", "robustness-jpeg-50"), ("b", "robustness-jpeg-50"),
    ]  # fmt: skip
    with pytest.raises(UsageError, match="no change 'control-hat'"):
        changes.under_changes(records, ["control-hat"])
    with pytest.raises(UsageError, match="no change 'robustness-hat'"):
        changes.changed(torch.zeros(1, 8, 8), "robustness-hat")


def test_the_transform_changes_only_what_asks_for_it() -> None:
    image, _, _ = _chest()
    transform = changes.ChangeSliced()
    assert torch.equal(transform({"image": image})["image"], image)
    changed = transform({"image": image, "change": "control-only-lungs"})["image"]
    assert torch.equal(changed, changes.only_lungs(image))
