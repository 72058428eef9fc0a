from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.run_folders import make_classifier_run, make_segmentation_run
from builders.samples import add_samples
from covid_ct_mask_net.training.lesion_statistics import read_lesions
from covid_ct_mask_net.training.runs import Run, read_run
from covid_ct_mask_net.training.tables import plots


def _ink(path: Path) -> float:
    """Share of pixels of a figure that are not white."""
    with Image.open(path) as image:
        return float((np.asarray(image.convert("L")) < 250).mean())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return read_run(make_classifier_run(tmp_path / "run"))


def test_curves_need_a_history(run: Run, tmp_path: Path) -> None:
    path = plots.training_curves(run, tmp_path / "curves.png")
    assert path is not None
    assert _ink(path) > 0.01
    with Image.open(path) as image:
        assert image.width > 1.8 * image.height, "losses and validation figures have a panel each"
    assert plots.training_curves(dataclasses.replace(run, history={}), tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()
    once = read_run(make_segmentation_run(tmp_path / "once"))
    assert plots.training_curves(once, tmp_path / "once.png") is not None


def test_confusion_and_reliability_need_predictions(run: Run, tmp_path: Path) -> None:
    without = dataclasses.replace(run, predictions={})
    for number, draw in enumerate((plots.confusion_figure, plots.reliability_figure)):
        path = draw(run, tmp_path / f"{number}.png")
        assert path is not None
        assert _ink(path) > 0.02
        assert draw(without, tmp_path / "none.png") is None


def test_reliability_without_validation_has_one_panel(run: Run, tmp_path: Path) -> None:
    both = plots.reliability_figure(run, tmp_path / "both.png")
    test_alone = dataclasses.replace(run, predictions={"test": run.predictions["test"]})
    one = plots.reliability_figure(test_alone, tmp_path / "one.png")
    assert both is not None
    assert one is not None
    with Image.open(both) as wide, Image.open(one) as narrow:
        assert wide.width == 2 * narrow.width


def test_distribution_of_lesions(tmp_path: Path) -> None:
    lesions = read_lesions(add_samples(make_segmentation_run(tmp_path / "run"), 6))
    path = plots.distribution_figure(lesions, tmp_path / "2.png", "of six slices")
    assert path is not None
    assert _ink(path) > 0.02
    assert plots.distribution_figure([], tmp_path / "none.png") is None
