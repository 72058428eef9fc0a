"""The bundle's configuration that trains the shipped detector, on one small chest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from builders.training import TINY_DETECTOR, finish, workflow
from covid_ct_mask_net.checkpoints import load_model, load_segmentation
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training import processes
from covid_ct_mask_net.training.bundle_run import expected_failure
from covid_ct_mask_net.training.files import read_rows
from covid_ct_mask_net.training.release import chests
from covid_ct_mask_net.training.segmentation import LOSSES
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings, Layout, write_cohort

CONFIGS = ["train_segmentation.yaml", "train_segmentation_synthetic.yaml"]
TINY = {name: value for name, value in TINY_DETECTOR.items() if name != "minimum_area"} | {
    "supply#pixel_mm": (2.5, 3.5), "supply#minimum_area": 2, "room": 8,
    "batch_size": 2, "epochs": 2, "batches": 3, "warm_up": 1, "progress_bar": False, "tensorboard": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def chest_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chests")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chests, "SIZE", 96)
        patch.setattr(chests, "_STEPS_MM", (12.0,))
        chests.make_phantoms(folder, 1)
    return folder


def _training(chest_folder: Path, run: Path, **changes: Any) -> ConfigWorkflow:
    return workflow(CONFIGS, run, run, TINY, chests=str(chest_folder), **changes)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """A run sets how many threads it takes; other tests have theirs back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _train(chest_folder: Path, run: Path, **changes: Any) -> Path:
    return finish(_training(chest_folder, run, **changes), run)


def test_the_detector_is_the_shipped_one(chest_folder: Path, tmp_path: Path) -> None:
    training = workflow(CONFIGS, tmp_path, tmp_path, {}, chests=str(chest_folder))
    network = training.parser.get_parsed_content("network_def")
    shipped = load_segmentation(
        Path(training.parser.get_parsed_content("bundle_root")) / "models" / "model.pt"
    )
    assert network.settings == shipped.settings


def test_a_run_learns_validates_and_goes_on(chest_folder: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    write_cohort(cohort, CohortSettings(2, 1, size=96, step_mm=20.0, layouts=(Layout.NIFTI,)))
    run = _train(chest_folder, tmp_path / "run", cohort=str(cohort), slices_a_patient=1)
    rows = read_rows(run / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {f"train/{name}" for name in (*LOSSES, "loss_dense")} <= set(rows[0])
    assert 0 <= float(rows[1]["val/ap"]) <= 1
    assert float(rows[0]["learning_rate"]) > float(rows[1]["learning_rate"]) == pytest.approx(0.0006 * 0.02)
    info = json.loads((run / "run.json").read_text())
    assert info["settings"]["training"]["supply"]["minimum_area"] == 2
    assert set(info["data"]) == {"train", "validation"}
    model = load_model(run / "model.pt")
    assert model.report.trained_on == "synthetic lesions in phantom chests"
    assert model.detector is not None
    statistics = [m.running_mean for m in model.detector.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert any(float(mean.abs().max()) > 0.01 for mean in statistics if mean is not None)
    _train(chest_folder, run, cohort=str(cohort), slices_a_patient=1, resume=True, epochs=3)
    assert len(read_rows(run / "history.csv")) == 3
    state = torch.load(run / "state.pt", weights_only=True)
    assert (state["epoch"], state["iteration"]) == (3, 9)
    assert state["parts"]["budget"]["seconds"] > 0
    assert any(name.startswith("dense.") for name in state["network"])


def test_a_held_stem_stays_and_time_ends_a_run(chest_folder: Path, tmp_path: Path) -> None:
    start = _train(chest_folder, tmp_path / "start", epochs=1, batches=1) / "model.pt"
    run = _train(
        chest_folder, tmp_path / "run", weights=str(start), mode="held_stem", epochs=1000, minutes=0.01,
        hard_negatives=0.5,
    )  # fmt: skip
    assert json.loads((run / "run.json").read_text())["settings"]["training"]["hard_negatives"] == 0.5
    before, after = (load_segmentation(path).state_dict() for path in (start, run / "model.pt"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    held = {name for name in before if "backbone.body" in name and "layer2" not in name}
    assert held
    assert not changed & held
    assert any("layer2" in name for name in changed)
    assert any("rpn" in name for name in changed)


def test_hard_negatives_are_sampled_where_they_are_asked_for(chest_folder: Path, tmp_path: Path) -> None:
    training = _training(chest_folder, tmp_path / "run", hard_negatives=0.5)
    training.initialize()
    detector = training.parser.get_parsed_content("network_def")
    assert detector.roi_heads.fg_bg_sampler.hard_share == 0.5


def test_several_processes_keep_threads_and_hard_negatives(
    chest_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[torch.device] = []
    monkeypatch.setattr(processes, "start_processes", joined.append)
    overlay = [*CONFIGS, "multi_gpu_train_segmentation.yaml"]
    training = workflow(
        overlay, tmp_path, tmp_path / "run", TINY, chests=str(chest_folder), hard_negatives=0.5, threads=1
    )
    torch.set_num_threads(2)
    training.initialize()
    assert len(joined) == 1
    assert torch.get_num_threads() == 1
    assert training.parser.get_parsed_content("network_def").roi_heads.fg_bg_sampler.hard_share == 0.5


@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("schedule", "constant", "warm_up and learning_rate shape it"),
        ("warm_up_epochs", 1, "set warm_up, in iterations"),
        ("augmentation", 0.3, "others of supply"),
        ("lung_crop", 0.5, "set whole_share of supply"),
        ("minimum_area", 100, "but is always 2 in this configuration: set minimum_area of supply"),
        ("mask_type", "merge", "train_segmentation.yaml alone"),
    ],
)
def test_settings_without_effect_are_refused(
    name: str, value: object, instead: str, chest_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError) as caught:
        _training(chest_folder, tmp_path / "run", **{name: value}).initialize()
    found = expected_failure(caught.value)
    assert isinstance(found, UsageError)
    assert found.sentence.startswith(f"{name} is {value!r}, but is always ")
    assert instead in found.sentence


def test_a_folder_without_chests_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        _train(tmp_path, tmp_path / "run")
    assert isinstance(expected_failure(caught.value), UsageError)


def test_resnet50_learns_from_the_same_supply(chest_folder: Path, tmp_path: Path) -> None:
    configs = [*CONFIGS, "train_segmentation_synthetic_resnet50.yaml"]
    small = {name: value for name, value in TINY.items() if name not in ("backbone", "truncation")}
    training = workflow(
        configs,
        tmp_path,
        tmp_path / "run",
        small,
        chests=str(chest_folder),
        epochs=1,
        batches=2,
        device="cpu",
    )
    run = finish(training, tmp_path / "run")
    detector = load_segmentation(run / "model.pt")
    assert (detector.settings.backbone, detector.settings.levels) == ("resnet50", 4)
    assert detector.settings.anchor_sizes == (10, 22, 48, 100, 200)
    assert float(read_rows(run / "history.csv")[0]["train/loss_dense"]) > 0
