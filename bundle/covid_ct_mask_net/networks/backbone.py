"""ResNet with a feature pyramid: four levels for ResNet50, one for the light models."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from covid_ct_mask_net.networks.settings import STAGE_COUNT, DetectorSettings

FPN_CHANNELS = 256


def build_backbone(settings: DetectorSettings) -> BackboneWithFPN:
    """Return the ResNet and FPN of the settings, randomly initialised.

    Batch normalisation stays ``BatchNorm2d`` (its affine weights are trained in mode S + BN). Stages that
    truncation cuts off are not built into the result. The feature maps are named "0", "1", ... as
    torchvision does.
    """
    network = getattr(resnet, settings.backbone)(weights=None, norm_layer=nn.BatchNorm2d)
    last = STAGE_COUNT - settings.truncation
    first = last if settings.light else 1
    stages = range(first, last + 1)
    channels = [_out_channels(getattr(network, f"layer{stage}")) for stage in stages]
    backbone = BackboneWithFPN(
        network,
        return_layers={f"layer{stage}": str(level) for level, stage in enumerate(stages)},
        in_channels_list=channels,
        out_channels=FPN_CHANNELS,
    )
    # torchvision adds a fifth, pooled level when it is given none; the paper's code removed it.
    backbone.fpn.extra_blocks = None
    return backbone


def _out_channels(stage: nn.Sequential) -> int:
    block: Any = stage[-1]
    last_convolution = block.conv3 if isinstance(block, resnet.Bottleneck) else block.conv2
    return int(last_convolution.out_channels)
