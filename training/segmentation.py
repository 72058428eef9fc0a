"""Mask R-CNN inside MONAI's engines: slices and targets as lists, the five losses of Eq. 1 by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from monai.engines import SupervisedTrainer
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.slice_transform import SCALE
from covid_ct_mask_net.training.box_losses import BoxLoss, use_box_loss
from covid_ct_mask_net.training.datasets.records import IMAGE
from covid_ct_mask_net.training.lung_crop import WHOLE_SHAPE
from covid_ct_mask_net.training.modes import BatchNorm, batch_norms, freeze_statistics
from covid_ct_mask_net.training.randomness import SEED
from covid_ct_mask_net.training.targets import TARGET

# Eq. 1 in the paper's order, by the names that torchvision gives them.
LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")
Shape = tuple[int, int]


class DetectorTraining(nn.Module):
    """A detector as it is trained: ``forward(slices, targets, seeds, whole_shapes)`` returns its losses.

    Parameters
    ----------
    detector : LesionDetector
    batch_norm : BatchNorm or str
        Whether running statistics are frozen or learned.
    joint : bool
        False: the losses of each slice are computed on their own and averaged, so that a batch is the mean of
        its slices, as in the original (batch 1); slices of different sizes do not pad each other, and
        processes that share a batch learn what one process learns. True: torchvision's way, losses over all
        regions of a batch; faster on a GPU, and needed where batch statistics are learned.
    box_loss : BoxLoss or str
        Whose box losses the detector, which is given them here, learns from.

    Notes
    -----
    Targets may hold the ``scale`` at which their slice is read, which is that of its whole shape otherwise.
    PyTorch's generators are seeded for each slice (for each batch, if joint): the sampling of regions depends
    on (seed, epoch, slice) alone. In test mode it is the detector itself.
    """

    def __init__(
        self,
        detector: LesionDetector,
        batch_norm: BatchNorm | str,
        joint: bool,
        box_loss: BoxLoss | str = BoxLoss.ORIGINAL,
    ) -> None:
        super().__init__()
        use_box_loss(detector, box_loss)
        self.detector = detector
        self.batch_norm = BatchNorm(batch_norm)
        self.joint = joint

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen statistics, and those of layers that are not trained, stay frozen."""
        super().train(mode)
        if self.batch_norm is BatchNorm.FROZEN:
            freeze_statistics(self.detector)
        for layer in batch_norms(self.detector):
            if not any(parameter.requires_grad for parameter in layer.parameters()):
                layer.eval()
        return self

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]] | None = None,
        seeds: Sequence[int] | None = None,
        whole_shapes: Sequence[Shape] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return the five losses in training, detections in test mode."""
        if not self.training or targets is None:
            return self.detector(images)
        # A crop keeps the scale of the slice that it was cut from.
        shapes = whole_shapes or [_shape(image) for image in images]
        seeds = seeds or [0] * len(images)
        if self.joint:
            return self._losses(images, targets, seeds[0], shapes)
        each = [
            self._losses([image], [target], seed, [shape])
            for image, target, seed, shape in zip(images, targets, seeds, shapes, strict=True)
        ]
        return {name: torch.stack([one[name] for one in each]).mean() for name in each[0]}

    def _losses(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Tensor]],
        seed: int,
        shapes: Sequence[Shape],
    ) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        scaled = [
            {SCALE: self.detector.transform.scale_of(*shape), **target}
            for target, shape in zip(targets, shapes, strict=True)
        ]
        losses: dict[str, Tensor] = self.detector(images, scaled)
        return losses


class DetectionInferer(Inferer):
    """Detect on a list of slices; targets, which the trainer's network takes too, are left alone."""

    def __call__(self, inputs: Any, network: Callable[..., Any], *_: Any, **__: Any) -> Any:
        """Return one dictionary of detections a slice."""
        return network(inputs)


class DetectionTrainer(SupervisedTrainer):
    """MONAI's trainer for networks that return their losses: Eq. 1 is their sum.

    ``state.output[0]["losses"]`` holds them. Parameters are those of `SupervisedTrainer`, without a loss
    function.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(loss_function=_total_loss, decollate=False, **arguments)

    def _iteration(self, engine: Any, batchdata: Any) -> list[dict[str, Any]]:  # type: ignore[override]
        output = super()._iteration(engine, batchdata)
        # Images stay on the device no longer than needed; losses are only looked at.
        losses = {name: loss.detach() for name, loss in output[CommonKeys.PRED].items()}
        # A list of one, as MONAI's engines leave it and its tracking expects it.
        engine.state.output = [{CommonKeys.LOSS: output[CommonKeys.LOSS].detach(), "losses": losses}]
        return engine.state.output


def prepare_detection(
    batch: Sequence[Mapping[str, Any]], device: torch.device, non_blocking: bool, **_: Any
) -> tuple[list[Tensor], list[dict[str, Tensor]], tuple[Any, ...], dict[str, Any]]:
    """Move a list of data dictionaries to the device: MONAI engines' ``prepare_batch``.

    Returns
    -------
    images, targets, arguments, keywords
        The arguments are those of `DetectorTraining.forward` after the images.
    """
    images = [item[IMAGE].to(device, non_blocking=non_blocking) for item in batch]
    targets = [
        {name: value.to(device, non_blocking=non_blocking) for name, value in item[TARGET].items()}
        for item in batch
    ]
    seeds = [int(item[SEED]) for item in batch] if all(SEED in item for item in batch) else None
    shapes = [tuple(item.get(WHOLE_SHAPE, _shape(item[IMAGE]))) for item in batch]
    return images, targets, (targets, seeds, shapes), {}


def list_batch(items: list[Any]) -> list[Any]:
    """Leave a batch as a list: slices differ in size and lesions in number (``collate_fn``)."""
    return items


def mixed_precision(
    network: GeneralizedRCNN, device: torch.device | str, enabled: bool, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Run the convolutions of a detection network in half precision; boxes and losses stay float32.

    Boxes of 2 to 32 pixels on a slice of 512 do not survive bfloat16 (steps of 2 pixels and more), so
    autocast covers the backbone, the RPN's head and the box and mask heads, each of which hands over float32.

    Parameters
    ----------
    network : LesionDetector or CovidCTMaskNet
    device : torch.device or str
    enabled : bool
        Without it nothing is changed.
    dtype : torch.dtype
        ``bfloat16`` needs no loss scaling; on a CPU it pays where the processor has it.
    """
    if not enabled:
        return
    heads, kind = network.roi_heads, torch.device(device).type
    for part in (network.backbone, network.rpn.head, heads.box_head, getattr(heads, "mask_head", None)):
        if isinstance(part, nn.Module):
            part.forward = _autocast(part.forward, kind, dtype)


def _autocast(forward: Any, device_type: str, dtype: torch.dtype) -> Any:
    def call(*arguments: Any, **keywords: Any) -> Any:
        with torch.autocast(device_type, dtype=dtype):
            return _float32(forward(*arguments, **keywords))

    return call


def _float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return type(value)((name, _float32(one)) for name, one in value.items())
    return type(value)(_float32(one) for one in value)


def _total_loss(losses: Mapping[str, Tensor], _: Any) -> Tensor:
    """Eq. 1: the sum of the five losses, and of what a network has beside them."""
    return torch.stack([loss.reshape(()) for loss in losses.values()]).sum()


def _shape(image: Tensor) -> Shape:
    return int(image.shape[-2]), int(image.shape[-1])
