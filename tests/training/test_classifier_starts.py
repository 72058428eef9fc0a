"""What the training of a classifier starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.networks import CARD, small_model
from covid_ct_mask_net.checkpoints import save_checkpoint
from covid_ct_mask_net.errors import UntrustedModelError, UsageError
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel
from covid_ct_mask_net.training.classifier_starts import initial_classifier


def test_a_detector_gives_its_trunk_without_the_mask_branch(tmp_path: Path) -> None:
    model = small_model(seed=5)
    save_checkpoint(tmp_path / "detector.pt", CARD, model.detector, None)
    first = initial_classifier(tmp_path / "detector.pt", classes=3, seed=1)
    assert (first.classifier.settings.regions, first.classifier.settings.features) == (128, 512)
    assert first.detector is not None
    theirs = first.detector.state_dict()
    for name, value in first.classifier.state_dict().items():
        if not name.startswith("s."):
            assert torch.equal(value, theirs[name]), name
    assert not any("mask" in name for name in first.classifier.state_dict())
    shared = SliceModel(first.detector.eval(), first.classifier.eval(), 0.5).shared
    assert shared is Shared.REGIONS


def test_s_follows_the_seed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "detector.pt", CARD, small_model().detector, None)
    weights = [
        initial_classifier(tmp_path / "detector.pt", classes=3, seed=seed, regions=16, features=8)
        .classifier.s.fc1.weight
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_classifier_goes_on_and_new_classes_get_a_new_last_layer(tmp_path: Path) -> None:
    model = small_model(seed=5)
    save_checkpoint(tmp_path / "both.pt", CARD, model.detector, model.classifier)
    assert model.classifier is not None
    before = model.classifier.state_dict()
    same = initial_classifier(tmp_path / "both.pt", classes=3, seed=1)
    assert all(torch.equal(v, before[n]) for n, v in same.classifier.state_dict().items())
    assert same.detector is not None
    two = initial_classifier(tmp_path / "both.pt", classes=2, seed=1).classifier.state_dict()
    assert two["s.fc3.weight"].shape == (2, 8)
    assert torch.equal(two["s.fc2.weight"], before["s.fc2.weight"])
    save_checkpoint(tmp_path / "classifier.pt", CARD, None, model.classifier)
    assert initial_classifier(tmp_path / "classifier.pt", classes=3, seed=1).detector is None


def test_what_does_not_fit_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name one by --weights"):
        initial_classifier(None, classes=3, seed=1)
    with pytest.raises(UntrustedModelError, match="no weights at"):
        initial_classifier(tmp_path / "none.pt", classes=3, seed=1)
    save_checkpoint(tmp_path / "c.pt", CARD, None, small_model().classifier)
    with pytest.raises(UsageError, match=r"c.pt has 16 regions, not 128"):
        initial_classifier(tmp_path / "c.pt", classes=3, seed=1, regions=128)
