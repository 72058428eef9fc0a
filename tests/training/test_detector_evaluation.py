"""Evaluation of lesion detectors as a bundle run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from builders.evaluations import evaluate, evaluation_workflow, missing_properties, small_weights
from builders.lesion_data import make_cncb
from builders.networks import random_slices
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.detector_evaluation import (
    DetectionPlan,
    WriteDetections,
    described_detector,
    loaded_detector,
)
from covid_ct_mask_net.training.lesion_statistics import read_lesions
from covid_ct_mask_net.training.runs import RunInfo, read_run
from covid_ct_mask_net.training.samples import detected, read_samples
from covid_ct_mask_net.training.tables.report import ReportOptions, write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = make_cncb(tmp_path_factory.mktemp("cncb") / "data")
    folder = small_weights(tmp_path_factory.mktemp("runs") / "seg")
    return evaluate(
        "evaluate_segmentation.yaml", data, folder, listed="list.txt", dataset_name="small", samples=2,
        classifier_weights=str(folder / "model.pt"), overlays=True, overlay_score=0.3, minimum_area=20,
    )  # fmt: skip


def test_each_ap_has_its_name_and_interval(run: Path) -> None:
    read = read_run(run)
    assert (read.info.kind, read.info.evaluations["test"].dataset) == ("segmentation", "small")
    metrics = read.metrics["test"]
    assert (metrics["slices"], metrics["patients"]) == (6, 3)
    for kind in ("coco_mask", "coco_box", "original_image_ap"):
        assert 0 <= metrics[kind]["ap50"] <= 1
    for kind in ("coco_mask", "coco_box", "original_image_ap"):
        interval = metrics["intervals"][kind]["ap50"]
        assert interval["value"] == pytest.approx(metrics[kind]["ap50"])
    assert metrics["protocol"]["name"] == "paper"
    assert metrics["protocol"]["changed"] == []
    assert "window" not in metrics, "images carry theirs"


def test_a_protocol_sets_the_detector_and_what_is_given_wins(run: Path, tmp_path: Path) -> None:
    data = make_cncb(tmp_path / "data")
    workflow = evaluation_workflow(
        "evaluate_segmentation.yaml", data, run, protocol="readme", mask_threshold=0.5
    )
    workflow.parser.parse()
    detector = workflow.parser.get_parsed_content("network_def")
    heads = detector.roi_heads
    assert (heads.nms_thresh, heads.detections_per_img, heads.score_thresh) == (0.75, 128, 0.05)
    assert (detector.settings.roi_nms, detector.settings.detections) == (0.75, 128)
    plan = workflow.parser.get_parsed_content("plan")
    assert (plan.original.thresholds.confidence, plan.original.thresholds.mask_threshold) == (0.75, 0.5)
    assert plan.original.changed == ("mask_threshold",)


def test_lesions_samples_and_overlays_are_left_for_figures(run: Path) -> None:
    assert len(read_lesions(run)) == 12
    samples = read_samples(run)
    assert [list(sample.detections) for sample in samples] == [[0.25, 0.75]] * 2
    for sample in samples:
        assert sample.truth is not None
        assert sample.class_logits is not None
        few, many = (len(one.scores) for one in sample.detections.values())
        assert few <= many
    overlays = sorted(path.name for path in (run / "overlays").iterdir())
    assert overlays == ["0_13.png", "0_3.png", "1_13.png", "1_3.png", "2_13.png", "2_3.png"]
    with Image.open(run / "overlays" / overlays[0]) as image:
        assert image.width > image.height


def test_all_figures_of_segmentation_are_drawn_from_it(run: Path, tmp_path: Path) -> None:
    files = {path.name for path in write_report([read_run(run)], tmp_path, ReportOptions())}
    assert {"figure-1-seg.png", "figure-2-seg.png", "figure-6-seg.png", "logits-seg.png"} <= files
    rows = (tmp_path / "table-6.csv").read_text()
    assert "COCO, masks" in rows
    assert "seg: difference" in rows
    # Table 6 is of ResNet50.
    assert "is compared with no figure" in (tmp_path / "table-6.md").read_text()


def test_a_further_evaluation_leaves_what_the_main_one_left(run: Path, tmp_path: Path) -> None:
    data = make_cncb(tmp_path / "data")
    folder = shutil.copytree(run, tmp_path / "seg")
    kept = [path.read_bytes() for path in (folder / "lesions.csv", folder / "overlays" / "0_13.png")]
    evaluate(
        "evaluate_segmentation.yaml", data, folder, evaluation="elsewhere", source="external",
        dataset_name="hospital B", overlays=True, minimum_area=20,
    )  # fmt: skip
    assert [(folder / name).read_bytes() for name in ("lesions.csv", "overlays/0_13.png")] == kept
    assert read_lesions(folder, "elsewhere")
    assert (folder / "overlays-elsewhere" / "0_13.png").is_file()
    with pytest.raises(UsageError, match="letters, digits"):
        DetectionPlan(name="../x")
    plan = DetectionPlan(source="external")
    with pytest.raises(UsageError, match=r"Evaluation test of .* is internal \(small\)"):
        WriteDetections(folder, plan, loaded_detector(folder / "model.pt"), [{}], read_run(run).info)


def test_pictures_are_those_of_the_last_evaluation_of_that_name(run: Path, tmp_path: Path) -> None:
    data, folder = make_cncb(tmp_path / "data"), shutil.copytree(run, tmp_path / "seg")
    before = [sample.file for sample in read_samples(folder)]
    (data / "one.txt").write_text("0_13.jpg\n")
    given = {"listed": "one.txt", "samples": 1, "overlays": True, "minimum_area": 20}
    evaluate("evaluate_segmentation.yaml", data, folder, **given, evaluation="elsewhere", source="external")
    assert [sample.file for sample in read_samples(folder)] == before
    assert [sample.file for sample in read_samples(folder, "elsewhere")] == ["0_13.jpg"]
    evaluate("evaluate_segmentation.yaml", data, folder, **given)
    assert [sample.file for sample in read_samples(folder)] == ["0_13.jpg"]
    assert [path.name for path in (folder / "overlays").iterdir()] == ["0_13.png"]
    evaluate("evaluate_segmentation.yaml", data, folder, listed="one.txt", samples=0, minimum_area=20)
    assert read_samples(folder) == []
    # Overlays stay until others are drawn.
    assert (folder / "overlays" / "0_13.png").is_file()
    assert not list(folder.glob(".*.partial"))


def test_the_configuration_has_the_properties_of_a_bundle(run: Path, tmp_path: Path) -> None:
    data = make_cncb(tmp_path / "data")
    assert missing_properties("evaluate_segmentation.yaml", data, run) == []


@torch.no_grad()
def test_a_threshold_for_samples_is_not_kept(run: Path) -> None:
    detector = loaded_detector(run / "model.pt")
    (image,) = random_slices((64, 64))
    few, many = (len(detected(detector, image, nms)["scores"]) for nms in (0.1, 0.9))
    assert few < many
    assert detector.roi_heads.nms_thresh == 0.25
    changed = loaded_detector(run / "model.pt", 0.75)
    assert (changed.roi_heads.nms_thresh, changed.settings.roi_nms) == (0.75, 0.75)
    assert (changed.settings.detections, changed.settings.roi_score) == (100, 0.05)
    lower = loaded_detector(run / "model.pt", detections=7, confidence=0.01)
    assert len(detected(lower, image, 0.9)["scores"]) == 7
    assert lower.settings.roi_score == 0.01


def test_nothing_to_evaluate_is_said(run: Path, tmp_path: Path) -> None:
    detector = loaded_detector(run / "model.pt")
    assert described_detector(detector, "heads").settings["detector"]["backbone"] == "resnet18"
    with pytest.raises(UsageError, match="no slices to evaluate"):
        WriteDetections(tmp_path, DetectionPlan(), detector, [], RunInfo("segmentation", "full"))
