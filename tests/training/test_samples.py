"""Samples of evaluations come back as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.samples import (
    Sample,
    SampleDetections,
    grey_levels,
    highest_mask_logits,
    read_samples,
    samples_folder,
    spread_out,
    write_sample,
)


def _detection(count: int = 2, shape: tuple[int, int] = (20, 30)) -> dict[str, torch.Tensor]:
    masks = torch.zeros(count, 1, *shape)
    for index in range(count):
        masks[index, 0, 2 + index : 8, 3:9] = 0.8
    return {
        "boxes": torch.tensor([[3.0, 2.0, 9.0, 8.0]] * count), "labels": torch.ones(count, dtype=torch.int64),
        "scores": torch.linspace(0.9, 0.5, count), "masks": masks,
    }  # fmt: skip


def test_a_sample_comes_back(tmp_path: Path) -> None:
    found = SampleDetections.of(_detection())
    sample = Sample(
        file="sub folder/2_1_3_0004.png",
        image=np.arange(600, dtype=np.uint8).reshape(20, 30),
        truth=np.ones((20, 30), dtype=np.uint8),
        detections={0.25: found, 0.75: SampleDetections.of(_detection(0))},
        mask_logits=highest_mask_logits(_detection()),
        class_logits=np.array([1.0, -2.0, 3.5]),
        slice_class=2,
    )
    path = write_sample(samples_folder(tmp_path), sample)
    assert path.name == "sub_folder_2_1_3_0004.npz"
    (back,) = read_samples(tmp_path)
    assert (back.file, back.slice_class) == (sample.file, 2)
    assert np.array_equal(back.image, sample.image)
    assert back.truth is not None
    assert back.truth.sum() == 600
    assert list(back.detections) == [0.25, 0.75]
    assert np.array_equal(back.detections[0.25].masks, found.masks)
    assert back.detections[0.75].masks.shape == (0, 20, 30)
    assert back.class_logits is not None
    assert back.class_logits.tolist() == [1.0, -2.0, 3.5]


def test_slices_without_masks_and_detections_are_samples_too(tmp_path: Path) -> None:
    write_sample(samples_folder(tmp_path), Sample("a.png", np.zeros((4, 5), np.uint8)))
    (back,) = read_samples(tmp_path)
    assert (back.truth, back.mask_logits, back.class_logits, back.slice_class) == (None, None, None, None)
    assert read_samples(tmp_path, "elsewhere") == []


def test_mask_logits_are_the_highest_inside_boxes() -> None:
    logits = highest_mask_logits(_detection())
    assert logits[4, 5] == pytest.approx(np.log(0.8 / 0.2), abs=1e-5)
    assert np.isnan(logits[15, 20])
    # Inside the box, but in no mask: probability 0 has no logit and is shown at the limit.
    assert logits[8, 9] == -30
    assert np.isnan(highest_mask_logits(_detection(0))).all()


def test_grey_levels_round_to_the_nearest() -> None:
    assert grey_levels(torch.tensor([[[0.0, 0.5, 1.0]]])).tolist() == [[0, 128, 255]]


def test_samples_are_spread_over_the_slices() -> None:
    assert spread_out(10, 3) == [0, 4, 9]
    assert spread_out(2, 5) == [0, 1]
    assert spread_out(5, 1) == [0]
    assert spread_out(5, 0) == []


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = write_sample(samples_folder(tmp_path), Sample("a.png", np.zeros((4, 5), np.uint8)))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RefusedInputError, match=r"a\.npz is no sample"):
        read_samples(tmp_path)
    np.savez(path, schema=np.array("other"))
    with pytest.raises(RefusedInputError, match="schema other"):
        read_samples(tmp_path)
