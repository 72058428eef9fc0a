"""Both networks over the same slices, computing once what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.regions import Regions, box_outputs, compute_regions, passes, scales_of


class Shared(Enum):
    """How much of the trunk two networks have in common."""

    NOTHING = "nothing"
    PROPOSALS = "backbone, FPN and RPN"
    REGIONS = "backbone, FPN, RPN and box head"


@dataclass(frozen=True, eq=False)
class SliceOutput:
    """What both networks say about one slice.

    Attributes
    ----------
    logits
        (classes,) in the order Control, Common Pneumonia, COVID-19.
    boxes, labels, scores
        (n, 4) in pixels of the slice, (n,), (n,): detections from the score threshold on, best first.
    masks
        (n, 1, 28, 28) probabilities, each spanning its box.
    """

    logits: Tensor
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor


class SliceModel(nn.Module):
    """Classify slices and outline their lesions.

    After training mode ``s`` both networks hold the same trunk; then backbone, FPN and RPN (and the box head
    where it is equal too) run once a slice for both answers. Where the trunks differ (``s_bn``, ``full``)
    each network runs its own. Which of the two it is follows from the weights.

    Parameters
    ----------
    detector : LesionDetector
    classifier : CovidCTMaskNet
    min_score : float
        Detections below this score are not outlined; at least the detector's own threshold.
    """

    def __init__(self, detector: LesionDetector, classifier: CovidCTMaskNet, min_score: float) -> None:
        super().__init__()
        self.detector = detector
        self.classifier = classifier
        self.min_score = min_score
        self._compared: tuple[tuple[int, int], ...] = ()
        self._shared = Shared.NOTHING

    @property
    def shared(self) -> Shared:
        """What the networks have in common; compared again whenever a weight has changed."""
        state = tuple(
            (id(tensor), tensor._version)
            for network in (self.detector, self.classifier)
            for tensor in (*network.parameters(), *network.buffers())
        )
        if state != self._compared:
            self._shared = _common_trunk(self.detector, self.classifier)
            self._compared = state
        return self._shared

    @torch.inference_mode()
    def forward(
        self, slices: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None
    ) -> list[SliceOutput]:
        """Return one output a slice, in order; slices (B, 1, H, W) or a sequence of (1, H, W) in [0, 1].

        ``scales`` says for crops by which factor each is resized: ``transform.scale_of`` the slice that it
        was cut from. Boxes are in pixels of what was given.
        """
        if self.training:
            raise RuntimeError("SliceModel works in test mode only; call eval() first.")
        outputs: dict[int, SliceOutput] = {}
        for group in passes(self.classifier.transform, slices, scales):
            images = [slices[index] for index in group]
            factors = scales_of(group, scales)
            regions = compute_regions(self.classifier, images, factors)
            logits = self.classifier.s(self.classifier.rank(regions))
            found = self._detections(images, regions, factors)
            for index, slice_logits, detection in zip(group, logits, found, strict=True):
                outputs[index] = SliceOutput(logits=slice_logits, **detection)
        return [outputs[index] for index in sorted(outputs)]

    def _detections(
        self, images: list[Tensor], regions: Regions, scales: list[float] | None
    ) -> list[dict[str, Tensor]]:
        shared = self.shared
        if shared is Shared.NOTHING:
            regions = compute_regions(self.detector, images, scales)
        elif shared is Shared.PROPOSALS:
            class_logits, box_regression = box_outputs(
                self.detector, regions.features, regions.proposals, regions.image_sizes
            )
            regions = Regions(
                regions.features, regions.proposals, class_logits, box_regression,
                regions.image_sizes, regions.original_sizes,
            )  # fmt: skip
        return self.detector.outline_in_slices(regions, self.min_score)


def _common_trunk(detector: LesionDetector, classifier: CovidCTMaskNet) -> Shared:
    """Compare settings and weights of the two trunks."""
    same_settings = (
        detector.settings.trunk == classifier.detector_settings.trunk
        and classifier.settings.rpn_nms == detector.settings.rpn_nms
    )
    if not same_settings or not all(
        _equal(getattr(detector, part), getattr(classifier, part)) for part in ("backbone", "rpn")
    ):
        return Shared.NOTHING
    box_parts = ("box_head", "box_predictor")
    if all(_equal(getattr(detector.roi_heads, p), getattr(classifier.roi_heads, p)) for p in box_parts):
        return Shared.REGIONS
    return Shared.PROPOSALS


def _equal(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
