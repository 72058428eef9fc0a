"""What is trained: heads or all of the detector; S, S with batch normalisation, or all of the classifier.

Paper: Table 6 (heads only, full) and section 3.3 (only S, S + BN, full).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, StrEnum
from typing import Any, TypeVar

from torch import nn
from torch.nn import Parameter

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector

_Choice = TypeVar("_Choice", bound=Enum)
_STEM = ("conv1", "bn1", "layer1")


class DetectorMode(StrEnum):
    """What is trained of Mask R-CNN: the paper's modes (Table 6), and two to go on with at less cost."""

    ROI_HEADS = "roi_heads"
    HEADS = "heads"
    HELD_STEM = "held_stem"
    FULL = "full"


class ClassifierMode(StrEnum):
    """What is trained of COVID-CT-Mask-Net: the paper's modes (Tables 3 and 4), and the box head with S."""

    S = "s"
    S_BOXES = "s_boxes"
    S_BN = "s_bn"
    FULL = "full"


class BatchNorm(StrEnum):
    """What becomes of the running statistics of batch normalisation.

    ``frozen``: used as they are (the paper: "tracking off"; for networks that start from weights).
    ``learned``: estimated in training, as a network that starts from random weights needs.
    """

    FROZEN = "frozen"
    LEARNED = "learned"


class BatchNormLayers(StrEnum):
    """Which batch normalisation layers mode ``s_bn`` trains.

    ``named``: those with "bn" in their names, which is how the original chose them. It misses the shortcuts'
    (``downsample.1``; four in ResNet50), and made the published figures. ``all``: by what they are.
    """

    NAMED = "named"
    ALL = "all"


def train_detector(network: LesionDetector, mode: DetectorMode | str) -> list[Parameter]:
    """Choose what is trained of a detector and return it.

    Parameters
    ----------
    network : LesionDetector
        Its parameters are marked (``requires_grad``).
    mode : DetectorMode or str
        ``roi_heads``: box and mask heads, behind a trunk that a classifier shares. ``heads``: all but the
        ResNet. The FPN is trained too: it is no part of what ImageNet taught, and frozen random ones could
        teach the heads nothing. ``held_stem``: all but stem and first residual stage, a fifth less work for
        a detector that goes on from weights. ``full``: everything.
    """
    mode = choice(DetectorMode, mode, "The mode", code="MODE")
    body = network.backbone.body
    trunk = (network.backbone, network.rpn)
    frozen: dict[DetectorMode, list[Parameter]] = {
        DetectorMode.ROI_HEADS: [p for part in trunk for p in part.parameters()],
        DetectorMode.HEADS: list(body.parameters()),
        DetectorMode.HELD_STEM: [p for name in _STEM for p in body.get_submodule(name).parameters()],
        DetectorMode.FULL: [],
    }
    return _choose(network, frozen=frozen[mode])


def train_classifier(
    network: CovidCTMaskNet,
    mode: ClassifierMode | str,
    batch_norm_layers: BatchNormLayers | str = BatchNormLayers.NAMED,
) -> list[Parameter]:
    """Choose what is trained of a classifier and return it.

    Parameters
    ----------
    network : CovidCTMaskNet
        Its parameters are marked (``requires_grad``).
    mode : ClassifierMode or str
        ``s``: the head S. ``s_boxes``: S and the box head, which the paper does not have. ``s_bn``: S and
        weight and bias of batch normalisation. ``full``: everything; proposals are not differentiated, so
        the RPN's head gets no gradient and stays as it is, as in the original.
    batch_norm_layers : BatchNormLayers or str
        Which layers ``s_bn`` trains; the other modes do not read it.
    """
    mode = choice(ClassifierMode, mode, "The mode", code="MODE")
    layers = choice(BatchNormLayers, batch_norm_layers, "batch_norm_layers")
    if mode is ClassifierMode.FULL:
        return _choose(network)
    chosen = {id(parameter) for parameter in network.s.parameters()}
    if mode is ClassifierMode.S_BOXES:
        heads = network.roi_heads
        chosen |= {id(p) for part in (heads.box_head, heads.box_predictor) for p in part.parameters()}
    if mode is ClassifierMode.S_BN:
        named = {id(layer) for name, layer in network.named_modules() if "bn" in name}
        norms = [one for one in batch_norms(network) if layers is BatchNormLayers.ALL or id(one) in named]
        chosen |= {id(p) for layer in norms for p in layer.parameters(recurse=False)}
    return _choose(network, frozen=[p for p in network.parameters() if id(p) not in chosen])


def parameter_groups(
    network: CovidCTMaskNet, trained: Iterable[Parameter], learning_rate: float, trunk: float
) -> list[dict[str, Any]]:
    """Return groups of an optimizer: S at the learning rate, what else is trained at a share of it.

    Parameters
    ----------
    network : CovidCTMaskNet
    trained : iterable of Parameter
        What `train_classifier` chose.
    learning_rate : float
    trunk : float
        The share.
    """
    head = list(network.s.parameters())
    ours = {id(parameter) for parameter in head}
    rest = [parameter for parameter in trained if id(parameter) not in ours]
    groups: list[dict[str, Any]] = [{"params": head, "lr": learning_rate}]
    return groups + ([{"params": rest, "lr": learning_rate * trunk}] if rest else [])


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d | nn.SyncBatchNorm]:
    """Return all batch normalisation layers, by what they are and not by name."""
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm)
    return [layer for layer in network.modules() if isinstance(layer, kinds)]


def freeze_statistics(network: nn.Module) -> None:
    """Put all batch normalisation into test mode: running statistics are used and not changed."""
    for layer in batch_norms(network):
        layer.eval()


def parameter_counts(network: nn.Module, trained: Iterable[Parameter]) -> dict[str, int]:
    """Return ``total`` (parameters and buffers, as the paper counts) and ``trainable`` parameters."""
    return {
        "total": sum(tensor.numel() for tensor in network.state_dict().values()),
        "trainable": sum(parameter.numel() for parameter in trained),
    }


def choice(kind: type[_Choice], value: _Choice | str, setting: str, code: str = "SETTING") -> _Choice:
    """Return the value of a setting that has a few.

    Parameters
    ----------
    kind : type of Enum
        The allowed values.
    value : Enum or str
    setting, code : str
        Name of the setting, with which the sentence begins, and code of the failure.

    Raises
    ------
    UsageError
        If the value is another; the sentence lists the allowed ones.
    """
    try:
        return kind(value)
    except ValueError as error:
        allowed = " or ".join(str(one.value) for one in kind)
        raise UsageError(code, f"{setting} is {value!r}, but must be {allowed}.") from error


def _choose(network: nn.Module, frozen: Iterable[Parameter] = ()) -> list[Parameter]:
    still = {id(parameter) for parameter in frozen}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) not in still)
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
