"""COVID-CT-Mask-Net inside MONAI's engines: slices or cached rows in, Eq. 2 on their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.utils.enums import CommonKeys
from torch import Tensor, nn
from torch.nn import functional

from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.training.datasets.records import IMAGE, SLICE_CLASS
from covid_ct_mask_net.training.lung_crop import WHOLE_SHAPE
from covid_ct_mask_net.training.modes import choice
from covid_ct_mask_net.training.row_cache import ROWS


class ImageTerms(StrEnum):
    """Which terms of the binary cross-entropy Eq. 2 has.

    ``original``: those of all classes, as in the paper's code, which made the published figures.
    ``positive``: that of the true class alone, as the paper prints it; nothing lowers the other logits.
    """

    ORIGINAL = "original"
    POSITIVE = "positive"


class ImageLoss(nn.Module):
    """Eq. 2: binary cross-entropy with logits against the one-hot class.

    Parameters
    ----------
    terms : ImageTerms or str
        ``original`` is averaged over slices and classes, as in the paper's code; ``positive``, which has one
        term a slice, over slices.

    Raises
    ------
    UsageError
        If there are no such terms.
    """

    def __init__(self, terms: ImageTerms | str = ImageTerms.ORIGINAL) -> None:
        super().__init__()
        self.terms = choice(ImageTerms, terms, "image_loss")

    def forward(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of logits (B, classes) and class ids (B,)."""
        if self.terms is ImageTerms.POSITIVE:
            return -functional.logsigmoid(logits.gather(1, classes[:, None])).mean()
        one_hot = functional.one_hot(classes, logits.shape[-1]).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, one_hot)


def class_weights(records: Sequence[Mapping[str, Any]], classes: int, *, control: float = 1.0) -> Tensor:
    """Return weights (classes,) under which all classes of a training set have equal sums.

    Parameters
    ----------
    records : sequence of dict
        With ``slice_class``.
    classes : int
    control : float
        Control, the first class, counts so many times as much.
    """
    share = torch.bincount(torch.tensor([int(one[SLICE_CLASS]) for one in records]), minlength=classes)
    weights = len(records) / (classes * share.clamp(min=1).float())
    weights[SliceClass.CONTROL] *= control
    return weights


class ClassifierTraining(nn.Module):
    """A classifier as it is trained: ``forward(inputs, scales)`` returns logits (B, classes).

    Parameters
    ----------
    classifier : CovidCTMaskNet
        Its trunk is always in test mode (paper, Algorithm 1), so statistics of batch normalisation are
        frozen.

    Notes
    -----
    Inputs are ranked rows (B, N, 5), which only S reads, or a list of slices (1, H, W) of any sizes.
    """

    def __init__(self, classifier: CovidCTMaskNet) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, inputs: Tensor | Sequence[Tensor], scales: Sequence[float] | None = None) -> Tensor:
        """Return the logits of rows or slices."""
        if isinstance(inputs, Tensor):
            return self.classifier.s(inputs)
        return self.classifier(inputs, scales)


class ClassificationTrainer(SupervisedTrainer):
    """MONAI's trainer with Eq. 2, or another loss of logits and class ids; its output keeps no graph.

    Parameters are those of `SupervisedTrainer`.
    """

    def __init__(self, *, loss_function: nn.Module | None = None, **arguments: Any) -> None:
        super().__init__(loss_function=loss_function or ImageLoss(), decollate=False, **arguments)

    def _iteration(self, engine: Any, batchdata: Any) -> list[dict[str, Any]]:  # type: ignore[override]
        output = super()._iteration(engine, batchdata)
        # A list of one, as MONAI's engines leave it and its tracking expects it.
        engine.state.output = [{CommonKeys.LOSS: output[CommonKeys.LOSS].detach()}]
        return engine.state.output


class PrepareClassification:
    """Move a list of data dictionaries to the device: MONAI engines' ``prepare_batch``.

    Parameters
    ----------
    classifier : CovidCTMaskNet
        Says at which scale a crop is read: that of the slice that it was cut from.
    """

    def __init__(self, classifier: CovidCTMaskNet) -> None:
        self.transform = classifier.transform

    def __call__(
        self, batch: Sequence[Mapping[str, Any]], device: torch.device, non_blocking: bool, **_: Any
    ) -> tuple[Tensor | list[Tensor], Tensor, tuple[Any, ...], dict[str, Any]]:
        """Return inputs, class ids (B,) and the further arguments of `ClassifierTraining.forward`."""
        classes = torch.tensor([int(item[SLICE_CLASS]) for item in batch], device=device)
        if all(ROWS in item for item in batch):
            rows = torch.stack([item[ROWS] for item in batch])
            return rows.to(device, non_blocking=non_blocking), classes, (), {}
        images = [item[IMAGE].to(device, non_blocking=non_blocking) for item in batch]
        scales = None
        if any(WHOLE_SHAPE in item for item in batch):
            scales = [
                self.transform.scale_of(*item.get(WHOLE_SHAPE, image.shape[-2:]))
                for item, image in zip(batch, images, strict=True)
            ]
        return images, classes, (scales,), {}
