"""Evaluation of lesion detectors inside MONAI's engines: figures, lesions and samples into a run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor

from covid_ct_mask_net.checkpoints import load_segmentation
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.datasets.read import WINDOW_LEVEL, WINDOW_WIDTH, ReadSliced
from covid_ct_mask_net.training.datasets.records import FILE, IMAGE, MASK, PATIENT, Record, data_hash
from covid_ct_mask_net.training.evaluation import DetectionReport
from covid_ct_mask_net.training.files import FolderReplacement
from covid_ct_mask_net.training.handlers import EvaluationWriter
from covid_ct_mask_net.training.lesion_statistics import SliceLesions, lesions_of, write_lesions
from covid_ct_mask_net.training.metrics.protocols import Protocol, protocol
from covid_ct_mask_net.training.predictions import MAIN, check_evaluation_name, evaluation_stem
from covid_ct_mask_net.training.runs import Evaluation, RunInfo, add_evaluation, check_source
from covid_ct_mask_net.training.samples import (
    Sample,
    SampleDetections,
    detected,
    grey_levels,
    highest_mask_logits,
    samples_folder,
    spread_out,
    write_sample,
)
from covid_ct_mask_net.training.tables.overlays import inference_overlay
from covid_ct_mask_net.training.targets import TARGET, LesionTargetsd, merged_labels

OVERLAYS = "overlays"


@dataclass(frozen=True)
class DetectionPlan:
    """What one evaluation of a detector is and what it leaves.

    Attributes
    ----------
    name
        Of the evaluation.
    dataset, source
        Name for people, and ``internal`` or ``external``.
    original
        Thresholds of the original's AP.
    samples
        Number of slices to keep for figures.
    sample_nms
        RoI NMS thresholds that samples are detected with (paper, Figure 6).
    overlays
        Whether every slice is drawn with its detections, too.
    overlay_score
        Score from which overlays show detections.
    """

    name: str = MAIN
    dataset: str = ""
    source: str = "internal"
    original: Protocol = field(default_factory=protocol)
    samples: int = 6
    sample_nms: tuple[float, ...] = (0.25, 0.75)
    overlays: bool = False
    overlay_score: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample_nms", tuple(float(one) for one in self.sample_nms))
        check_evaluation_name(self.name)


def evaluation_transforms(
    mask_type: MaskType | str,
    minimum_area: int,
    window_level: float = WINDOW_LEVEL,
    window_width: float = WINDOW_WIDTH,
) -> Compose:
    """Return reading, of volumes under a HU window, and targets of slices with masks.

    Label images stay, for Dice counts all lesions.
    """
    steps = [ReadSliced(window_level, window_width), LesionTargetsd(mask_type, minimum_area, keep_mask=True)]
    return Compose(steps)


class WriteDetections(EvaluationWriter):
    """Collect detections, and when all slices are done write figures, lesions and samples.

    Parameters
    ----------
    folder : path
        Run folder.
    plan : DetectionPlan
    detector : LesionDetector
    records : sequence of dict
        The slices that are evaluated.
    described : RunInfo
        For a folder without ``run.json``.
    classifier : CovidCTMaskNet, optional
        Gives samples their class logits.
    window : mapping, optional
        HU window that volumes were read under (`sources.window_settings`), which figures are written with.
    """

    def __init__(
        self,
        folder: str | Path,
        plan: DetectionPlan,
        detector: LesionDetector,
        records: Sequence[Record],
        described: RunInfo,
        classifier: CovidCTMaskNet | None = None,
        window: Mapping[str, float] | None = None,
    ) -> None:
        if not records:
            raise UsageError("NO_SLICES", "There are no slices to evaluate.")
        check_source(Path(folder), plan.name, plan.source)
        self.folder = Path(folder)
        self.plan = plan
        self.detector = detector
        self.records = records
        self.described = described
        self.classifier = classifier
        self.window = dict(window) if window else {}
        self.mask_type = detector.settings.mask_type
        self._shown = {records[index][FILE] for index in spread_out(len(records), plan.samples)}
        self._report = DetectionReport(self.mask_type, plan.original)
        self._lesions: list[SliceLesions] = []
        self._samples = FolderReplacement(samples_folder(self.folder, plan.name))
        self._overlays = FolderReplacement(self.folder / evaluation_stem(OVERLAYS, plan.name))

    def reset(self) -> None:
        """Forget all slices."""
        self._samples.begin()
        self._overlays.begin()
        self._report = DetectionReport(self.mask_type, self.plan.original)
        self._lesions.clear()

    def collect(self, batch: Any, predicted: Any) -> None:
        """Take the slices of a batch."""
        for item, detection in zip(batch, predicted, strict=True):
            labels = np.asarray(item[MASK])[0]
            self._report.update(
                detection, item[TARGET], merged_labels(labels, self.mask_type), str(item[PATIENT])
            )
            self._lesions += lesions_of(item[FILE], labels)
            if item[FILE] in self._shown:
                write_sample(self._samples.partial, self._sample(item, labels))
            if self.plan.overlays:
                self._overlay(item, labels, detection)

    def _sample(self, item: Mapping[str, Any], labels: NDArray[np.uint8]) -> Sample:
        found = {nms: detected(self.detector, item[IMAGE], nms) for nms in self.plan.sample_nms}
        widest = found[max(found)] if found else None
        logits = None
        if self.classifier is not None:
            device = next(self.classifier.parameters()).device
            with torch.no_grad():
                logits = self.classifier.eval()([item[IMAGE].to(device)])[0].double().cpu().numpy()
        return Sample(
            file=item[FILE],
            image=grey_levels(item[IMAGE]),
            truth=labels,
            detections={nms: SampleDetections.of(one) for nms, one in found.items()},
            mask_logits=None if widest is None else highest_mask_logits(widest),
            class_logits=logits,
        )

    def _overlay(
        self, item: Mapping[str, Any], labels: NDArray[np.uint8], detection: Mapping[str, Tensor]
    ) -> None:
        found = {self.detector.settings.roi_nms: SampleDetections.of(detection)}
        sample = Sample(item[FILE], grey_levels(item[IMAGE]), labels, found)
        write_overlay(self._overlays.partial, sample, self.mask_type, self.plan.overlay_score)

    def write(self) -> None:
        """Write figures and what belongs to them."""
        plan = self.plan
        write_lesions(self.folder, self._lesions, plan.name)
        self._samples.replace()
        if plan.overlays:
            self._overlays.replace()
        evaluation = Evaluation(plan.dataset or plan.name, plan.source, data_hash(self.records))
        noted = {"window": self.window} if self.window else {}
        add_evaluation(
            self.folder, plan.name, evaluation, {**self._report.compute(), **noted}, self.described
        )


def write_overlay(folder: Path, sample: Sample, mask_type: MaskType, score: float) -> Path | None:
    """Draw a slice with its detections from a score on into a folder."""
    stem = sample.file.rsplit(".", 1)[0].replace("/", "_")
    return inference_overlay(sample, folder / f"{stem}.png", mask_type, score)


def loaded_detector(
    weights: str | Path,
    roi_nms: float | None = None,
    detections: int | None = None,
    confidence: float | None = None,
) -> LesionDetector:
    """Return the detector of a checkpoint, with other thresholds where they are given.

    Parameters
    ----------
    weights : path
    roi_nms : float, optional
        RoI NMS threshold; the checkpoint's if None.
    detections : int, optional
        Most detections of a slice; the checkpoint's if None.
    confidence : float, optional
        Score down to which detections are wanted: a checkpoint whose own threshold is higher gets this one.
    """
    detector = load_segmentation(Path(weights))
    settings, heads = detector.settings, detector.roi_heads
    heads.nms_thresh = settings.roi_nms if roi_nms is None else roi_nms
    heads.detections_per_img = settings.detections if detections is None else detections
    heads.score_thresh = settings.roi_score if confidence is None else min(settings.roi_score, confidence)
    detector.settings = dataclasses.replace(
        settings,
        roi_nms=heads.nms_thresh,
        detections=heads.detections_per_img,
        roi_score=heads.score_thresh,
    )
    return detector


def described_detector(detector: LesionDetector, mode: str) -> RunInfo:
    """Describe a detector whose training left no run folder, such as an imported one."""
    return RunInfo(
        "segmentation",
        mode,
        mask_type=detector.settings.mask_type.value,
        settings={"detector": detector.settings.to_dict()},
        parameters={"total": sum(tensor.numel() for tensor in detector.state_dict().values())},
    )
