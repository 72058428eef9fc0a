"""What the trunk gives for slices, on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from builders.lesion_data import make_covidx
from builders.networks import small_model
from covid_ct_mask_net.engines.base import has_bfloat16
from covid_ct_mask_net.engines.compiled import CompiledEngine
from covid_ct_mask_net.errors import NotAssessableError, UntrustedModelError, UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training import trunk_cache
from covid_ct_mask_net.training.classification import ClassifierTraining
from covid_ct_mask_net.training.modes import train_classifier
from covid_ct_mask_net.training.randomness import SeededDataset
from covid_ct_mask_net.training.sources import classification_transforms, classified_slices
from covid_ct_mask_net.training.trunk_cache import (
    PROPOSED,
    BoxHeadTraining,
    ProposedSlices,
    prepare_proposed,
    proposed_slices,
)

CPU = torch.device("cpu")


@pytest.fixture
def networks() -> tuple[LesionDetector, CovidCTMaskNet]:
    model = small_model(seed=2)
    assert model.detector is not None
    assert model.classifier is not None
    return model.detector, model.classifier


@pytest.fixture
def slices(tmp_path: Path) -> SeededDataset:
    records = classified_slices("covidx", make_covidx(tmp_path / "data", per_class=1) / "images")
    return SeededDataset(records, classification_transforms(), seed=1, cache_rate=0.0)


def _kept(
    networks: tuple[LesionDetector, CovidCTMaskNet],
    slices: SeededDataset,
    folder: Path,
    precision: str = "float32",
) -> ProposedSlices:
    return proposed_slices(networks[1], networks[0], slices, folder, precision)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.pt"))


def test_box_head_and_s_learn_the_same_from_what_was_kept(
    networks: tuple[LesionDetector, CovidCTMaskNet], slices: SeededDataset, tmp_path: Path
) -> None:
    classifier = networks[1]
    kept = _kept(networks, slices, tmp_path / "trunk")
    items = [kept[index] for index in range(3)]
    trained = train_classifier(classifier, "s_boxes")
    given, classes, further, _ = prepare_proposed(items, CPU, False)
    assert classes.tolist() == [int(record["slice_class"]) for record in slices.data]
    found = BoxHeadTraining(classifier, "float32")(given, *further)
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(found, classes), trained)
    whole = ClassifierTraining(classifier)([slices[index]["image"] for index in range(3)])
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(whole, classes), trained)
    assert float((found - whole).abs().median()) < 1e-4
    for ours, theirs in zip(gradients, expected, strict=True):
        assert float((ours - theirs).norm()) <= 1e-2 * float(theirs.norm()) + 1e-6
    assert any(float(one.norm()) > 0 for one in gradients)


@pytest.mark.skipif(not has_bfloat16(), reason="the processor does not multiply bfloat16")
def test_bfloat16_keeps_half_of_it_and_gives_about_the_same(
    networks: tuple[LesionDetector, CovidCTMaskNet], slices: SeededDataset, tmp_path: Path
) -> None:
    whole, half = (_kept(networks, slices, tmp_path / kind, kind) for kind in ("float32", "bfloat16"))
    assert half[0][PROPOSED]["features"][0].dtype is torch.bfloat16
    sizes = [sum(path.stat().st_size for path in _files(tmp_path / kind)) for kind in ("float32", "bfloat16")]
    assert sizes[1] < 0.7 * sizes[0]
    with torch.no_grad():
        exact = BoxHeadTraining(networks[1], "float32")([whole[0][PROPOSED]])
        found = BoxHeadTraining(networks[1], "bfloat16")([half[0][PROPOSED]])
    assert found.dtype is torch.float32
    assert 0 < float((exact - found).abs().max()) < 0.1 * float(exact.abs().max()) + 0.05


def test_the_trunk_is_computed_once_and_anew_when_it_changes(
    networks: tuple[LesionDetector, CovidCTMaskNet],
    slices: SeededDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[int] = []
    proposed = CompiledEngine.proposed

    def counted(self: CompiledEngine, images: Any, scales: Any = None) -> Any:
        computed.append(len(images))
        return proposed(self, images, scales)

    monkeypatch.setattr(CompiledEngine, "proposed", counted)
    _kept(networks, slices, tmp_path / "trunk")
    assert computed == [3]
    with torch.no_grad():
        networks[1].s.fc1.weight.add_(1)
        networks[1].roi_heads.box_predictor.cls_score.bias.add_(1)
    _kept(networks, slices, tmp_path / "trunk")
    assert computed == [3], "neither box head nor S matters"
    with torch.no_grad():
        networks[1].backbone.body.conv1.weight.mul_(1.1)
    kept = _kept(networks, slices, tmp_path / "trunk")
    assert computed == [3, 3]
    lost, damaged = _files(kept.folder)[:2]
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:100])
    for _ in range(2):
        _kept(networks, slices, tmp_path / "trunk")
    assert computed == [3, 3, 2]
    assert len(_files(kept.folder)) == 3


def test_what_cannot_be_kept_is_refused(
    networks: tuple[LesionDetector, CovidCTMaskNet],
    slices: SeededDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="trunk_precision is 'int8', but must be float32 or bfloat16"):
        _kept(networks, slices, tmp_path, "int8")
    with pytest.raises(UntrustedModelError, match="holds no lesion detector"):
        proposed_slices(networks[1], None, slices, tmp_path, "float32")
    with pytest.raises(UsageError, match="set device to cpu"):
        prepare_proposed([], torch.device("cuda"), False)
    monkeypatch.setattr(trunk_cache, "several_processes", lambda: True)
    with pytest.raises(UsageError, match="leave the overlay out"):
        _kept(networks, slices, tmp_path)


def test_unusable_weights_are_told_by_the_slice(
    networks: tuple[LesionDetector, CovidCTMaskNet], slices: SeededDataset, tmp_path: Path
) -> None:
    with torch.no_grad():
        # Finite themselves: only what comes of them is not.
        networks[1].backbone.fpn.layer_blocks[0][0].weight.fill_(1e38)
    with pytest.raises(NotAssessableError, match=r"no numbers for .*\.png"):
        _kept(networks, slices, tmp_path)
    assert not _files(tmp_path / "trunk")
