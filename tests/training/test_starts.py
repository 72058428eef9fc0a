"""What a training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from builders.networks import CARD, small_model, small_trunk
from covid_ct_mask_net.checkpoints import file_sha256, save_checkpoint
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.training.starts import initial_detector, start_settings


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again, other = (initial_detector("random", small_trunk(), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "rpn.head.cls_logits.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_imagenet_weights_of_torchvision_fill_the_backbone(tmp_path: Path) -> None:
    state = resnet18(weights=None).state_dict()
    # Files of 2017 have no such counters.
    old = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    torch.save(old, tmp_path / "resnet18.pth")
    detector = initial_detector(str(tmp_path / "resnet18.pth"), small_trunk(), 1)
    for name, value in detector.backbone.body.state_dict().items():
        if "num_batches_tracked" not in name:
            assert torch.equal(value, state[name]), name


def test_a_checkpoint_gives_all_weights_and_thresholds_may_change(tmp_path: Path) -> None:
    model = small_model(seed=7)
    save_checkpoint(tmp_path / "old.pt", CARD, model.detector, None)
    detector = initial_detector(tmp_path / "old.pt", small_trunk(roi_nms=0.5), 1)
    assert detector.settings.roi_nms == 0.5
    assert model.detector is not None
    for name, value in detector.state_dict().items():
        assert torch.equal(value, model.detector.state_dict()[name]), name


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    model = small_model()
    save_checkpoint(tmp_path / "both.pt", CARD, model.detector, None)
    with pytest.raises(UntrustedModelError, match=r"both.pt.*mask_type both.*has ggo"):
        initial_detector(tmp_path / "both.pt", small_trunk(mask_type="ggo"), 1)
    save_checkpoint(tmp_path / "classifier.pt", CARD, None, model.classifier)
    with pytest.raises(UntrustedModelError, match=r"classifier.pt holds no lesion detector"):
        initial_detector(tmp_path / "classifier.pt", small_trunk(), 1)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UntrustedModelError, match=r"resnet18.pth does not fit resnet34"):
        initial_detector(tmp_path / "resnet18.pth", small_trunk(backbone="resnet34"), 1)


def test_missing_and_unreadable_files_end_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UntrustedModelError, match="no weights at"):
        initial_detector(tmp_path / "none.pt", small_trunk(), 1)
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(UntrustedModelError, match=r"text.pt cannot be read"):
        initial_detector(tmp_path / "text.pt", small_trunk(), 1)


def test_a_run_says_which_weights_it_started_from(tmp_path: Path) -> None:
    assert start_settings("random") == {"weights": "random"}
    said = []
    for number in (1, 2):
        path = tmp_path / str(number) / "model.pt"
        path.parent.mkdir()
        save_checkpoint(path, CARD, small_model(seed=number).detector, None)
        said.append(start_settings(str(path)))
        assert said[-1] == {"weights": "model.pt", "weights_sha256": file_sha256(path)}
    assert said[0] != said[1]
