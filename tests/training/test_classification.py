"""Classifiers inside MONAI's engines, and the configurations that train them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from builders.lesion_data import chest_slice, make_covidx
from builders.networks import CARD, random_slices, small_model
from builders.training import classifier_workflow, train_classifier
from covid_ct_mask_net.checkpoints import load_model, save_checkpoint
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.bundle_run import expected_failure
from covid_ct_mask_net.training.classification import (
    ClassifierTraining,
    ImageLoss,
    PrepareClassification,
    class_weights,
)
from covid_ct_mask_net.training.files import read_rows
from covid_ct_mask_net.training.lung_crop import WHOLE_SHAPE
from covid_ct_mask_net.training.runs import read_run


def test_eq_2_has_the_terms_of_all_classes() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    classes = torch.tensor([0, 2])
    expected = 0.0
    for row, true in zip(torch.sigmoid(logits), classes, strict=True):
        for one in range(3):
            expected -= float(torch.log(row[one] if one == true else 1 - row[one]))
    assert ImageLoss()(logits, classes).item() == pytest.approx(expected / 6)
    alone = functional.binary_cross_entropy_with_logits(logits[:1], torch.tensor([[1.0, 0.0, 0.0]]))
    assert ImageLoss()(logits[:1], classes[:1]).item() == pytest.approx(alone.item())


def test_eq_2_as_printed_has_the_term_of_the_true_class() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], requires_grad=True)
    loss = ImageLoss("positive")(logits, torch.tensor([0, 2]))
    assert loss.item() == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False, False], [False, False, True]]
    with pytest.raises(UsageError, match=r"^image_loss is 'softmax', but must be original or positive\.$"):
        ImageLoss("softmax")


def test_classes_have_equal_sums_of_weights_but_for_control() -> None:
    records = [{"slice_class": one} for one in (0, 0, 0, 1, 2, 2)]
    assert class_weights(records, 3).tolist() == pytest.approx([6 / 9, 2, 1])
    assert class_weights(records, 3, control=2.0).tolist() == pytest.approx([12 / 9, 2, 1])
    assert torch.isfinite(class_weights(records[:3], 3)).all()


def test_rows_and_slices_of_any_size_give_the_same_logits() -> None:
    classifier = small_model().classifier
    assert classifier is not None
    network = ClassifierTraining(classifier).train()
    slices = random_slices((64, 64), (80, 100), (64, 64))
    torch.testing.assert_close(network(classifier.rows(slices)), network(slices))
    assert not classifier.backbone.training
    assert classifier.s.training


def test_batches_hold_rows_or_slices_with_their_scales() -> None:
    classifier = small_model().classifier
    assert classifier is not None
    prepare = PrepareClassification(classifier)
    cpu = torch.device("cpu")
    rows, classes, further, _ = prepare([{"rows": torch.ones(16, 5), "slice_class": 2}], cpu, False)
    assert isinstance(rows, torch.Tensor)
    assert rows.shape == (1, 16, 5)
    assert classes.tolist() == [2]
    assert further == ()
    whole, crop = random_slices((128, 128), (64, 96))
    items = [
        {"image": whole, "slice_class": 0},
        {"image": crop, "slice_class": 1, WHOLE_SHAPE: (128, 128)},
    ]
    images, _, (scales,), _ = prepare(items, cpu, False)
    assert [image.shape for image in images] == [whole.shape, crop.shape]
    assert scales == [0.5, 0.5]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve slices of six patients whose classes differ in brightness of the lungs."""
    import numpy as np
    from PIL import Image

    root = make_covidx(tmp_path_factory.mktemp("covidx") / "data", per_class=4)
    for path in sorted((root / "images").iterdir()):
        level = {"Normal": 40, "CP": 110, "NCP": 160}[path.name.split("_")[0]]
        image = chest_slice(len(path.name))
        image[np.abs(image.astype(int) - 40) < 25] = level
        Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = small_model(seed=3)
    path = tmp_path_factory.mktemp("start") / "detector.pt"
    save_checkpoint(path, CARD, model.detector, None)
    return path


def _settings(start: Path, **changes: Any) -> dict[str, Any]:
    return {"weights": str(start), "regions": 16, "features": 8, **changes}


def _train(data: Path, run: Path, **changes: Any) -> Path:
    return train_classifier(data / "images", run, **changes)


def _changed(before: dict[str, torch.Tensor], run: Path) -> set[str]:
    classifier = load_model(run / "model.pt").classifier
    assert classifier is not None
    return {
        name for name, value in classifier.state_dict().items()
        if name in before and not torch.equal(value, before[name])
    }  # fmt: skip


def test_mode_s_learns_from_cached_rows_and_leaves_the_trunk(data: Path, start: Path, tmp_path: Path) -> None:
    run = _train(data, tmp_path / "run", **_settings(start, epochs=40, learning_rate=5e-3))
    rows = read_rows(run / "history.csv")
    assert float(rows[-1]["train/loss"]) < 0.5 * float(rows[0]["train/loss"])
    assert set(rows[0]) >= {"val/accuracy", "val/weighted_f1", "val/sensitivity_covid_19"}
    model = load_model(run / "model.pt")
    assert model.detector is not None
    before = model.detector.state_dict()
    assert not _changed(before, run), "the checkpoint's two networks share the trunk"
    assert len(list((run / "rows").glob("rows-*.npy"))) == 2
    info = read_run(run).info
    assert (info.kind, info.mode) == ("classifier", "s")
    assert len(info.training_patients) == 5


@pytest.mark.parametrize("layers", [None, "all"])
def test_mode_s_bn_changes_batch_normalisation_and_s_alone(
    layers: str | None, data: Path, start: Path, tmp_path: Path
) -> None:
    before = load_model(start).detector.state_dict()  # type: ignore[union-attr]
    further = {"batch_norm_layers": layers} if layers else {}
    run = _train(data, tmp_path / "run", **_settings(start, mode="s_bn", epochs=1, **further))
    assert read_run(run).info.settings["training"]["batch_norm_layers"] == (layers or "named")
    changed = _changed(before, run)
    assert any("downsample.1" in name for name in changed) is (layers == "all")
    assert any(".bn" in name for name in changed)
    assert all(name.endswith(("weight", "bias")) for name in changed)
    assert all(".bn" in name or "downsample.1" in name for name in changed)


def test_mode_full_changes_all_but_statistics_and_proposals(data: Path, start: Path, tmp_path: Path) -> None:
    first = _train(data, tmp_path / "s", **_settings(start, epochs=1))
    before = load_model(first / "model.pt").classifier.state_dict()  # type: ignore[union-attr]
    run = _train(
        data, tmp_path / "run", **_settings(first / "model.pt", mode="full", epochs=1, lung_crop=0.5)
    )
    changed = _changed(before, run)
    still = {name for name, value in before.items() if value.is_floating_point()} - changed
    assert all("running_" in name or name.startswith("rpn.") for name in still), still
    assert "backbone.body.conv1.weight" in changed
    assert "s.fc1.weight" in changed


@pytest.mark.parametrize("mode", ["s", "s_bn"])
def test_a_resumed_run_equals_one_that_was_not_interrupted(
    mode: str, data: Path, start: Path, tmp_path: Path
) -> None:
    settings = _settings(start, mode=mode, augmentation=0.5, row_variants=2)
    whole = _train(data, tmp_path / "whole", epochs=3, **settings)
    parts = _train(data, tmp_path / "parts", epochs=2, **settings)
    torch.rand(11)
    _train(data, parts, epochs=3, resume=True, **settings)
    assert (parts / "history.csv").read_text() == (whole / "history.csv").read_text()
    states = [torch.load(run / "state.pt", weights_only=True)["network"] for run in (parts, whole)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_a_run_does_not_go_on_with_other_start_weights(data: Path, start: Path, tmp_path: Path) -> None:
    first = shutil.copy(start, tmp_path / "model.pt")
    run = _train(data, tmp_path / "run", **_settings(first, epochs=1))
    said = (run / "run.json").read_bytes()
    save_checkpoint(first, CARD, small_model(seed=4).detector, None)
    with pytest.raises(RuntimeError) as failure:
        _train(data, run, resume=True, **_settings(first, epochs=2))
    found = expected_failure(failure.value)
    assert found is not None
    assert "other values of weights_sha256;" in found.sentence
    assert (run / "run.json").read_bytes() == said


def test_a_run_learns_from_the_image_loss_that_it_records(data: Path, start: Path, tmp_path: Path) -> None:
    losses = {}
    for name, further in (("original", {}), ("positive", {"image_loss": "positive"})):
        run = _train(data, tmp_path / name, **_settings(start, epochs=1, **further))
        assert read_run(run).info.settings["training"]["image_loss"] == name
        losses[name] = read_rows(run / "history.csv")[0]["train/loss"]
    assert losses["original"] != losses["positive"]
    with pytest.raises(RuntimeError) as failure:
        _train(data, run, resume=True, **_settings(start, epochs=2))
    found = expected_failure(failure.value)
    assert found is not None
    assert "other values of image_loss;" in found.sentence


def test_two_classes_are_fine_tuned_from_three(data: Path, start: Path, tmp_path: Path) -> None:
    first = _train(data, tmp_path / "three", **_settings(start, epochs=1))
    binary = tmp_path / "ictcf"
    images = sorted((data / "images").iterdir())
    for number, folder in enumerate(("nCT", "pCT")):
        for index in range(4):
            target = binary / folder / f"Patient {10 * number + index // 2}" / f"IMG-{index:04d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(images[4 * number + index].read_bytes())
    run = train_classifier(
        binary, tmp_path / "two", "finetune_binary.yaml", weights=str(first / "model.pt"), mode="s_bn",
        validation_share=0.25, epochs=2,
    )  # fmt: skip
    info = read_run(run).info
    assert info.kind == "binary"
    assert info.class_names == ("Negative", "COVID-19")
    model = load_model(run / "model.pt")
    assert model.classifier is not None
    assert model.classifier.s.fc3.weight.shape[0] == 2
    training = classifier_workflow(
        binary, tmp_path / "x", "finetune_binary.yaml", weights=str(first / "model.pt"), validation_share=0.25
    )
    training.initialize()
    assert training.max_epochs == 10


def test_all_properties_of_a_monai_training_are_there(data: Path, start: Path, tmp_path: Path) -> None:
    training = classifier_workflow(data / "images", tmp_path / "run", **_settings(start))
    training.initialize()
    assert training.check_properties() == []
    assert training.max_epochs == 50


def test_lists_that_do_not_match_and_missing_starts_end_in_a_sentence(
    data: Path, start: Path, tmp_path: Path
) -> None:
    names = tmp_path / "list.txt"
    names.write_text("CP_9_9_0001.png 1 0 0 1 1\n")
    with pytest.raises(RuntimeError) as failure:
        _train(data, tmp_path / "run", training_list=str(names), **_settings(start))
    found = expected_failure(failure.value)
    assert found is not None
    assert found.sentence.startswith("CP_9_9_0001.png is listed, but not in ")
    with pytest.raises(RuntimeError) as failure:
        _train(data, tmp_path / "run")
    found = expected_failure(failure.value)
    assert found is not None
    assert "name one by --weights" in found.sentence
