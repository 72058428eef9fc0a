"""Whole-slice networks behind the same door as COVID-CT-Mask-Net."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.evaluations import small_weights
from builders.networks import random_slices
from covid_ct_mask_net.errors import OutputError, UntrustedModelError, UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.training.baselines import (
    BASELINES,
    WholeSliceClassifier,
    initial_baseline,
    load_slice_classifier,
    save_baseline,
)


@torch.no_grad()
@pytest.mark.parametrize("name", BASELINES)
def test_slices_of_any_size_give_class_logits(name: str) -> None:
    network = initial_baseline(name, 3, 64, "random", seed=1).eval()
    images = random_slices((64, 64), (80, 50))
    logits = network(images)
    assert logits.shape == (2, 3)
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1])
    assert torch.allclose(network(images[1:]), logits[1:], atol=1e-5)
    assert torch.allclose(network(torch.stack(images[:1])), logits[:1], atol=1e-5)


def test_sizes_are_those_of_the_published_networks() -> None:
    """torchvision's networks with three classes instead of a thousand."""
    with torch.device("meta"):
        counts = {
            name: sum(p.numel() for p in WholeSliceClassifier(name, 3, 512).parameters())
            for name in BASELINES
        }
    assert counts == {
        "resnet50": 23_514_179, "resnet18": 11_178_051, "densenet121": 6_956_931, "light-cnn": 724_035,
    }  # fmt: skip


def test_the_seed_gives_the_weights() -> None:
    first, same, other = (initial_baseline("resnet18", 3, 64, "random", seed) for seed in (1, 1, 2))
    assert torch.equal(first.network.conv1.weight, same.network.conv1.weight)
    assert not torch.equal(first.network.conv1.weight, other.network.conv1.weight)


@torch.no_grad()
def test_a_checkpoint_comes_back_in_test_mode(tmp_path: Path) -> None:
    network = initial_baseline("light-cnn", 2, 64, "random", seed=1).eval()
    save_baseline(tmp_path / "model.pt", network)
    back = load_slice_classifier(tmp_path / "model.pt")
    assert isinstance(back, WholeSliceClassifier)
    assert (back.name, back.classes, back.size, back.training) == ("light-cnn", 2, 64, False)
    images = random_slices((64, 64))
    assert torch.equal(back(images), network(images))


def test_imagenet_weights_fill_all_but_the_last_layer(tmp_path: Path) -> None:
    published = BASELINES["resnet18"](weights=None)
    torch.save(published.state_dict(), tmp_path / "resnet18.pth")
    network = initial_baseline("resnet18", 3, 64, tmp_path / "resnet18.pth", seed=1)
    assert torch.equal(network.network.layer4[1].conv2.weight, published.layer4[1].conv2.weight)
    assert network.network.fc.weight.shape == (3, 512)
    with pytest.raises(UntrustedModelError, match="does not hold the weights of torchvision's resnet50"):
        initial_baseline("resnet50", 3, 64, tmp_path / "resnet18.pth", seed=1)


def test_covid_ct_mask_net_comes_through_the_same_door(tmp_path: Path) -> None:
    assert isinstance(load_slice_classifier(small_weights(tmp_path) / "model.pt"), CovidCTMaskNet)


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no baseline 'vgg'"):
        WholeSliceClassifier("vgg", 3, 64)
    with pytest.raises(UntrustedModelError, match="no weights at"):
        load_slice_classifier(tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"bad")
    with pytest.raises(UntrustedModelError, match="can be read as data alone"):
        load_slice_classifier(tmp_path / "bad.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(UntrustedModelError, match="no weights by name"):
        load_slice_classifier(tmp_path / "list.pt")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        save_baseline(tmp_path / "file" / "model.pt", initial_baseline("light-cnn", 2, 64, "random", 1))
