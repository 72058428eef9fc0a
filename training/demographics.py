"""Who was evaluated: age, sex, country and source of the patients, where a collection tells.

COVIDx-CT publishes ``metadata.csv`` with a line a patient; others have their own tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.files import read_rows

PATIENT_COLUMNS = ("patient id", "patient_id", "patient")
_COUNTED = ("sex", "country", "source", "scanner", "manufacturer")


def demographics(path: Path | str, patients: Iterable[str]) -> dict[str, Any]:
    """Summarise a table of patients for those that were evaluated.

    Parameters
    ----------
    path : path
        CSV with one of the columns ``patient id``, ``patient_id`` or ``patient``, and any of ``age``,
        ``sex``, ``country``, ``source``, ``scanner``, ``manufacturer``; upper and lower case are alike.
    patients : iterable of str
        Identifiers as in the data set.

    Returns
    -------
    dict
        ``patients`` with and without an entry, ``age`` (median and range), and counts a value. No single
        patient is in it.

    Raises
    ------
    UsageError
        If there is no such file.
    RefusedInputError
        If it has no column of patients.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("METADATA_MISSING", f"There is no table of patients {path}.")
    rows = [{str(key).strip().lower(): value for key, value in row.items()} for row in read_rows(path)]
    column = next((name for name in PATIENT_COLUMNS if rows and name in rows[0]), None)
    if column is None:
        raise RefusedInputError(
            "METADATA", f"{path} has no column {', '.join(PATIENT_COLUMNS)}; one of them names the patients."
        )
    wanted = set(patients)
    by_patient = {row[column].strip(): row for row in rows if row[column]}
    found = [by_patient[name] for name in sorted(wanted & by_patient.keys())]
    summary: dict[str, Any] = {
        "patients": {"with entry": len(found), "without entry": len(wanted) - len(found)}
    }
    ages = [age for row in found if (age := _number(row.get("age"))) is not None]
    if ages:
        summary["age"] = {
            "median": float(np.median(ages)), "lowest": min(ages), "highest": max(ages), "known": len(ages),
        }  # fmt: skip
    for name in _COUNTED:
        if rows and name in rows[0]:
            counts = Counter((row.get(name) or "").strip() or "unknown" for row in found)
            summary[name] = dict(sorted(counts.items()))
    return summary


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
