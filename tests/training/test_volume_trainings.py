"""The configurations on NIfTI volumes: patients, splits, HU window and slices kept on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from builders.evaluations import evaluate, evaluation_workflow, small_weights
from builders.lesion_data import chest_slice, lesion_mask
from builders.training import classifier_workflow, segmentation_workflow, train_classifier, train_segmentation
from covid_ct_mask_net.checkpoints import load_segmentation
from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.bundle_run import expected_failure
from covid_ct_mask_net.training.datasets.records import PATIENT, SCAN

SPLITS = {"train": ("P1", "P2"), "val": ("P3",)}
LUNG = {"window_level": -600.0, "window_width": 1500.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans of each of three patients with tables of patients, splits and classes."""
    root = tmp_path_factory.mktemp("volumes")
    lines, slices = ["volume,patient,split"], ["volume,patient,split,slice,class_id"]
    hounsfield = [chest_slice(seed) * (1500 / 255) - 1350 for seed in range(2)]
    labels = np.maximum(lesion_mask().astype(int) - 1, 0)
    for folder, planes in (("images", hounsfield), ("masks", [labels, labels])):
        (root / folder).mkdir()
        kind = np.int16 if folder == "images" else np.uint8
        voxels = np.stack(planes, axis=-1).transpose(1, 0, 2)[::-1, ::-1].astype(kind)
        for patient in sum(SPLITS.values(), ()):
            for scan in (1, 2):
                path = root / folder / f"{patient}_{scan}.nii.gz"
                nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(voxels), np.eye(4)), path)
    for split, patients in SPLITS.items():
        for number, patient in enumerate(patients):
            for scan in (1, 2):
                lines.append(f"{patient}_{scan},{patient},{split}")
                slices += [f"{patient}_{scan},{patient},{split},{index},{2 * number}" for index in (0, 1)]
    (root / "volumes.csv").write_text("\n".join(lines) + "\n")
    (root / "slices.csv").write_text("\n".join(slices) + "\n")
    return root


def _parsed(workflow: Any, name: str) -> Any:
    workflow.parser.parse()
    return workflow.parser.get_parsed_content(name)


def _recorded(run: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((run / "run.json").read_text())["settings"]["training"]
    return settings


def test_a_training_learns_the_same_from_slices_kept_on_disk(data: Path, tmp_path: Path) -> None:
    given = {
        "layout": "volumes", "epochs": 2, "augmentation": 0.5, "data_options": {"split": "train"},
        "validation_list": "volumes.csv", "validation_options": {"split": "val"}, "batch_norm": "frozen",
    }  # fmt: skip
    plain = train_segmentation(data, tmp_path / "plain", **given)
    cache = {"cache_dir": str(tmp_path / "cache")}
    for name in ("filling", "filled"):
        kept = train_segmentation(data, tmp_path / name, **given, **cache)
        assert (kept / "history.csv").read_bytes() == (plain / "history.csv").read_bytes()
        ours, theirs = (load_segmentation(run / "model.pt").state_dict() for run in (kept, plain))
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert len(list((tmp_path / "cache").rglob("*.pt"))) == 12
    assert _recorded(plain).items() >= LUNG.items()
    assert _recorded(plain) == _recorded(tmp_path / "filled")


def test_held_out_patients_keep_their_scans_together(data: Path, tmp_path: Path) -> None:
    for workflow in (segmentation_workflow, classifier_workflow):
        training, validation = _parsed(workflow(data, tmp_path / "run", layout="volumes"), "split")
        sides = [{(one[PATIENT], one[SCAN]) for one in side} for side in (training, validation)]
        assert [len(side) for side in sides] == [4, 2]
        assert not {patient for patient, _ in sides[0]} & {patient for patient, _ in sides[1]}
    both = segmentation_workflow(
        data, tmp_path / "run", layout="volumes", validation_list="volumes.csv",
        validation_options={"split": "val"},
    )  # fmt: skip
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps ours
        _parsed(both, "split")
    failure = expected_failure(caught.value)
    assert isinstance(failure, RefusedInputError)
    assert failure.code == "PATIENT_IN_TWO_SPLITS"


@pytest.mark.parametrize("overlays", [(), ("train_baseline.yaml",)])
def test_windows_of_classifiers_are_set_and_recorded(
    data: Path, tmp_path: Path, overlays: tuple[str, ...]
) -> None:
    window = {"window_level": 40, "window_width": 400}
    start = {"baseline": "resnet18", "image_size": 64}
    if not overlays:
        start = {"weights": str(small_weights(tmp_path / "start") / "model.pt"), "mode": "s"}
    run = train_classifier(
        data, tmp_path / "run", *overlays, layout="volumes", epochs=1, validation_share=0.4, **start, **window
    )
    assert _recorded(run).items() >= {"window_level": 40.0, "window_width": 400.0}.items()
    for part in ("train", "validate"):
        steps = _parsed(
            classifier_workflow(data, tmp_path / "other", *overlays, layout="volumes", **start, **window),
            f"{part}#preprocessing",
        ).transforms
        assert (steps[0].low, steps[0].width) == (-160.0, 400.0)


def test_evaluations_have_the_window_that_is_set(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = small_weights(tmp_path / "run")
    (run / "run.json").write_text(
        json.dumps({
            "schema": "covid-ct-mask-net/run/1", "kind": "segmentation", "mode": "full",
            "settings": {"training": LUNG},
        })
    )  # fmt: skip
    given = {"layout": "volumes", "samples": 0, "minimum_area": 20, "data_options": {"split": "val"}}
    evaluate("evaluate_segmentation.yaml", data, run, **given)
    assert "was trained with" not in caplog.text
    evaluate("evaluate_segmentation.yaml", data, run, **given, window_level=40, evaluation="bright")
    assert "window_level is 40 here" in caplog.text
    figures = json.loads((run / "metrics.json").read_text())
    assert (figures["test"]["window"], figures["bright"]["window"]) == (LUNG, {**LUNG, "window_level": 40.0})
    for config in ("evaluate_segmentation.yaml", "evaluate_classifier.yaml"):
        workflow = evaluation_workflow(config, data, run, layout="volumes", window_level=40, window_width=400)
        reading = _parsed(workflow, "preprocessing").transforms[0]
        assert (reading.low, reading.width) == (-160.0, 400.0)
        written = workflow.parser.get_parsed_content("handlers#0#window")
        assert written == {"window_level": 40.0, "window_width": 400.0}
