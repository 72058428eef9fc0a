from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from covid_ct_mask_net.training.datasets.records import make_record
from covid_ct_mask_net.training.release.expert_slices import (
    SliceResult,
    detect_records,
    detect_slice,
    picture,
    slice_figures,
)


class Seer(nn.Module):
    """Finds one bright square, as GGO, with full score."""

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        (image,) = images
        mask = (image > 0.8).float()[None]
        rows, columns = (np.flatnonzero(mask[0, 0].numpy().any(axis=axis)) for axis in (1, 0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        return [
            {
                "boxes": torch.tensor([box], dtype=torch.float32),
                "labels": torch.tensor([1]),
                "scores": torch.tensor([0.9]),
                "masks": mask,
            }
        ]


def _slice(shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    image, truth = np.zeros((40, 48), dtype=np.float32), np.zeros((40, 48), dtype=np.uint8)
    image[10:20, 10:20] = 1.0
    truth[10:20, 10 + shift : 20 + shift] = 1
    return image, truth


def _results(*shifts: int) -> list[SliceResult]:
    return [
        detect_slice(Seer(), str(n), str(n), *_slice(shift))  # type: ignore[arg-type]
        for n, shift in enumerate(shifts)
    ]


def test_dice_counts_pixels_of_all_slices() -> None:
    figures = slice_figures(_results(0, 5))
    assert figures["dice"]["lesion"]["value"] == pytest.approx((100 + 50) / 200)
    assert figures["dice"]["ggo"] == figures["dice"]["lesion"]
    assert np.isnan(figures["dice"]["consolidation"]["value"])
    assert figures["dice"]["lesion"]["low"] <= 0.75 <= figures["dice"]["lesion"]["high"]
    assert figures["confusion"][1] == [50, 150, 0]
    assert figures["fragments_a_slice"] == 1
    # A shift by half is an IoU of a third.
    assert figures["mask_ap"]["ap50"] == pytest.approx(0.5, abs=0.02)


def test_records_are_read(tmp_path: Path) -> None:
    image, truth = _slice()
    Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(truth).save(tmp_path / "1_mask.png")
    record = make_record(
        tmp_path / "1.png", mask=tmp_path / "1_mask.png", patient="1", scan="1", slice_index=1
    )
    (result,) = detect_records(Seer(), [record])  # type: ignore[arg-type]
    assert result.dice == 1.0
    assert result.image.shape == result.found.shape == (40, 48)


def test_pictures_show_slice_truth_and_finding(tmp_path: Path) -> None:
    picture(_results(0, 5, 10), tmp_path / "images" / "a.png", height=40, columns=2)
    drawn = np.asarray(Image.open(tmp_path / "images" / "a.png").convert("RGB")).astype(int)
    assert drawn.shape == (86, 2 * 144 + 6, 3)
    green = (drawn[..., 1] > drawn[..., 0] + 40) & (drawn[..., 1] > drawn[..., 2] + 40)
    assert not green[:40, :48].any()
    assert green[10:20, 58:68].all()
    assert green[10:20, 106:116].all()
