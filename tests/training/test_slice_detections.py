"""Lesions on plain images as a bundle run: a table, and every image drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from builders.evaluations import evaluate, missing_properties, small_weights
from builders.networks import random_slices
from covid_ct_mask_net.checkpoints import load_segmentation
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.read import read_grey_image
from covid_ct_mask_net.training.files import read_rows
from covid_ct_mask_net.training.slice_detections import WriteSliceDetections, plain_slices

CONFIG = "infer_slices.yaml"
# Seeded weights are never sure.
LOW = 0.2


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, image in zip(("b.png", "a.jpg"), random_slices((64, 64), (64, 80)), strict=True):
        Image.fromarray((image[0].numpy() * 255).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights")) / "model.pt"


@pytest.fixture(scope="module")
def found(images: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found")
    return evaluate(CONFIG, images, folder, weights=str(weights), confidence=LOW, mask_threshold=0.4)


def test_the_table_has_what_the_detector_finds(found: Path, images: Path, weights: Path) -> None:
    detector = load_segmentation(weights).eval()
    rows = read_rows(found / "detections.csv")
    assert list(rows[0]) == ["file", "class", "score", "x0", "y0", "x1", "y1", "area"]
    for name in ("a.jpg", "b.png"):
        image = torch.from_numpy(read_grey_image(images / name))[None]
        with torch.no_grad():
            (expected,) = detector([image])
        kept = expected["scores"] >= LOW
        ours = [row for row in rows if row["file"] == name]
        assert len(ours) == int(kept.sum()) > 0
        scores = [float(row["score"]) for row in ours]
        assert scores == pytest.approx(expected["scores"][kept].tolist(), abs=1e-4)
        areas = (expected["masks"][kept] >= 0.4).sum(dim=(1, 2, 3)).tolist()
        assert [int(row["area"]) for row in ours] == areas
        box = [float(ours[0][side]) for side in ("x0", "y0", "x1", "y1")]
        assert box == pytest.approx(expected["boxes"][kept][0].tolist(), abs=0.06)
    assert {row["class"] for row in rows} <= {"Ground-glass opacity", "Consolidation"}


def test_the_list_names_all_images_and_thresholds(found: Path) -> None:
    content = json.loads((found / "detections.json").read_text())
    assert [one["file"] for one in content["images"]] == ["a.jpg", "b.png"]
    assert (content["confidence"], content["mask_threshold"], content["roi_nms"]) == (LOW, 0.4, 0.25)
    assert content["weights"] == "model.pt"
    assert "not a medical device" in content["notice"].lower()
    rows = read_rows(found / "detections.csv")
    assert sum(len(one["detections"]) for one in content["images"]) == len(rows)


def test_each_image_is_drawn(found: Path) -> None:
    drawn = sorted((found / "overlays").iterdir())
    assert [path.name for path in drawn] == ["a.png", "b.png"]
    with Image.open(drawn[0]) as image:
        assert image.width > image.height
        # The colours of lesions.
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert (pixels.max(axis=2) - pixels.min(axis=2) > 60).any()


def test_a_higher_confidence_leaves_nothing_but_names(images: Path, weights: Path, tmp_path: Path) -> None:
    folder = evaluate(CONFIG, images, tmp_path, weights=str(weights), confidence=1.0, overlays="false")
    assert read_rows(folder / "detections.csv") == []
    assert len(json.loads((folder / "detections.json").read_text())["images"]) == 2
    assert not (folder / "overlays").exists()


def test_the_configuration_has_the_properties_of_a_bundle(images: Path, tmp_path: Path) -> None:
    assert missing_properties(CONFIG, images, tmp_path) == []


def test_what_cannot_be_drawn_is_said(images: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no images in"):
        plain_slices(tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        plain_slices(tmp_path / "none")
    for name in ("one.png", "one.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(RefusedInputError, match="differ in their suffix alone"):
        plain_slices(tmp_path)
    with pytest.raises(UsageError, match="confidence is 50, but must be a number from 0 to 1"):
        WriteSliceDetections(tmp_path, load_segmentation(weights), weights, confidence=50)
