"""Box losses of Eq. 1, those of the original and those of torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection.roi_heads import fastrcnn_loss

from builders.lesion_data import make_cncb
from builders.networks import random_slices, small_model
from builders.training import train_segmentation, workflow
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.box_losses import head_box_loss, use_box_loss
from covid_ct_mask_net.training.bundle_run import expected_failure
from covid_ct_mask_net.training.files import read_rows
from covid_ct_mask_net.training.hard_negatives import HardNegativeSampler, sample_hard_negatives
from covid_ct_mask_net.training.runs import read_run
from covid_ct_mask_net.training.segmentation import LOSSES, DetectorTraining

# Two lesions, a background, one that is neither; distances of the lesions from their targets.
LABELS = [torch.tensor([1.0, 0.0]), torch.tensor([1.0, -1.0])]
DISTANCES = torch.tensor([[0.05, 0.0, 0.0, 0.5], [9.0] * 4, [0.0, 2.0, 0.0, 0.0], [9.0] * 4])
# |d|, and with beta 1/9: 9 d^2 / 2 below it, |d| - 1/18 above.
RPN = {
    "original": (0.05 + 0.5 + 2.0) / 3,
    "torchvision": (4.5 * 0.05**2 + (0.5 - 1 / 18) + (2.0 - 1 / 18)) / 3,
}
# With beta 1: d^2 / 2 below it, |d| - 1/2 above; four regions.
HEAD = {
    "original": (0.05**2 / 2 + 0.5**2 / 2 + (2.0 - 0.5)) / 4,
    "torchvision": RPN["torchvision"] * 3 / 4,
}


def _detector(**settings: Any) -> LesionDetector:
    detector = small_model(**settings).detector
    assert detector is not None
    return detector


def _target() -> dict[str, torch.Tensor]:
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 10:22, 20:34] = 1
    masks[1, 30:42, 20:34] = 1
    boxes = torch.tensor([[20.0, 10.0, 34.0, 22.0], [20.0, 30.0, 34.0, 42.0]])
    return {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks}


def _losses(box_loss: str) -> dict[str, torch.Tensor]:
    network = DetectorTraining(_detector(), "frozen", joint=False, box_loss=box_loss).train()
    losses = network(random_slices((64, 64)), [_target()], [3])
    assert isinstance(losses, dict)
    return losses


@pytest.mark.parametrize("box_loss", ["original", "torchvision"])
def test_proposals_learn_boxes_from_the_loss_that_is_named(box_loss: str) -> None:
    detector = _detector()
    use_box_loss(detector, box_loss)
    wanted = [torch.full((2, 4), 0.25), torch.full((2, 4), -1.0)]
    logits = torch.tensor([[0.0], [0.0], [0.0], [50.0]])
    objectness, loss = detector.rpn.compute_loss(logits, torch.cat(wanted) + DISTANCES, LABELS, wanted)
    assert float(loss) == pytest.approx(RPN[box_loss])
    assert float(objectness) == pytest.approx(0.693147, abs=1e-5)


def test_the_box_head_learns_from_smooth_l1_with_beta_1() -> None:
    labels = [torch.tensor([2, 0]), torch.tensor([1, 0])]
    wanted = [torch.full((2, 4), 0.25), torch.full((2, 4), -1.0)]
    # Deltas of classes that a region is not of are far off and do not count.
    regression = torch.full((4, 3, 4), 30.0)
    regression[0, 2] = wanted[0][0] + DISTANCES[0]
    regression[2, 1] = wanted[1][0] - DISTANCES[2]
    loss = head_box_loss(regression.flatten(1), labels, wanted)
    assert float(loss) == pytest.approx(HEAD["original"])
    _, theirs = fastrcnn_loss(torch.zeros(4, 3), regression.flatten(1), labels, wanted)
    assert float(theirs) == pytest.approx(HEAD["torchvision"])


def test_box_losses_differ_and_the_others_do_not() -> None:
    original, theirs = _losses("original"), _losses("torchvision")
    assert set(original) == set(theirs) == set(LOSSES)
    for name in LOSSES:
        assert torch.equal(original[name], theirs[name]) is ("box" not in name), name


def test_the_network_computes_its_head_loss_from_its_own_regions() -> None:
    network = DetectorTraining(_detector(), "frozen", joint=False).train()
    heads, seen = network.detector.roi_heads, dict[str, Any]()
    select = heads.select_training_samples

    def selected(*arguments: Any) -> Any:
        found = select(*arguments)
        seen["labels"], seen["wanted"] = found[2:]
        return found

    heads.select_training_samples = selected
    heads.box_predictor.register_forward_hook(lambda *call: seen.update(regression=call[2][1]))
    losses = network(random_slices((64, 64)), [_target()], [3])
    assert isinstance(losses, dict)
    expected = 0.0
    for region, label in enumerate(seen["labels"][0].tolist()):
        if label:
            ours = seen["regression"][region].reshape(3, 4)[label]
            for distance in (ours - seen["wanted"][0][region]).abs().tolist():
                expected += distance**2 / 2 if distance < 1 else distance - 0.5
    assert expected > 0
    assert losses["loss_box_reg"].item() == pytest.approx(expected / len(seen["labels"][0]), rel=1e-5)


def test_detections_and_samplers_stay() -> None:
    detector = _detector(roi_batch=24)
    sample_hard_negatives(detector, 0.5)
    before = detector.eval()(random_slices((64, 64)))[0]
    use_box_loss(detector, "original")
    after = detector(random_slices((64, 64)))[0]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert isinstance(detector.roi_heads.fg_bg_sampler, HardNegativeSampler)


def test_an_unknown_loss_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(UsageError, match=r"^box_loss is 'l1', but must be original or torchvision\.$"):
        use_box_loss(_detector(), "l1")


def test_a_run_learns_from_the_box_loss_that_it_records(tmp_path: Path) -> None:
    data = make_cncb(tmp_path / "data", patients=3, slices=1)
    losses = {}
    for name, further in (("original", {}), ("torchvision", {"box_loss": "torchvision"})):
        run = train_segmentation(data, tmp_path / name, epochs=1, validation_share=0, **further)
        training = read_run(run).info.settings["training"]
        assert training["box_loss"] == name
        losses[name] = read_rows(run / "history.csv")[0]["train/loss_rpn_box_reg"]
    assert losses["original"] != losses["torchvision"]
    with pytest.raises(RuntimeError) as failure:
        train_segmentation(data, run, epochs=2, validation_share=0, resume=True)
    found = expected_failure(failure.value)
    assert found is not None
    assert "other values of box_loss;" in found.sentence


@pytest.mark.parametrize(
    ("overlays", "box_loss"),
    [
        ((), "original"),
        (("train_segmentation_synthetic.yaml",), "torchvision"),
        (("train_segmentation_synthetic.yaml", "train_segmentation_synthetic_resnet50.yaml"), "torchvision"),
        (("train_lesion_slices_fold.yaml",), "torchvision"),
    ],
)
def test_what_the_shipped_weights_learned_from_is_kept(
    overlays: tuple[str, ...], box_loss: str, tmp_path: Path
) -> None:
    training = workflow(["train_segmentation.yaml", *overlays], tmp_path, tmp_path / "run", {})
    assert training.parser["box_loss"] == box_loss
    assert training.parser["training_network#box_loss"] == "@box_loss"


@pytest.mark.parametrize("backbone", ["resnet50", "resnet18", "resnet34"])
def test_every_backbone_has_the_papers_batch_of_regions(backbone: str, tmp_path: Path) -> None:
    training = workflow("train_segmentation.yaml", tmp_path, tmp_path / "run", {"backbone": backbone})
    assert training.parser.get_parsed_content("detector_settings").roi_batch == 256
