from __future__ import annotations

import json
from pathlib import Path

import torch

from builders.networks import CARD, random_slices, small_model
from covid_ct_mask_net.checkpoints import load_model, save_checkpoint
from covid_ct_mask_net.pipeline import triage_network


@torch.no_grad()
def test_it_answers_as_both_networks_do() -> None:
    model = small_model(seed=4)
    assert model.detector is not None
    assert model.classifier is not None
    image = random_slices((70, 90), seed=2)[0][None]
    network = triage_network(model).eval()
    logits, boxes, labels, scores, masks = network(image)
    assert torch.equal(logits, model.classifier(image))
    (detection,) = model.detector(image)
    found = int((scores > 0).sum())
    assert found == len(detection["scores"]) > 0
    assert torch.allclose(boxes[:found], detection["boxes"], atol=1e-4)
    assert torch.equal(labels[:found], detection["labels"])
    assert masks.shape == (len(scores), 1, 28, 28)


def test_it_takes_a_checkpoint_with_its_card(tmp_path: Path) -> None:
    source, target = small_model(seed=4), small_model(seed=5)
    save_checkpoint(tmp_path / "model.pt", CARD, source.detector, source.classifier)
    network = triage_network(target)
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    saved = load_model(tmp_path / "model.pt")
    for ours, theirs in ((network.detector, saved.detector), (network.classifier, saved.classifier)):
        assert theirs is not None
        state = ours.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())
    described = json.loads(str(network.__prepare_scriptable__().description))
    assert described["card"]["name"] == "small"
    assert set(described) == {"card", "detector", "trunk", "classifier"}
    # A plain state dictionary is taken as by any module.
    network.load_state_dict(triage_network(source).state_dict())
