"""The bundle's configurations that train the shipped classifier, on a few slices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders.lesion_data import make_covidx
from builders.networks import CARD, small_model
from builders.training import SHORT, finish, workflow
from covid_ct_mask_net.checkpoints import load_model, save_checkpoint
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.training.bundle_run import expected_failure
from covid_ct_mask_net.training.files import read_rows

BOXES = ("train_classifier.yaml", "train_classifier_synthetic.yaml")
CACHED = (*BOXES, "train_cached_trunk.yaml")
# Not those that the overlays set.
TINY = {name: SHORT[name] for name in ("batch_size", "progress_bar", "tensorboard")}


def _train(configs: tuple[str, ...], data: Path, run: Path, **changes: Any) -> Path:
    threads = torch.get_num_threads()
    try:
        return finish(workflow([*configs], data, run, TINY, **changes), run)
    finally:
        torch.set_num_threads(threads)


def _changed(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    ours, theirs = before.state_dict(), after.state_dict()
    return {name.rsplit(".", 2)[0] for name in ours if not torch.equal(ours[name], theirs[name])}


@pytest.mark.slow
def test_box_head_and_s_learn_then_s_alone_and_runs_go_on(tmp_path: Path) -> None:
    images = make_covidx(tmp_path / "data", per_class=2) / "images"
    model = small_model(seed=5)
    assert model.detector is not None
    save_checkpoint(tmp_path / "detector.pt", CARD, model.detector, None)
    boxes = _train(BOXES, images, tmp_path / "boxes", weights=str(tmp_path / "detector.pt"), epochs=2)
    first = load_model(boxes / "model.pt")
    assert first.detector is not None
    assert first.classifier is not None
    assert not _changed(model.detector, first.detector)
    assert SliceModel(first.detector, first.classifier, 0.5).shared is Shared.PROPOSALS
    info = json.loads((boxes / "run.json").read_text())
    assert info["mode"] == "s_boxes"
    stated = info["settings"]["training"]
    assert (stated["amp"], stated["row_variants"], stated["image_loss"]) == (False, 1, "cross entropy")
    assert len(read_rows(boxes / "history.csv")) == 2

    arguments: dict[str, Any] = {"weights": str(boxes / "model.pt"), "epochs": 2}
    head = _train((*BOXES, "train_mixed_rows.yaml"), images, tmp_path / "head", **arguments)
    last = load_model(head / "model.pt")
    assert last.classifier is not None
    assert _changed(first.classifier, last.classifier) == {"s"}
    info = json.loads((head / "run.json").read_text())
    assert info["mode"] == "s"
    assert info["settings"]["training"]["sources"][0] == "exact"
    (rows,) = (head / "rows").glob("rows-*.npy")
    engines = len(info["settings"]["training"]["sources"])
    assert np.load(rows).shape == (engines, 6, first.classifier.settings.regions, 5)

    once = _train((*BOXES, "train_mixed_rows.yaml"), images, tmp_path / "once", **arguments)
    again = load_model(once / "model.pt").classifier
    assert again is not None
    assert not _changed(last.classifier, again), "equal runs give equal weights"


def test_box_head_and_s_learn_behind_a_trunk_that_is_kept(tmp_path: Path) -> None:
    images = make_covidx(tmp_path / "data", per_class=2) / "images"
    model = small_model(seed=5)
    assert model.detector is not None
    save_checkpoint(tmp_path / "detector.pt", CARD, model.detector, None)
    settings: dict[str, Any] = {"weights": str(tmp_path / "detector.pt"), "epochs": 2}
    run = _train(CACHED, images, tmp_path / "run", **settings)
    made = load_model(run / "model.pt")
    assert made.detector is not None
    assert made.classifier is not None
    assert not _changed(model.detector, made.detector)
    assert SliceModel(made.detector, made.classifier, 0.5).shared is Shared.PROPOSALS
    assert _changed(made.detector.roi_heads.box_head, made.classifier.roi_heads.box_head)
    info = json.loads((run / "run.json").read_text())
    assert info["mode"] == "s_boxes"
    assert info["settings"]["training"]["trunk_precision"] in ("float32", "bfloat16")
    assert len(read_rows(run / "history.csv")) == 2
    assert len(list((run / "trunk").rglob("*.pt"))) == 6
    again = _train(CACHED, images, tmp_path / "again", trunk_dir=str(run / "trunk"), **settings)
    second = load_model(again / "model.pt").classifier
    assert second is not None
    assert not _changed(made.classifier, second), "equal runs give equal weights"


@pytest.mark.parametrize(
    ("name", "value"), [("mode", "s"), ("augmentation", 0.5), ("lung_crop", 0.5), ("amp", True)]
)
def test_settings_that_a_kept_trunk_cannot_have_are_refused(name: str, value: object, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"weights": str(bundle_root() / "models" / "model.pt"), name: value}
    with pytest.raises(RuntimeError) as caught:
        workflow([*CACHED], tmp_path, tmp_path, {}, **changes).initialize()
    found = expected_failure(caught.value)
    assert found is not None
    assert found.sentence.startswith(f"{name} is {value!r}, but is always ")


def test_one_cycle_does_not_go_on_with_more_epochs(tmp_path: Path) -> None:
    images = make_covidx(tmp_path / "data", per_class=2) / "images"
    save_checkpoint(tmp_path / "detector.pt", CARD, small_model(seed=5).detector, None)
    settings: dict[str, Any] = {"weights": str(tmp_path / "detector.pt")}
    run = _train(BOXES, images, tmp_path / "run", epochs=1, **settings)
    said = (run / "run.json").read_bytes()
    with pytest.raises(RuntimeError) as caught:
        _train(BOXES, images, run, epochs=2, resume=True, **settings)
    found = expected_failure(caught.value)
    assert found is not None
    assert "was started with other values of epochs;" in found.sentence
    assert (run / "run.json").read_bytes() == said


def test_s_of_the_shipped_size_is_made(tmp_path: Path) -> None:
    weights = str(bundle_root() / "models" / "model.pt")
    training = workflow([*BOXES], tmp_path, tmp_path, {}, weights=weights)
    network = training.parser.get_parsed_content("network_def")
    assert (network.settings.regions, network.settings.features) == (128, 512)
    trained = training.parser.get_parsed_content("trainable")
    assert 0 < len(trained) < len(list(network.parameters()))


@pytest.mark.parametrize(
    ("name", "value"), [("schedule", "cosine"), ("warm_up_epochs", 1), ("image_loss", "positive")]
)
def test_settings_without_effect_are_refused(name: str, value: object, tmp_path: Path) -> None:
    weights = str(bundle_root() / "models" / "model.pt")
    changes: dict[str, Any] = {"weights": weights, name: value}
    with pytest.raises(RuntimeError) as caught:
        workflow([*BOXES], tmp_path, tmp_path, {}, **changes).initialize()
    found = expected_failure(caught.value)
    assert found is not None
    assert found.sentence.startswith(f"{name} is {value!r}, but is always ")
