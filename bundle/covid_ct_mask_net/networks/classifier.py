"""COVID-CT-Mask-Net: regional features of a slice to its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor

from covid_ct_mask_net.networks.backbone import build_backbone
from covid_ct_mask_net.networks.detector import anchor_generator, box_head, box_pool
from covid_ct_mask_net.networks.fixed_size import FixedSizeClassifier, exporting
from covid_ct_mask_net.networks.proposals import rank_proposals_by_logit
from covid_ct_mask_net.networks.ranked_rows import ROW_WIDTH, ranked_rows
from covid_ct_mask_net.networks.regions import Regions, compute_regions, passes, scales_of
from covid_ct_mask_net.networks.settings import ClassifierSettings, DetectorSettings
from covid_ct_mask_net.networks.slice_transform import SliceTransform


class HeadS(nn.Module):
    """The classification head S of the paper (section 3.3): FC(5N, F) ReLU FC(F, F) ReLU FC(F, classes).

    Parameters
    ----------
    settings : ClassifierSettings
        N (``regions``), F (``features``) and the number of classes.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        super().__init__()
        self.fc1 = nn.Linear(settings.regions * ROW_WIDTH, settings.features)
        self.fc2 = nn.Linear(settings.features, settings.features)
        self.fc3 = nn.Linear(settings.features, settings.classes)
        for layer in (self.fc1, self.fc2, self.fc3):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (B, classes) of ranked rows (B, N, 5)."""
        hidden = torch.relu(self.fc1(rows.flatten(1)))
        logits: Tensor = self.fc3(torch.relu(self.fc2(hidden)))
        return logits


class CovidCTMaskNet(FasterRCNN):
    """Slice classifier: the trunk of the lesion detector without its mask branch, and the head S.

    ``forward`` takes slices (B, 1, H, W), or a sequence of slices (1, H, W) of any sizes, in [0, 1] and
    returns logits (B, classes) in the order Control, Common Pneumonia, COVID-19. A slice gets the same
    logits alone and in a batch.

    Parameters
    ----------
    detector : DetectorSettings
        Settings of the trunk.
    settings : ClassifierSettings
        Settings of S and the thresholds that differ from the detector's.

    Notes
    -----
    The trunk is always in test mode, in training too (paper, Algorithm 1): regions are ranked as at
    inference and batch statistics are used, not tracked.
    """

    def __init__(self, detector: DetectorSettings, settings: ClassifierSettings) -> None:
        levels = [str(level) for level in range(detector.levels)]
        super().__init__(
            build_backbone(detector),
            rpn_anchor_generator=anchor_generator(detector),
            rpn_nms_thresh=settings.rpn_nms,
            rpn_pre_nms_top_n_test=detector.rpn_top_testing,
            rpn_post_nms_top_n_test=detector.rpn_top_testing,
            box_roi_pool=box_pool(levels),
            box_head=box_head(detector),
            box_predictor=FastRCNNPredictor(detector.representation, detector.mask_type.num_classes),
            box_score_thresh=settings.roi_score,
            box_nms_thresh=settings.roi_nms,
            box_detections_per_img=settings.regions,
        )
        self.detector_settings = detector
        self.settings = settings
        self.transform = SliceTransform(detector)
        rank_proposals_by_logit(self.rpn)
        self.s = HeadS(settings)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of S; the trunk stays in test mode."""
        super().train(mode)
        for trunk in (self.transform, self.backbone, self.rpn, self.roi_heads):
            trunk.eval()
        return self

    def forward(self, images: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None) -> Tensor:
        """Return the logits of slices, or of crops with their scales; exporters are given fixed sizes."""
        logits: Tensor
        logits = FixedSizeClassifier(self)(images) if exporting() else self.s(self.rows(images, scales))
        return logits

    def rows(self, images: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None) -> Tensor:
        """Return the ranked rows (B, N, 5) of slices; what mode S trains on and may keep.

        ``scales`` says for crops by which factor each is resized: ``transform.scale_of`` the slice that it
        was cut from.
        """
        rows: dict[int, Tensor] = {}
        for group in passes(self.transform, images, scales):
            regions = compute_regions(self, [images[index] for index in group], scales_of(group, scales))
            rows |= dict(zip(group, self.rank(regions), strict=True))
        return torch.stack([rows[index] for index in sorted(rows)])

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what ``torch.jit.script`` compiles."""
        return FixedSizeClassifier(self)

    def rank(self, regions: Regions) -> Tensor:
        """Return the ranked rows (B, N, 5) of slices whose regions are known."""
        return ranked_rows(self, regions, self.settings.regions)
