"""Run folders: what a training or evaluation leaves, and all that tables and figures are made from.

::

    RUN/run.json              what was run: kind, mode, settings, git commit, data hashes, evaluations
    RUN/history.csv           a line an epoch: ``epoch``, then a column a loss or validation figure
    RUN/predictions.csv       the main evaluation of a classifier, a line a slice
    RUN/predictions-NAME.csv  further evaluations: validation, left_out, an external set ...
    RUN/metrics.json          figures by evaluation (`evaluation.classification_report`, `DetectionReport`)
    RUN/lesions.csv           lesions of each evaluated slice (`lesion_statistics`), for Figure 2
    RUN/lesions-NAME.csv      those of further evaluations
    RUN/samples/FILE.npz      slices with masks and detections, for figures (`samples.write_sample`)
    RUN/samples-NAME/         those of further evaluations

Predictions are described and written by `predictions`. Numbers in tables are computed again from predictions;
``metrics.json`` is for people and for detection figures, which need the images.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.files import csv_text, read_json, read_rows, write_text
from covid_ct_mask_net.training.predictions import MAIN, Predictions, predictions_file, read_predictions

SCHEMA = "covid-ct-mask-net/run/1"
MODES = {
    "segmentation": ("roi_heads", "heads", "held_stem", "full"),
    "classifier": ("s", "s_boxes", "s_bn", "full"),
    "binary": ("s", "s_boxes", "s_bn", "full"),
}
SOURCES = ("internal", "external")


@dataclass(frozen=True)
class Evaluation:
    """One set of slices that a run was evaluated on.

    Attributes
    ----------
    dataset
        Its name for people, for example ``COVIDx-CT v1 test``.
    source
        ``internal`` where it comes from the collection that was trained on, else ``external``; tables never
        mix the two.
    data_hash
        Of its slices (`datasets.records.data_hash`).
    stale
        Whether the run was trained on since, so that its figures are of older weights.
    """

    dataset: str
    source: str = "internal"
    data_hash: str = ""
    stale: bool = False


@dataclass(frozen=True)
class RunInfo:
    """``run.json``.

    Attributes
    ----------
    kind, mode
        ``segmentation`` (roi_heads, heads, held_stem, full), ``classifier`` or ``binary`` (s,
        s_boxes, s_bn, full).
    model
        ``covid-ct-mask-net``, or a baseline: resnet50, resnet18, densenet121, light-cnn.
    mask_type
        Lesions of the segmentation network behind it: both, ggo, merge.
    settings
        Plain values: ``detector``, ``classifier``, ``training`` (epochs, learning rate, weight decay, batch
        ...).
    class_names
        Slice classes by id.
    parameters
        ``total`` (parameters and buffers) and ``trainable``.
    data
        Hash of each split used for training.
    training_patients
        ``class/patient`` of every slice trained on, for patient-disjoint readings, which compare patients
        alone (`patients_trained_on`); empty where unknown.
    evaluations
        By name; ``test`` is the main one.
    git, seed, software
        What it takes to run it again.
    """

    kind: str
    mode: str
    model: str = "covid-ct-mask-net"
    mask_type: str = "both"
    settings: Mapping[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] = SLICE_CLASS_NAMES
    parameters: Mapping[str, int] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    training_patients: tuple[str, ...] = ()
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    git: str = "unknown"
    seed: int | None = None
    software: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in MODES or self.mode not in MODES[self.kind]:
            allowed = "; ".join(f"{kind}: {', '.join(modes)}" for kind, modes in MODES.items())
            raise UsageError(
                "RUN_KIND", f"A run of kind {self.kind!r} and mode {self.mode!r} is unknown; {allowed}."
            )
        wrong = [name for name, one in self.evaluations.items() if one.source not in SOURCES]
        if wrong:
            raise UsageError(
                "RUN_SOURCE", f"The source of evaluation {wrong[0]} must be {' or '.join(SOURCES)}."
            )

    @property
    def label(self) -> str:
        """Name for people: ``covid-ct-mask-net s_bn (both)``, ``resnet50``."""
        if self.model != "covid-ct-mask-net":
            return self.model
        return f"{self.model} {self.mode} ({self.mask_type})"

    @property
    def patients_trained_on(self) -> frozenset[str]:
        """Patients of the slices trained on, whatever the classes of those; empty where unknown."""
        return frozenset(one.partition("/")[2] for one in self.training_patients)


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder as it was read.

    Attributes
    ----------
    folder, info
        Where it lies and what it is.
    predictions
        By name of the evaluation.
    metrics
        ``metrics.json``.
    history
        Columns of ``history.csv`` by name, NaN where a line has no value.
    left_out
        Why evaluations in the folder are neither in predictions nor in metrics, by name: they are of older
        weights, or ``run.json`` does not say what they are of.
    """

    folder: Path
    info: RunInfo
    predictions: Mapping[str, Predictions]
    metrics: Mapping[str, Any]
    history: Mapping[str, NDArray[np.float64]]
    left_out: Mapping[str, str] = field(default_factory=dict)


def write_info(folder: Path, info: RunInfo) -> Path:
    """Write ``run.json``; the folder is made."""
    return write_text(
        folder / "run.json", json.dumps({"schema": SCHEMA, **dataclasses.asdict(info)}, indent=2) + "\n"
    )


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> Path:
    """Write ``metrics.json``, by name of the evaluation; figures that do not exist are null."""
    return write_text(folder / "metrics.json", json.dumps(_finite(metrics), indent=2, allow_nan=False) + "\n")


def add_evaluation(
    folder: Path, name: str, evaluation: Evaluation, figures: Mapping[str, Any], described: RunInfo
) -> None:
    """Note an evaluation in ``run.json`` and ``metrics.json``, replacing an earlier one of that name.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder; of a training, or new where imported weights are evaluated.
    name : str
    evaluation : Evaluation
    figures : mapping
        For ``metrics.json``.
    described : RunInfo
        Written where the folder has no ``run.json`` yet; its training patients also where that has none.
    """
    info = described_run(folder) or described
    if not info.training_patients:
        info = dataclasses.replace(info, training_patients=described.training_patients)
    write_info(folder, dataclasses.replace(info, evaluations={**info.evaluations, name: evaluation}))
    metrics_path = folder / "metrics.json"
    metrics = read_json(metrics_path) if metrics_path.is_file() else {}
    write_metrics(folder, {**metrics, name: figures})


def described_run(folder: Path) -> RunInfo | None:
    """Return what ``run.json`` of a folder says, or None where there is none."""
    path = folder / "run.json"
    return _info(path) if path.is_file() else None


def why_left_out(info: RunInfo, name: str) -> str:
    """Return why the files of an evaluation are no figures of a run; empty if they are."""
    if name not in info.evaluations:
        return "run.json does not say on which slices it was made"
    return "of weights before the last training; evaluate again" if info.evaluations[name].stale else ""


def check_source(folder: Path, name: str, source: str) -> None:
    """Refuse an evaluation that would replace one of another source under the same name.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder; may be new.
    name, source : str
        Of the evaluation to come; for changed slices, of that whose slices are changed.

    Raises
    ------
    UsageError
        ``EVALUATION_SOURCE``; the sentence says what is there.
    """
    info = described_run(folder)
    there = None if info is None else info.evaluations.get(name)
    if there is not None and not there.stale and there.source != source:
        raise UsageError(
            "EVALUATION_SOURCE",
            f"Evaluation {name} of {folder} is {there.source} ({there.dataset}), but this one is {source}; "
            "give it a name of its own (--evaluation), for it would replace the other.",
        )


def append_history(folder: Path, row: Mapping[str, float]) -> Path:
    """Add one epoch to ``history.csv``; a resumed run writes over epochs that it repeats.

    Parameters
    ----------
    folder : pathlib.Path
    row : mapping of str to float
        With ``epoch``; new columns may appear at any epoch.
    """
    path = folder / "history.csv"
    rows = [line for line in read_rows(path) if float(line["epoch"]) < row["epoch"]] if path.is_file() else []
    rows.append({name: repr(value) for name, value in row.items()})
    columns = list(dict.fromkeys(["epoch", *(name for line in rows for name in line)]))
    lines = [columns, *([line.get(name) or "" for name in columns] for line in rows)]
    return write_text(path, csv_text(lines))


def read_run(folder: Path | str) -> Run:
    """Read a run folder; evaluations that are not of its weights, or not described, are left out by name.

    Raises
    ------
    UsageError
        If the folder has no ``run.json``.
    RefusedInputError
        If a file of it cannot be understood; the sentence names it.
    """
    folder = Path(folder)
    info = described_run(folder)
    if info is None:
        raise UsageError("RUN_MISSING", f"There is no run in {folder}: run.json is missing.")
    files = {MAIN: folder / predictions_file(MAIN)} | {
        one.stem.removeprefix("predictions-"): one for one in sorted(folder.glob("predictions-*.csv"))
    }
    metrics_path = folder / "metrics.json"
    metrics = read_json(metrics_path) if metrics_path.is_file() else {}
    there = sorted({*metrics, *(name for name, one in files.items() if one.is_file())})
    left_out = {name: reason for name in there if (reason := why_left_out(info, name))}
    return Run(
        folder=folder,
        info=info,
        predictions={
            name: read_predictions(one, len(info.class_names))
            for name, one in files.items()
            if one.is_file() and name not in left_out
        },
        metrics={name: one for name, one in metrics.items() if name not in left_out},
        history=_history(folder / "history.csv"),
        left_out=left_out,
    )


def git_commit(folder: Path) -> str:
    """Return the commit of a checkout, with ``+changes`` where files differ; "unknown" outside of one."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    try:
        commit = _git(git, folder, "rev-parse", "HEAD")
        changed = _git(git, folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


def _git(git: str, folder: Path, *arguments: str) -> str:
    command = [git, "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)  # noqa: S603
    return done.stdout.strip()


def _info(path: Path) -> RunInfo:
    values = read_json(path)
    if values.pop("schema", None) != SCHEMA:
        raise RefusedInputError("RUN_SCHEMA", f"{path} does not have the schema {SCHEMA}.")
    try:
        values["evaluations"] = {
            name: Evaluation(**one) for name, one in values.get("evaluations", {}).items()
        }
        for name in ("class_names", "training_patients"):
            values[name] = tuple(values.get(name, ()))
        return RunInfo(**values)
    except TypeError as error:
        raise RefusedInputError("RUN_SCHEMA", f"{path} cannot be understood: {error}.") from error


def _finite(value: Any) -> Any:
    """Return plain values with null in place of NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _history(path: Path) -> dict[str, NDArray[np.float64]]:
    rows = read_rows(path) if path.is_file() else []
    columns = list(rows[0]) if rows else []
    try:
        return {
            name: np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in columns
        }
    except (TypeError, ValueError) as error:
        raise RefusedInputError("HISTORY", f"{path} has a value that is no number: {error}.") from error
