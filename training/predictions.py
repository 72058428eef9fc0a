"""Predictions of a classifier, a line a slice: ``file, patient, scan, slice, true, logit_0, logit_1 ...``.

Where the collection states classes of whole scans, ``scan_class`` follows ``true``; empty where it does not.
Logits are kept and not probabilities, so that temperatures can be fitted afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.records import SCAN_CLASS
from covid_ct_mask_net.training.files import csv_text, read_rows, write_text

MAIN = "test"
# In place of the class of a scan that has none stated.
UNSTATED = -1
_COLUMNS = ("file", "patient", "scan", "slice", "true")


@dataclass(frozen=True, eq=False)
class Predictions:
    """One evaluation of a classifier.

    Attributes
    ----------
    files, patients, scans
        A name a slice.
    slices, true
        (n,) numbers in the scan, and class ids.
    logits
        (n, classes).
    scan_classes
        (n,) class of the slice's scan as the collection states it, `UNSTATED` where it does not; None where
        it states none.
    """

    files: tuple[str, ...]
    patients: tuple[str, ...]
    scans: tuple[str, ...]
    slices: NDArray[np.int64]
    true: NDArray[np.int64]
    logits: NDArray[np.float64]
    scan_classes: NDArray[np.int64] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class ids (n,) of the highest logits."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    def select(self, chosen: NDArray[np.bool_]) -> Predictions:
        """Return the chosen slices, (n,) of bool."""
        indices = np.flatnonzero(chosen)
        return Predictions(
            files=tuple(self.files[index] for index in indices),
            patients=tuple(self.patients[index] for index in indices),
            scans=tuple(self.scans[index] for index in indices),
            slices=self.slices[indices],
            true=self.true[indices],
            logits=self.logits[indices],
            scan_classes=None if self.scan_classes is None else self.scan_classes[indices],
        )


def write_predictions(
    folder: Path, records: Sequence[Mapping[str, Any]], logits: ArrayLike, name: str = MAIN
) -> Path:
    """Write the predictions of one evaluation.

    Parameters
    ----------
    folder : pathlib.Path
    records : sequence of mapping
        Data dictionaries with ``file``, ``patient``, ``scan``, ``slice``, ``slice_class`` and maybe
        ``scan_class``.
    logits : (n, classes)
        In the order of the records.
    name : str
        Of the evaluation.
    """
    table = np.asarray(logits, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(records):
        raise UsageError(
            "PREDICTIONS",
            f"There are {len(records)} slices and logits of shape {table.shape}; a row a slice fits.",
        )
    stated = any(SCAN_CLASS in record for record in records)
    scan_class = [SCAN_CLASS] if stated else []
    lines = [[*_COLUMNS, *scan_class, *(f"logit_{index}" for index in range(table.shape[1]))]]
    for record, row in zip(records, table, strict=True):
        values = [record["file"], record["patient"], record["scan"], record["slice"], record["slice_class"]]
        values += [record.get(SCAN_CLASS, "")] if stated else []
        lines.append([*map(str, values), *(repr(float(value)) for value in row)])
    return write_text(folder / predictions_file(name), csv_text(lines))


def predictions_file(name: str) -> str:
    """Return the name of the file of an evaluation."""
    return evaluation_file("predictions", name)


def evaluation_file(stem: str, name: str) -> str:
    """Return the name of a CSV file that each evaluation has of its own."""
    return f"{evaluation_stem(stem, name)}.csv"


def evaluation_stem(stem: str, name: str) -> str:
    """Return how files and folders of an evaluation are called; those of the main one by the stem alone."""
    return stem if name == MAIN else f"{stem}-{name}"


def check_evaluation_name(name: str) -> None:
    """Refuse names that cannot be part of the name of a file.

    Raises
    ------
    UsageError
        ``EVALUATION``; the sentence says what may be in a name.
    """
    if not name.replace("_", "").replace("-", "").isalnum():
        raise UsageError(
            "EVALUATION", f"The evaluation is called {name!r}; letters, digits, - and _ were expected."
        )


def read_predictions(path: Path, classes: int) -> Predictions:
    """Read a file of predictions.

    Raises
    ------
    RefusedInputError
        If columns are missing, a number cannot be read or a class is unknown; the sentence names file and
        line.
    """
    rows = read_rows(path)
    names = [*_COLUMNS, *(f"logit_{index}" for index in range(classes))]
    missing = [name for name in names if not rows or name not in rows[0]]
    if missing:
        raise RefusedInputError(
            "PREDICTIONS",
            f"{path} has no column {missing[0]}, or no lines; {', '.join(names)} were expected.",
        )
    try:
        true = np.array([int(row["true"]) for row in rows], dtype=np.int64)
        slices = np.array([int(row["slice"]) for row in rows], dtype=np.int64)
        logits = np.array([[float(row[name]) for name in names[len(_COLUMNS) :]] for row in rows])
        stated = None
        if SCAN_CLASS in rows[0]:
            stated = np.array([int(row[SCAN_CLASS] or UNSTATED) for row in rows], dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise RefusedInputError("PREDICTIONS", f"{path} has a value that is no number: {error}.") from error
    strange = stated is not None and (stated.min() < UNSTATED or stated.max() >= classes)
    if true.min() < 0 or true.max() >= classes or strange or not np.isfinite(logits).all():
        raise RefusedInputError(
            "PREDICTIONS", f"{path} has a class outside 0 to {classes - 1}, or a logit that is not finite."
        )
    columns = {name: tuple(row[name] for row in rows) for name in ("file", "patient", "scan")}
    return Predictions(columns["file"], columns["patient"], columns["scan"], slices, true, logits, stated)
