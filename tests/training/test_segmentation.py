"""Detectors inside MONAI's engines, and the configuration that trains them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from builders.lesion_data import make_cncb
from builders.networks import random_slices, small_model
from builders.training import SHORT, TINY_DETECTOR, segmentation_workflow, train_segmentation, workflow
from covid_ct_mask_net.checkpoints import load_segmentation
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.training.bundle_run import expected_failure
from covid_ct_mask_net.training.files import read_rows
from covid_ct_mask_net.training.modes import batch_norms, train_detector
from covid_ct_mask_net.training.segmentation import (
    LOSSES,
    DetectionInferer,
    DetectorTraining,
    list_batch,
    mixed_precision,
    prepare_detection,
)
from covid_ct_mask_net.training.targets import detection_target


def _target(mask: np.ndarray) -> dict[str, torch.Tensor]:
    return detection_target(mask, MaskType.BOTH, 20)


def _masks(*classes: int) -> np.ndarray:
    mask = np.zeros((64, 64), dtype=np.uint8)
    for number, one in enumerate(classes):
        mask[10 + 20 * number : 22 + 20 * number, 20:34] = one
    return mask


def _training(**settings: Any) -> DetectorTraining:
    detector = small_model().detector
    assert detector is not None
    return DetectorTraining(detector, **({"batch_norm": "frozen", "joint": False} | settings)).train()


def _losses(network: DetectorTraining, *classes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    images = random_slices(*[(64, 64)] * len(classes))
    losses = network(images, [_target(_masks(*one)) for one in classes], list(range(len(classes))))
    assert isinstance(losses, dict)
    return losses


def test_five_losses_have_their_names() -> None:
    losses = _losses(_training(), (1, 2))
    assert set(losses) == set(LOSSES)
    assert all(torch.isfinite(loss) and loss.requires_grad for loss in losses.values())


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("classes", [((),), ((1,), ()), ((1,), (1,)), ((2,),)], ids=str)
def test_slices_without_lesions_and_missing_classes_train(
    classes: tuple[tuple[int, ...], ...], joint: bool
) -> None:
    network = _training(joint=joint)
    losses = _losses(network, *classes)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert all(torch.isfinite(loss) for loss in losses.values())
    # Every weight takes part, which DistributedDataParallel relies on.
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_batch_is_the_mean_of_its_slices_whatever_their_sizes() -> None:
    network = _training()
    images = random_slices((64, 64), (80, 64))
    targets = [_target(_masks(1)), _target(np.pad(_masks(2, 1), ((0, 16), (0, 0))))]
    both = network(images, targets, [5, 6])
    alone = [network([i], [t], [s]) for i, t, s in zip(images, targets, [5, 6], strict=True)]
    for name in LOSSES:
        torch.testing.assert_close(both[name], (alone[0][name] + alone[1][name]) / 2)


def test_sampling_of_regions_follows_the_seed_of_the_slice() -> None:
    network = _training()
    images, targets = random_slices((64, 64)), [_target(_masks(1, 2))]
    first, again, other = (network(images, targets, [seed])["loss_objectness"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_statistics_are_frozen_or_learned() -> None:
    for batch_norm, changes in (("frozen", False), ("learned", True)):
        network = _training(batch_norm=batch_norm, joint=True)
        before = batch_norms(network)[0].running_mean.clone()  # type: ignore[union-attr]
        _losses(network, (1,), (2,))
        after = batch_norms(network)[0].running_mean
        assert torch.equal(before, after) is not changes  # type: ignore[arg-type]
    network = _training(batch_norm="learned")
    train_detector(network.detector, "heads")
    assert not any(layer.training for layer in batch_norms(network.train().detector.backbone.body))
    train_detector(network.detector, "held_stem")
    body = network.train().detector.backbone.body
    learns = [any(layer.training for layer in batch_norms(body.get_submodule(f"layer{k}"))) for k in (1, 2)]
    assert learns == [False, True], "a stage that is held keeps its statistics too"


def test_crops_keep_the_scale_of_their_slice() -> None:
    network = _training()
    sizes: list[Any] = []
    network.detector.backbone.register_forward_pre_hook(lambda _, images: sizes.append(images[0].shape[-2:]))
    image, target = random_slices((64, 96))[0], _target(np.zeros((64, 96)))
    network([image], [target], [0], [(128, 128)])
    network([image], [target], [0])
    network([image], [{**target, "scale": torch.tensor(2.0, dtype=torch.float64)}], [0])
    # Padded to multiples of 32: half of 64 x 96 as a crop of 128 x 128, as it is as a whole slice. Targets
    # may say it themselves.
    assert sizes == [(32, 64), (64, 96), (128, 192)]


def test_batches_are_lists_on_the_device() -> None:
    item = {"image": torch.rand(1, 8, 8), "target": _target(_masks(1)), "seed": 3}
    images, targets, (_, seeds, shapes), further = prepare_detection([item], torch.device("cpu"), False)
    assert images[0].shape == (1, 8, 8)
    assert targets[0]["labels"].tolist() == [1]
    assert (seeds, shapes, further) == ([3], [(8, 8)], {})
    assert list_batch([item]) == [item]
    network = _training().eval()
    assert len(DetectionInferer()(random_slices((64, 64)), network, targets)) == 1


@pytest.mark.parametrize("device", [torch.device("cpu"), "cpu"])
def test_half_precision_stays_in_the_convolutions(device: torch.device | str) -> None:
    network = _training()
    exact = _losses(network, (1, 2))
    mixed_precision(network.detector, device, enabled=True)
    features = network.detector.backbone(torch.rand(1, 3, 64, 64))
    assert {value.dtype for value in features.values()} == {torch.float32}
    half = _losses(network, (1, 2))
    assert all(loss.dtype == torch.float32 for loss in half.values())
    assert any(not torch.equal(half[name], exact[name]) for name in LOSSES)
    for name in ("loss_objectness", "loss_classifier", "loss_mask"):
        torch.testing.assert_close(half[name], exact[name], rtol=0.2, atol=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cncb(tmp_path_factory.mktemp("cncb") / "data", patients=5, slices=2)


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "state.pt", weights_only=True)["network"]  # type: ignore[no-any-return]


def test_losses_fall_and_the_best_model_is_kept(data: Path, tmp_path: Path) -> None:
    run = train_segmentation(
        data, tmp_path / "run", epochs=8, save_every=4, detector_settings__roi_positive_fraction=0.25
    )
    assert sorted(path.name for path in run.glob("model-epoch-*.pt")) == [
        "model-epoch-004.pt", "model-epoch-008.pt",
    ]  # fmt: skip
    rows = read_rows(run / "history.csv")
    total = [float(row["train/loss"]) for row in rows]
    assert total[-1] < 0.5 * total[0]
    for row in rows:
        parts = sum(float(row[f"train/{name}"]) for name in LOSSES)
        assert parts == pytest.approx(float(row["train/loss"]), rel=1e-5)
        assert 0 <= float(row["val/ap"]) <= float(row["val/ap50"]) <= 1
    detector = load_segmentation(run / "model.pt")
    assert detector.settings.image_min_size == 64
    assert len(detector(torch.rand(2, 1, 64, 64))) == 2


def test_a_resumed_run_equals_one_that_was_not_interrupted(data: Path, tmp_path: Path) -> None:
    settings = {
        "epochs": 3, "augmentation": 0.5, "lung_crop": 0.5, "schedule": "cosine", "warm_up_epochs": 0.5,
    }  # fmt: skip
    whole = train_segmentation(data, tmp_path / "whole", **settings)
    broken = tmp_path / "broken"
    training = segmentation_workflow(data, broken, **settings)
    training.initialize()
    trainer = training.parser.get_parsed_content("train#trainer")

    class KilledError(Exception):
        pass

    @trainer.on(Events.ITERATION_COMPLETED)
    def kill(engine: Any) -> None:
        if engine.state.iteration == 6:
            raise KilledError

    with pytest.raises(RuntimeError) as failure:
        training.run()
    assert isinstance(failure.value.__cause__, KilledError)
    assert len(read_rows(broken / "history.csv")) == 1
    torch.rand(17)  # the generators of the process are elsewhere by now
    train_segmentation(data, broken, resume=True, **settings)
    assert (broken / "history.csv").read_text() == (whole / "history.csv").read_text()
    ours, theirs = _weights(broken), _weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    saved = [load_segmentation(run / "model.pt").state_dict() for run in (broken, whole)]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[1])


def test_a_run_does_not_go_on_with_other_start_weights(data: Path, tmp_path: Path) -> None:
    first = train_segmentation(data, tmp_path / "first", epochs=1, validation_share=0)
    other = train_segmentation(data, tmp_path / "other", epochs=1, validation_share=0, seed=2)
    settings = {"validation_share": 0, "mode": "heads"}
    run = train_segmentation(data, tmp_path / "run", epochs=1, weights=str(first / "model.pt"), **settings)
    with pytest.raises(RuntimeError) as failure:
        train_segmentation(data, run, epochs=2, weights=str(other / "model.pt"), resume=True, **settings)
    found = expected_failure(failure.value)
    assert found is not None
    assert "other values of weights_sha256;" in found.sentence
    train_segmentation(data, run, epochs=2, weights=str(first / "model.pt"), resume=True, **settings)


def test_heads_are_trained_from_a_checkpoint_without_validation(data: Path, tmp_path: Path) -> None:
    first = train_segmentation(data, tmp_path / "first", epochs=1, validation_share=0)
    second = train_segmentation(
        data, tmp_path / "second", epochs=1, mode="heads", weights=str(first / "model.pt"),
        validation_share=0, mask_type="both",
    )  # fmt: skip
    before, after = (load_segmentation(run / "model.pt").state_dict() for run in (first, second))
    for name, value in before.items():
        same = torch.equal(value, after[name])
        if name.startswith("backbone.body"):
            assert same, name
        elif name.endswith("weight") and value.abs().sum() > 0:
            assert not same, name
    assert "val/ap" not in read_rows(second / "history.csv")[0]


def test_a_loss_that_is_no_number_ends_the_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as failure:
        train_segmentation(data, tmp_path / "run", epochs=5, learning_rate=1e30)
    assert isinstance(expected_failure(failure.value), NotAssessableError)


def test_all_properties_of_a_monai_training_are_there(data: Path, tmp_path: Path) -> None:
    training: ConfigWorkflow = segmentation_workflow(data, tmp_path / "run")
    training.initialize()
    assert training.check_properties() == []
    assert isinstance(training.network_def, LesionDetector)
    assert training.max_epochs == 100
    assert len(training.train_dataset_data) == 8
    assert len(training.val_dataset) == 2


def test_wrong_masks_end_the_command_in_one_sentence(tmp_path: Path) -> None:
    data = make_cncb(tmp_path / "data", patients=3, slices=1, strange_value=True)
    overrides = [
        word for name, value in (TINY_DETECTOR | SHORT).items() for word in (f"--{name}", str(value))
    ]
    done = subprocess.run(
        [
            sys.executable, "-m", "monai.bundle", "run",
            "--config_file", str(bundle_root() / "configs" / "train_segmentation.yaml"),
            "--dataset_dir", str(data), "--output_dir", str(tmp_path / "run"), *overrides,
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("MASK_VALUE: The mask ")
    assert "0_3.png holds the value 9" in last
    assert done.returncode == 4
    assert not (tmp_path / "run" / "model.pt").exists()


@pytest.mark.slow
def test_mlflow_gets_losses_and_validation(data: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    run = train_segmentation(data, tmp_path / "run", epochs=2, tracking="mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{run / 'mlruns.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "monai_experiment"]
    (tracked,) = client.search_runs(experiment.experiment_id)
    assert {"train_loss", "ap", *LOSSES} <= set(tracked.data.metrics)
    assert tracked.data.params["max_epochs"] == "2"
    # The configuration as it was run, overrides included.
    (config,) = run.glob("config_*.json")
    assert json.loads(config.read_text(encoding="utf-8"))["epochs"] == 2


@pytest.mark.slow
def test_lesions_of_other_patients_are_found(tmp_path: Path) -> None:
    data = make_cncb(tmp_path / "data", patients=8, slices=2)
    run = train_segmentation(
        data, tmp_path / "run", epochs=35, batch_size=4, schedule="cosine", warm_up_epochs=1, val_interval=5,
        detector_settings__rpn_foreground_iou=0.5, detector_settings__roi_foreground_iou=0.5,
        detector_settings__roi_positive_fraction=0.25,
    )  # fmt: skip
    last = read_rows(run / "history.csv")[-1]
    assert float(last["val/ap50"]) > 0.8
    assert float(last["val/ap"]) > 0.5


def test_folds_of_the_real_slices_share_none(shared_data: Path, tmp_path: Path) -> None:
    tested: list[str] = []
    for fold in range(5):
        training = workflow(
            ["train_segmentation.yaml", "train_lesion_slices_fold.yaml"], shared_data / "lesion-slices",
            tmp_path / str(fold), {"fold": fold},
        )  # fmt: skip
        training.parser.parse(reset=True)
        training_slices, validation = training.parser.get_parsed_content("split")
        assert (len(training_slices), len(validation)) == (40, 10)
        assert not {one["file"] for one in training_slices} & {one["file"] for one in validation}
        evaluation = workflow(
            ["evaluate_segmentation.yaml", "evaluate_lesion_slices_fold.yaml"], shared_data / "lesion-slices",
            tmp_path / str(fold), {"fold": fold},
        )  # fmt: skip
        evaluated = evaluation.parser.get_parsed_content("records")
        assert [one["file"] for one in evaluated] == [one["file"] for one in validation]
        tested += [one["file"] for one in validation]
    assert len(set(tested)) == 50
