"""What the training of a classifier starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.networks import CARD, random_slices, small_model
from covid_ct_mask_net.checkpoints import save_checkpoint
from covid_ct_mask_net.errors import UntrustedModelError, UsageError
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel
from covid_ct_mask_net.training.baselines import initial_baseline
from covid_ct_mask_net.training.classifier_starts import initial_classifier, nms_of, with_nms


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


def test_nms_thresholds_are_the_checkpoints_or_those_given(tmp_path: Path) -> None:
    model = small_model(seed=5)
    assert model.classifier is not None
    save_checkpoint(tmp_path / "detector.pt", CARD, model.detector, None)
    save_checkpoint(tmp_path / "both.pt", CARD, model.detector, with_nms(model.classifier, roi_nms=0.6))
    assert nms_of(initial_classifier(tmp_path / "detector.pt", classes=3, seed=1).classifier) == {
        "rpn_nms": 0.75, "roi_nms": 0.75,
    }  # fmt: skip
    assert nms_of(initial_classifier(tmp_path / "both.pt", classes=3, seed=1).classifier)["roi_nms"] == 0.6
    for name in ("detector.pt", "both.pt"):
        first = initial_classifier(tmp_path / name, classes=3, seed=1, rpn_nms=0.5, roi_nms=0.3).classifier
        assert nms_of(first) == {"rpn_nms": 0.5, "roi_nms": 0.3}
        assert (first.rpn.nms_thresh, first.roi_heads.nms_thresh) == (0.5, 0.3)


@torch.no_grad()
def test_other_nms_thresholds_give_other_regions() -> None:
    model = small_model(seed=5)
    assert model.classifier is not None
    images = random_slices((64, 64))
    before = model.classifier.eval().rows(images)
    after = with_nms(model.classifier, 0.3, 0.2).rows(images)
    assert not torch.equal(before, after)


def test_nms_thresholds_that_cannot_be_set_are_refused() -> None:
    model = small_model()
    assert model.classifier is not None
    with pytest.raises(UsageError, match="roi_nms is 75, but must be a number from 0 to 1"):
        with_nms(model.classifier, roi_nms=75)
    baseline = initial_baseline("light-cnn", 3, 64, "random", 1)
    assert with_nms(baseline) is baseline
    assert nms_of(baseline) == {}
    with pytest.raises(UsageError, match="has no regions: rpn_nms cannot be set"):
        with_nms(baseline, rpn_nms=0.5)


def test_what_does_not_fit_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name one by --weights"):
        initial_classifier(None, classes=3, seed=1)
    with pytest.raises(UntrustedModelError, match="no weights at"):
        initial_classifier(tmp_path / "none.pt", classes=3, seed=1)
    save_checkpoint(tmp_path / "c.pt", CARD, None, small_model().classifier)
    with pytest.raises(UsageError, match=r"c.pt has 16 regions, not 128"):
        initial_classifier(tmp_path / "c.pt", classes=3, seed=1, regions=128)
