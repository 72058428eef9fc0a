"""From lung slices to slice evidence, with MONAI's inferer interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

from covid_ct_mask_net.declining import DECLINED, SLICE_CROP, SLICE_INDICES, SLICE_SAMPLING, SLICES
from covid_ct_mask_net.errors import CovidCTMaskNetError, NotAssessableError, UsageError
from covid_ct_mask_net.evidence import LesionInstance, SliceEvidence
from covid_ct_mask_net.geometry import voxel_spacing
from covid_ct_mask_net.labels import LesionClass, MaskType
from covid_ct_mask_net.networks.slice_model import SliceModel, SliceOutput
from covid_ct_mask_net.slice_crop import SliceCrop
from covid_ct_mask_net.slice_sampling import SliceSampling
from covid_ct_mask_net.triage.lesions import LesionRules, LungSpace, is_accepted

_DETECTOR_LABELS = {
    MaskType.BOTH: {1: LesionClass.GROUND_GLASS_OPACITY, 2: LesionClass.CONSOLIDATION},
    MaskType.GGO: {1: LesionClass.GROUND_GLASS_OPACITY},
}
_MASK_PADDING = 1


class SliceInferer(Inferer):
    """Run a `SliceModel` over the lung slices of a volume.

    Parameters
    ----------
    batch_size : int
        Slices handed to the model at a time; bounds memory and never changes the result.
    mask_threshold : float
        Mask probability from which on a pixel belongs to a lesion; above it, strictly.
    settled : callable, optional
        Told the evidence so far in reading order, and the sampling; where that allows it, reading ends once
        this says that the answer cannot change (`VolumeTriage.settled`).
    missing : callable, optional
        Told the same, says how many more slices that takes at least (`VolumeTriage.missing`): slices beyond
        would be computed and not be read.
    lesion_rules : LesionRules, optional
        What a lesion must be for its score to be that of its slice.
    """

    def __init__(
        self,
        batch_size: int,
        mask_threshold: float,
        settled: Callable[[Sequence[SliceEvidence], SliceSampling], bool] | None = None,
        missing: Callable[[Sequence[SliceEvidence], SliceSampling], int | None] | None = None,
        lesion_rules: LesionRules | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UsageError("BATCH_SIZE", f"The batch size is {batch_size}, but must be at least 1.")
        self.batch_size = batch_size
        self.mask_threshold = mask_threshold
        self.settled = settled
        self.missing = missing
        self.lesion_rules = lesion_rules or LesionRules()

    def __call__(  # type: ignore[override]
        self,
        inputs: Tensor,
        network: SliceModel,
        slice_indices: Sequence[int],
        progress: Callable[[int], object] | None = None,
        crop: SliceCrop | None = None,
        sampling: SliceSampling | None = None,
        lungs: LungSpace | None = None,
    ) -> list[SliceEvidence]:
        """Return the evidence of each slice that was read, in the order of the inputs.

        Parameters
        ----------
        inputs : Tensor
            (N, 1, H, W) in [0, 1], radiological display orientation; whole slices or the crop of each.
        network : SliceModel
            In test mode.
        slice_indices : sequence of int
            Where each slice lies in the canonical volume.
        progress : callable, optional
            Called with the number of slices done since the last call.
        crop : SliceCrop, optional
            Where the inputs lie in their slices. They are resized as whole slices are, and the evidence is
            given in pixels of the whole slice.
        sampling : SliceSampling, optional
            In which order the slices are read and whether reading may stop. Where it stops does not depend on
            the batch size.
        lungs : LungSpace, optional
            Of the canonical volume; without them no lesion counts as lying in the lungs.

        Raises
        ------
        NotAssessableError
            ``MODEL_NON_FINITE`` if the network answers with something that is not a number.
        """
        labels = _lesion_classes(network)
        device = next(network.parameters()).device
        place = crop or SliceCrop(0, 0, *inputs.shape[-2:], *inputs.shape[-2:])
        scale = network.classifier.transform.scale_of(place.full_height, place.full_width)
        indices = [int(index) for index in slice_indices]
        order = _reading_order(indices, sampling)
        may_stop = None if sampling is None or not sampling.may_stop else sampling
        read: list[SliceEvidence] = []
        start = 0
        while start < len(order):
            places = order[start : start + self._batch(read, may_stop)]
            start += len(places)
            batch = torch.as_tensor(inputs[places]).to(device)
            outputs = _computed(network, batch, [scale] * len(places))
            for at, output in zip(places, outputs, strict=True):
                read.append(self._evidence(indices[at], output, place, labels, lungs))
                if self._ends(read, may_stop):
                    # Computed with the batch, but not read: the answer must not depend on its size.
                    return sorted(read, key=lambda one: one.slice_index)
            if progress is not None:
                progress(len(places))
        return read if sampling is None else sorted(read, key=lambda one: one.slice_index)

    def _batch(self, read: Sequence[SliceEvidence], sampling: SliceSampling | None) -> int:
        """Return how many slices are computed next."""
        if sampling is None or self.missing is None or not read:
            return self.batch_size
        missing = self.missing(read, sampling)
        if not missing:
            # Not known, or it is no longer slices that the answer waits for.
            return self.batch_size
        # Half a batch at least: slices are computed side by side, and what is missing may take many.
        wanted = max(missing, sampling.first_pass - len(read), self.batch_size // 2, 1)
        return min(self.batch_size, wanted)

    def _ends(self, read: Sequence[SliceEvidence], sampling: SliceSampling | None) -> bool:
        return (
            sampling is not None
            and self.settled is not None
            and len(read) >= sampling.first_pass
            and self.settled(read, sampling)
        )

    def _evidence(
        self,
        index: int,
        output: SliceOutput,
        place: SliceCrop,
        labels: Mapping[int, LesionClass],
        lungs: LungSpace | None,
    ) -> SliceEvidence:
        logits = output.logits.double().cpu()
        if not torch.isfinite(logits).all():
            raise NotAssessableError(
                "MODEL_NON_FINITE", f"The network gave no number for slice {index}; the weights are unusable."
            )
        instances = []
        boxes = output.boxes.cpu() + torch.tensor([place.left, place.top] * 2, dtype=output.boxes.dtype)
        shape = (place.full_height, place.full_width)
        cropped = crop_masks(output.masks, boxes, shape, self.mask_threshold)
        for box, label, score, (offset, mask) in zip(
            boxes.tolist(), output.labels.tolist(), output.scores.tolist(), cropped, strict=True
        ):
            if mask.any():
                instances.append(LesionInstance(index, labels[label], float(score), tuple(box), offset, mask))
        first, second, third = logits.tolist()
        found = () if lungs is None else (i for i in instances if is_accepted(i, lungs, self.lesion_rules))
        return SliceEvidence(
            index,
            (first, second, third),
            tuple(instances),
            max((instance.score for instance in found), default=0.0),
        )


class DecliningInferer(Inferer):
    """Call an inferer, and give the reason in place of evidence where it declines the volume.

    For MONAI's evaluator, which would end the run over all volumes; `TriageVolumed` understands both.

    Parameters
    ----------
    inferer : callable
        As `SliceInferer`.
    """

    def __init__(self, inferer: Callable[..., list[SliceEvidence]]) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, *given: Any, **named: Any) -> list[SliceEvidence] | NotAssessableError:
        """Return what the inferer does, or why it declined."""
        try:
            return self.inferer(*given, **named)
        except NotAssessableError as error:
            return error


def _computed(network: SliceModel, batch: Tensor, scales: list[float]) -> list[SliceOutput]:
    """Return the outputs of a batch; where the memory of the GPU is too small, half by half."""
    try:
        return list(network(batch, scales))
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise CovidCTMaskNetError(
                "OUT_OF_MEMORY",
                "The memory of the GPU does not suffice for one slice; free it or use the CPU (device cpu).",
            ) from error
    torch.cuda.empty_cache()
    half = len(batch) // 2
    return [
        *_computed(network, batch[:half], scales[:half]),
        *_computed(network, batch[half:], scales[half:]),
    ]


def _reading_order(indices: list[int], sampling: SliceSampling | None) -> list[int]:
    """Return the places of the inputs in the order in which they are read."""
    if sampling is None:
        return list(range(len(indices)))
    place = {index: place for place, index in enumerate(indices)}
    return [place[index] for index in sampling.order]


def crop_masks(
    masks: Tensor, boxes: Tensor, shape: tuple[int, int], threshold: float
) -> list[tuple[tuple[int, int], NDArray[np.bool_]]]:
    """Return the lesion pixels of each detection as (row, column) of a corner and a small mask.

    What torchvision's ``paste_masks_in_image`` draws into a whole slice and is above the threshold there,
    without a slice-sized array for each detection.

    Parameters
    ----------
    masks : Tensor
        (n, 1, m, m) probabilities, each spanning its box.
    boxes : Tensor
        (n, 4) in pixels of the slice.
    shape : (int, int)
        Height and width of the slice.
    threshold : float
        Probability above which a pixel is part of the lesion.
    """
    if not len(masks):
        return []
    padded, scale = expand_masks(masks.float().cpu(), _MASK_PADDING)
    corners = expand_boxes(boxes.cpu(), scale).to(torch.int64).tolist()
    cropped = []
    for mask, (x0, y0, x1, y1) in zip(padded, corners, strict=True):
        # Both corners belong to the box: torchvision's convention.
        size = (max(y1 - y0 + 1, 1), max(x1 - x0 + 1, 1))
        drawn = functional.interpolate(mask[None], size=size, mode="bilinear", align_corners=False)[0, 0]
        row, column = max(y0, 0), max(x0, 0)
        inside = drawn[row - y0 : min(y1 + 1, shape[0]) - y0, column - x0 : min(x1 + 1, shape[1]) - x0]
        cropped.append(((row, column), (inside > threshold).numpy()))
    return cropped


def prepare_volume(
    batch: Mapping[str, Any], device: torch.device, non_blocking: bool, **_: Any
) -> tuple[Tensor, None, tuple[list[int]], dict[str, Any]]:
    """Take a preprocessed volume apart for the inferer: MONAI engines' ``prepare_batch``.

    Slices stay where they are; the inferer moves one batch at a time to the device.
    """
    del device, non_blocking
    indices = [int(i) for i in batch[SLICE_INDICES]]
    given = {
        "crop": batch.get(SLICE_CROP),
        "sampling": batch.get(SLICE_SAMPLING),
        # A volume that was declined may have been neither read nor searched for lungs.
        "lungs": None if DECLINED in batch else lung_space(batch),
    }
    return batch[SLICES], None, (indices,), given


def lung_space(
    data: Mapping[Any, Any], volume_key: str = "volume", lungs_key: str = "lung_mask"
) -> LungSpace:
    """Return the lungs of a preprocessed volume."""
    affine = np.asarray(data[volume_key].affine, dtype=np.float64)
    return LungSpace(np.asarray(data[lungs_key][0], dtype=np.uint8), voxel_spacing(affine))


def single_volume(batch: Sequence[Any]) -> Any:
    """Return the only volume of a batch: volumes differ in size and are never stacked (``collate_fn``)."""
    if len(batch) != 1:
        raise UsageError("BATCH_SIZE", f"The loader gave {len(batch)} volumes at once; set batch_size to 1.")
    return batch[0]


def _lesion_classes(network: SliceModel) -> Mapping[int, LesionClass]:
    mask_type = network.detector.settings.mask_type
    if mask_type not in _DETECTOR_LABELS:
        raise UsageError(
            "MASK_TYPE",
            f"The lesion detector was trained with mask type {mask_type.value}, which does not tell "
            "ground-glass opacity and consolidation apart; volume triage needs a model of type both or ggo.",
        )
    return _DETECTOR_LABELS[mask_type]
