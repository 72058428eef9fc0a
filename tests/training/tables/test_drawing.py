from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.lesion_data import chest_slice
from covid_ct_mask_net.errors import OutputError, UsageError
from covid_ct_mask_net.training.tables.drawing import drawn, show_slice, tint


def test_the_same_figure_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with drawn(tmp_path / "sub" / f"{name}.png", 1, 1, 2, 2) as axes:
            show_slice(axes[0, 0], chest_slice(), "slice")
    first, second = ((tmp_path / "sub" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second
    with Image.open(tmp_path / "sub" / "a.png") as image:
        assert image.size == (300, 300)


def test_tinted_pixels_have_the_colour(tmp_path: Path) -> None:
    mask = np.zeros((64, 64), dtype=bool)
    mask[16:48, 16:48] = True
    path = tmp_path / "a.png"
    with drawn(path, 1, 1, 2, 2) as axes:
        show_slice(axes[0, 0], np.full((64, 64), 128, dtype=np.uint8))
        tint(axes[0, 0], mask, "#ff0000")
        tint(axes[0, 0], np.zeros((64, 64), dtype=bool), "#00ff00")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    middle = pixels[pixels.shape[0] // 2 - 10, pixels.shape[1] // 2]
    assert middle[0] > middle[1] + 80
    assert not ((pixels[..., 1] > pixels[..., 0] + 40).any())


def test_a_figure_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match="could not be written"),
        drawn(tmp_path / "file" / "a.png", 1, 1, 1, 1),
    ):
        pass


def test_without_matplotlib_the_sentence_says_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="Figures need matplotlib"), drawn(tmp_path / "a.png", 1, 1, 1, 1):
        pass
