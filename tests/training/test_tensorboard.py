"""Events for TensorBoard, which trainings write without being asked where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from builders.lesion_data import make_cncb, make_covidx
from builders.networks import CARD, small_model
from builders.training import SHORT, TINY_DETECTOR, finish, train_segmentation, workflow
from covid_ct_mask_net.checkpoints import save_checkpoint
from covid_ct_mask_net.training.segmentation import LOSSES

# What SHORT turns off is left as the configurations have it.
AS_CONFIGURED = {name: value for name, value in SHORT.items() if name != "tensorboard"}


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cncb(tmp_path_factory.mktemp("data"), patients=3, slices=2)


def scalars(run: Path) -> dict[str, list[float]]:
    """The values of each name in the events of a run, in order."""
    found: dict[str, list[float]] = {}
    for path in sorted(run.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(path))
        events.Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, []).extend(event.value for event in events.Scalars(name))
    return found


def test_a_detector_tells_its_losses_and_validation(slices: Path, tmp_path: Path) -> None:
    settings = TINY_DETECTOR | AS_CONFIGURED | {"epochs": 1}
    training = workflow("train_segmentation.yaml", slices, tmp_path / "run", settings)
    found = scalars(finish(training, tmp_path / "run"))
    assert all(np.isfinite(value) for values in found.values() for value in values)
    # The loss of each step and its mean; its parts and the validation of the epoch.
    steps = len(training.train_dataset) // AS_CONFIGURED["batch_size"]
    assert len(found["loss"]) == steps + 1 > 2
    assert {len(found[name]) for name in ("ap", *LOSSES)} == {1}


def test_a_classifier_tells_its_loss_and_validation(tmp_path: Path) -> None:
    data = make_covidx(tmp_path / "data", per_class=4) / "images"
    save_checkpoint(tmp_path / "detector.pt", CARD, small_model(seed=3).detector, None)
    settings = AS_CONFIGURED | {
        "epochs": 1, "mode": "s_bn", "weights": str(tmp_path / "detector.pt"), "regions": 16, "features": 8,
    }  # fmt: skip
    training = workflow("train_classifier.yaml", data, tmp_path / "run", settings)
    found = scalars(finish(training, tmp_path / "run"))
    assert np.isfinite(found["loss"] + found["accuracy"]).all()
    assert len(found["loss"]) > 1
    assert len(found["accuracy"]) == 1


def test_it_can_be_turned_off(slices: Path, tmp_path: Path) -> None:
    assert not scalars(train_segmentation(slices, tmp_path / "run", epochs=1, tensorboard=False))
