from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import light_detector_settings
from covid_ct_mask_net.training.release.class_slices import Draws, class_slices
from covid_ct_mask_net.training.release.classifier import initial_classifier
from covid_ct_mask_net.training.release.mixed_rows import (
    HeadPlan,
    MixedRows,
    _divergence,
    mixed_rows,
    train_head,
)
from covid_ct_mask_net.training.synthesis.slice_supply import Ground


@pytest.fixture(scope="module")
def networks() -> tuple[LesionDetector, torch.nn.Module]:
    torch.manual_seed(0)
    detector = LesionDetector(light_detector_settings(image_min_size=320, rpn_top_testing=300)).eval()
    return detector, initial_classifier(detector, 1).eval()


def test_rows_are_those_of_the_engines(networks: tuple, ground: Ground) -> None:
    detector, classifier = networks
    engine = build_engine(detector, classifier, 1.0, name="exact", cache="none", workers=1)
    slices = list(class_slices([ground], Draws(2, 2)))
    found = mixed_rows([engine, engine], slices)
    assert found.rows.shape == (len(slices), 2, 128, 5)
    assert found.classes.tolist() == [slice_class for _, slice_class in slices]
    assert torch.equal(found.rows[:, 0], found.rows[:, 1])
    with torch.no_grad():
        reference = classifier.rows([image for image, _ in slices])
    assert float((found.rows[:, 0] - reference).abs().median()) < 1e-4


def test_rows_of_torch_are_refused(networks: tuple) -> None:
    engine = build_engine(*networks, 1.0, name="torch")
    with pytest.raises(TypeError, match="not by torch"):
        mixed_rows([engine], [(torch.rand(1, 96, 96), 0)])


def test_s_learns_the_class_and_to_agree(networks: tuple, tmp_path: Path) -> None:
    _, classifier = networks
    random = torch.Generator().manual_seed(3)
    classes = torch.arange(96) % 3
    rows = torch.randn(96, 1, 128, 5, generator=random) * 0.3 + classes[:, None, None, None] * 0.3
    rows = rows + 0.05 * torch.randn(96, 2, 128, 5, generator=random)
    trunk = {name: value.clone() for name, value in classifier.state_dict().items() if name[:2] != "s."}
    plan = HeadPlan(epochs=8, batch=16, dropout=0.1, agreement=1.0, control=1.0)
    train_head(classifier, MixedRows(rows, classes), plan, tmp_path / "log.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["accuracy"] > 0.95 > lines[0]["accuracy"]
    assert lines[-1]["agreement"] > 0.95
    assert lines[-1]["loss"] < lines[0]["loss"]
    now = classifier.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in trunk.items())
    assert not classifier.s.training


def test_equal_answers_do_not_diverge() -> None:
    one = torch.tensor([[[2.0, 0.0, -1.0]]])
    assert float(_divergence(torch.cat([one, one + 3.0], dim=1))) == pytest.approx(0.0, abs=1e-6)
    assert float(_divergence(torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]]))) > 0.5
