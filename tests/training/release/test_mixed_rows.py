from __future__ import annotations

import pytest
import torch

from builders.networks import random_slices, small_model
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.release.mixed_rows import (
    AgreementLoss,
    MixedRowsTraining,
    divergence,
    mixed_sources,
    rows_of,
)


@pytest.fixture
def networks() -> tuple[LesionDetector, CovidCTMaskNet]:
    model = small_model(seed=3)
    assert model.detector is not None
    assert model.classifier is not None
    return model.detector.eval(), model.classifier.eval()


def test_sources_are_the_engines_of_this_processor(networks: tuple[LesionDetector, CovidCTMaskNet]) -> None:
    sources = mixed_sources(*networks)
    assert next(iter(sources)) == "exact"
    assert "int8" in sources
    images = random_slices((64, 64), (64, 80))
    scales = [networks[1].transform.scale_of(*image.shape[-2:]) for image in images]
    with torch.no_grad():
        expected = networks[1].rows(images)
        found = {name: source(images, scales) for name, source in sources.items()}
    assert all(rows.shape == expected.shape for rows in found.values())
    assert float((found["exact"] - expected).abs().median()) < 1e-4
    assert not torch.equal(found["exact"], found["int8"])


def test_a_start_without_a_detector_and_engines_without_rows_are_refused(
    networks: tuple[LesionDetector, CovidCTMaskNet],
) -> None:
    with pytest.raises(UntrustedModelError, match="holds no lesion detector"):
        mixed_sources(None, networks[1])
    with pytest.raises(TypeError, match="not by torch"):
        rows_of(build_engine(*networks, 1.0, name="torch"))


def test_s_learns_the_class_and_to_agree(networks: tuple[LesionDetector, CovidCTMaskNet]) -> None:
    classifier = networks[1]
    regions = classifier.settings.regions
    random = torch.Generator().manual_seed(3)
    classes = torch.arange(96) % 3
    rows = torch.randn(96, 1, regions, 5, generator=random) * 0.3 + classes[:, None, None, None] * 0.3
    rows = rows + 0.05 * torch.randn(96, 2, regions, 5, generator=random)
    torch.manual_seed(1)
    network, loss = MixedRowsTraining(classifier, dropout=0.1).train(), AgreementLoss(torch.ones(3), 1.0)
    optimizer = torch.optim.AdamW(classifier.s.parameters(), 1e-2)
    losses = []
    for _ in range(200):
        value = loss(network(rows), classes)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.5 * losses[0]
    answers = network.eval()(rows).argmax(dim=-1)
    assert answers.shape == (96,)
    assert float((answers == classes).float().mean()) > 0.95
    assert torch.equal(network(rows.flip(1)).argmax(dim=-1), answers), "both engines' rows mean the same"


def test_rows_of_one_slice_are_dropped_together(networks: tuple[LesionDetector, CovidCTMaskNet]) -> None:
    network = MixedRowsTraining(networks[1], dropout=0.5).train()
    rows = torch.rand(4, 1, networks[1].settings.regions, 5).expand(-1, 3, -1, -1)
    logits = network(rows)
    assert torch.allclose(logits[:, :1].expand_as(logits), logits, atol=1e-5)
    assert not torch.allclose(network(rows), logits)
    with pytest.raises(TypeError, match="not slices"):
        network(random_slices((64, 64)))


def test_equal_answers_do_not_diverge() -> None:
    one = torch.tensor([[[2.0, 0.0, -1.0]]])
    assert float(divergence(torch.cat([one, one + 3.0], dim=1))) == pytest.approx(0.0, abs=1e-6)
    assert float(divergence(torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]]))) > 0.5
