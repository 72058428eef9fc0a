"""Evaluation of slice classifiers in MONAI's engines: predictions, figures and samples into a run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose
from torch import Tensor

from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.baselines import WholeSliceClassifier
from covid_ct_mask_net.training.changes import (
    CHANGE,
    ChangeSliced,
    change_in,
    changed_evaluation,
    under_changes,
)
from covid_ct_mask_net.training.datasets.ictcf import BINARY_CLASS_NAMES, listed_images
from covid_ct_mask_net.training.datasets.lists import read_list
from covid_ct_mask_net.training.datasets.read import WINDOW_LEVEL, WINDOW_WIDTH, ReadSliced
from covid_ct_mask_net.training.datasets.records import FILE, IMAGE, PATIENT, SLICE_CLASS, Record, data_hash
from covid_ct_mask_net.training.demographics import demographics
from covid_ct_mask_net.training.evaluation import classification_report
from covid_ct_mask_net.training.files import FolderReplacement
from covid_ct_mask_net.training.handlers import EvaluationWriter
from covid_ct_mask_net.training.predictions import (
    MAIN,
    Predictions,
    check_evaluation_name,
    predictions_file,
    read_predictions,
    write_predictions,
)
from covid_ct_mask_net.training.runs import (
    Evaluation,
    RunInfo,
    add_evaluation,
    check_source,
    described_run,
    why_left_out,
)
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

VALIDATION = "validation"


@dataclass(frozen=True)
class ClassificationPlan:
    """What one evaluation is and what it leaves.

    Attributes
    ----------
    name
        Of the evaluation: ``test``, ``validation``, ``left_out`` or any other word.
    dataset, source
        Name for people, and ``internal`` or ``external`` (`runs.Evaluation`).
    class_names
        Slice classes by id.
    prevalence
        Of each class, at which predictive values are reported too.
    metadata
        Table of patients for demographics.
    samples
        Number of slices to keep for figures.
    changes
        Names of `changes`; predictions of each are written under a name of their own
        (`changes.changed_evaluation`). Without any, slices as they are.
    limit
        Slices to evaluate, spread over the list; 0 for all.
    """

    name: str = MAIN
    dataset: str = ""
    source: str = "internal"
    class_names: tuple[str, ...] = ()
    prevalence: tuple[float, ...] | None = None
    metadata: str | None = None
    samples: int = 0
    changes: tuple[str, ...] = field(default=())
    limit: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "changes", tuple(self.changes))
        if self.prevalence is not None:
            object.__setattr__(self, "prevalence", tuple(self.prevalence))
        check_evaluation_name(self.name)
        if change_in(self.name):
            raise UsageError(
                "EVALUATION",
                f"The evaluation is called {self.name!r}, as those of changed slices are; another name was "
                "expected, with the change under changes.",
            )


def planned_slices(records: Sequence[Record], plan: ClassificationPlan) -> list[Record]:
    """Return the slices of a plan, once for each change."""
    chosen = [records[index] for index in spread_out(len(records), plan.limit or len(records))]
    return under_changes(chosen, plan.changes) if plan.changes else chosen


def evaluation_transforms(window_level: float = WINDOW_LEVEL, window_width: float = WINDOW_WIDTH) -> Compose:
    """Return reading, of volumes under a HU window, and changing of slices."""
    return Compose([ReadSliced(window_level, window_width), ChangeSliced()])


def prepare_slices(
    batch: Sequence[Mapping[str, Any]], device: torch.device, non_blocking: bool, **_: Any
) -> tuple[list[Tensor], None]:
    """Move a list of data dictionaries to the device: MONAI engines' ``prepare_batch``."""
    return [item[IMAGE].to(device, non_blocking=non_blocking) for item in batch], None


class WriteClassifications(EvaluationWriter):
    """Collect logits, and when all slices are done write predictions, figures and samples.

    Parameters
    ----------
    folder : path
        Run folder.
    plan : ClassificationPlan
    records : sequence of dict
        The planned slices (`planned_slices`).
    described : RunInfo
        For a folder without ``run.json``; its training patients also for one that states none.
    detector : LesionDetector, optional
        Finds the lesions of samples, and the logits of their masks.
    nms : mapping, optional
        NMS thresholds of the network (`classifier_starts.nms_of`), which figures are written with.
    window : mapping, optional
        HU window that volumes were read under (`sources.window_settings`), likewise.

    Raises
    ------
    UsageError
        If ``run.json`` states other training patients than ``described``, or has an evaluation of that name
        and another source.
    """

    def __init__(
        self,
        folder: str | Path,
        plan: ClassificationPlan,
        records: Sequence[Record],
        described: RunInfo,
        detector: LesionDetector | None = None,
        nms: Mapping[str, float] | None = None,
        window: Mapping[str, float] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.plan = plan
        self.described = described
        self.detector = detector
        # Baselines have no NMS, images no window.
        self._noted = {name: dict(one) for name, one in (("nms", nms), ("window", window)) if one}
        _check_training_patients(self.folder, described)
        check_source(self.folder, plan.name, plan.source)
        self._shown = {records[index][FILE] for index in spread_out(len(records), plan.samples)}
        self._records: list[Mapping[str, Any]] = []
        self._logits: list[Tensor] = []
        self._samples = FolderReplacement(samples_folder(self.folder, plan.name))

    def reset(self) -> None:
        """Forget all slices."""
        self._samples.begin()
        self._records.clear()
        self._logits.clear()

    def collect(self, batch: Any, predicted: Any) -> None:
        """Take the slices of a batch."""
        logits = predicted.detach().double().cpu()
        self._check(logits, batch)
        # Images stay only as long as their batch.
        self._records += [{key: value for key, value in item.items() if key != IMAGE} for item in batch]
        self._logits.append(logits)
        for item, row in zip(batch, logits, strict=True):
            if item[FILE] in self._shown and CHANGE not in item:
                write_sample(self._samples.partial, self._sample(item, row))

    def _check(self, logits: Tensor, batch: Sequence[Mapping[str, Any]]) -> None:
        names = self.plan.class_names
        if logits.shape[1] != len(names):
            raise UsageError(
                "CLASSES",
                f"The network tells {logits.shape[1]} classes apart, but class_names has {len(names)} "
                f"({', '.join(names)}).",
            )
        for item, row in zip(batch, logits, strict=True):
            if not torch.isfinite(row).all():
                raise NotAssessableError(
                    "MODEL_NON_FINITE",
                    f"The network gave no number for {item[FILE]}; the weights are unusable.",
                )
            if int(item[SLICE_CLASS]) >= len(names):
                raise UsageError(
                    "CLASSES",
                    f"{item[FILE]} has class {item[SLICE_CLASS]}, but class_names has {', '.join(names)}.",
                )

    def _sample(self, item: Mapping[str, Any], logits: Tensor) -> Sample:
        sample = Sample(
            file=item[FILE],
            image=grey_levels(item[IMAGE]),
            class_logits=logits.numpy(),
            slice_class=int(item[SLICE_CLASS]),
        )
        if self.detector is None:
            return sample
        nms = self.detector.settings.roi_nms
        detection = detected(self.detector, item[IMAGE], nms)
        return dataclasses.replace(
            sample,
            detections={nms: SampleDetections.of(detection)},
            mask_logits=highest_mask_logits(detection),
        )

    def write(self) -> None:
        """Write figures and what belongs to them."""
        logits = torch.cat(self._logits).numpy()
        # Changed slices leave no samples, nor do they take those of the slices as they are.
        if not self.plan.changes:
            self._samples.replace()
        changes = [record.get(CHANGE) for record in self._records]
        for change in dict.fromkeys(changes):
            chosen = [index for index, one in enumerate(changes) if one == change]
            records = [self._records[index] for index in chosen]
            name = self.plan.name if change is None else changed_evaluation(self.plan.name, change)
            write_predictions(self.folder, records, logits[chosen], name)
            self._note(name, records)

    def _note(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        plan, classes = self.plan, len(self.plan.class_names)
        predictions = read_predictions(self.folder / predictions_file(name), classes)
        metadata = plan.metadata and demographics(plan.metadata, (str(one[PATIENT]) for one in records))
        figures = classification_report(
            predictions,
            plan.class_names,
            validation=self._validation(),
            prevalence=plan.prevalence,
            demographics=metadata or None,
        )
        evaluation = Evaluation(plan.dataset or name, plan.source, data_hash(records))
        add_evaluation(self.folder, name, evaluation, {**figures, **self._noted}, self.described)

    def _validation(self) -> Predictions | None:
        """Return the folder's validation predictions; a temperature is never fitted on what it scales.

        Those of weights before the last training are none.
        """
        path = self.folder / predictions_file(VALIDATION)
        info = described_run(self.folder)
        known = info is not None and not why_left_out(info, VALIDATION)
        if self.plan.name == VALIDATION or not known or not path.is_file():
            return None
        return read_predictions(path, len(self.plan.class_names))


def listed_patients(layout: str, dataset_dir: str | Path, listed: str | Path | None) -> tuple[str, ...]:
    """Return ``class/patient`` of the slices of a list, as `RunInfo.training_patients` has them.

    Parameters
    ----------
    layout : str
        ``covidx`` or ``ictcf``: how the list names slices.
    dataset_dir : path
        Where the list may lie; images are not needed.
    listed : path, optional
        None for no list, and no patients.

    Raises
    ------
    UsageError
        If there is no such list, or its layout has none of names.
    RefusedInputError
        If a line cannot be read or has no class.
    """
    if listed is None:
        return ()
    path = Path(dataset_dir) / listed if (Path(dataset_dir) / listed).is_file() else Path(listed)
    if layout == "covidx":
        return tuple(sorted({f"{int(one.name.known_class())}/{one.patient}" for one in read_list(path)}))
    if layout == "ictcf":
        return tuple(sorted({f"{int(one.slice_class)}/{one.patient}" for one in listed_images(path)}))
    raise UsageError(
        "TRAINED_LIST",
        f"trained_list names slices of the layouts covidx and ictcf, not of {layout}; leave it out.",
    )


def _check_training_patients(folder: Path, described: RunInfo) -> None:
    info, listed = described_run(folder), set(described.training_patients)
    known = set() if info is None else set(info.training_patients)
    if known and listed and known != listed:
        raise UsageError(
            "TRAINED_LIST",
            f"trained_list has {len(listed):,} patients, but run.json of {folder} states {len(known):,} "
            "training patients that are not the same; leave trained_list out, or evaluate into a new folder.",
        )


def described_classifier(
    network: CovidCTMaskNet | WholeSliceClassifier,
    mode: str,
    classes: int,
    training_patients: Sequence[str] = (),
) -> RunInfo:
    """Describe a classifier whose training left no run folder, such as an imported one.

    Parameters
    ----------
    network : CovidCTMaskNet or WholeSliceClassifier
    mode : str
        What was trained: ``s``, ``s_bn`` or ``full``.
    classes : int
        Number of slice classes.
    training_patients : sequence of str
        ``class/patient`` of the slices trained on (`listed_patients`), where they are known.
    """
    total = sum(tensor.numel() for tensor in network.state_dict().values())
    kind = "classifier" if classes > len(BINARY_CLASS_NAMES) else "binary"
    names = SLICE_CLASS_NAMES if kind == "classifier" else BINARY_CLASS_NAMES
    if isinstance(network, WholeSliceClassifier):
        return RunInfo(
            kind,
            mode,
            model=network.name,
            class_names=names,
            parameters={"total": total, "trainable": total},
            training_patients=tuple(training_patients),
        )
    return RunInfo(
        kind,
        mode,
        mask_type=network.detector_settings.mask_type.value,
        settings={
            "detector": network.detector_settings.to_dict(),
            "classifier": network.settings.to_dict(),
        },
        class_names=names,
        parameters={"total": total},
        training_patients=tuple(training_patients),
    )
