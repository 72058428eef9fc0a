"""Whose NIfTI volumes are: from a table beside them, from their names, or each its own patient."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.list_files import list_lines, read_table

TABLE = "volumes.csv"
# What `synthesize` leaves beside a cohort: a volume is named after its patient.
_COHORT_TABLE, _COHORT = "scans.csv", "cohort.json"
_PHANTOM = "phantom"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class VolumeLine:
    """One line of a table of volumes.

    Attributes
    ----------
    number
        Of the line in the file.
    patient
        Whose volume it is.
    split
        Where it belongs, if the table tells.
    """

    number: int
    patient: str
    split: str | None = None


def volume_name(text: str) -> str:
    """Return the name of a volume without folder and suffix; names may hold dots."""
    return Path(text.strip()).name.removesuffix(".gz").removesuffix(".nii")


def is_table(path: Path) -> bool:
    """Return whether a list is a table of volumes, by its suffix."""
    return path.suffix.lower() == ".csv"


def table_beside(images: Path) -> Path | None:
    """Return the table of the volumes of a folder, which lies beside that folder, or None."""
    for name, needs in ((TABLE, TABLE), (_COHORT_TABLE, _COHORT)):
        if (images.parent / name).is_file() and (images.parent / needs).is_file():
            return images.parent / name
    return None


def read_volume_table(path: Path) -> dict[str, VolumeLine]:
    """Read a table of volumes.

    Parameters
    ----------
    path : pathlib.Path
        CSV with a line of names: ``volume`` (file name, with or without its suffix), ``patient`` and maybe
        ``split``. ``scans.csv`` of ``synthesize`` has no column ``volume``: names are those of patients.
        There, all with the chest of one real person (``source``) are one patient.

    Returns
    -------
    dict
        By name of the volume without suffix.

    Raises
    ------
    UsageError
        If there is no such file.
    RefusedInputError
        If it is no such table, names no patient, lists a volume twice, or has a patient in two splits; the
        sentence names the line.
    """
    if not path.is_file():
        raise UsageError(
            "LIST_MISSING", f"There is no table {path}; a CSV with volume and patient was expected."
        )
    table = read_table(path)
    by_patient = path.name == _COHORT_TABLE and "volume" not in table.columns
    lack = table.lacks(("patient",) if by_patient else ("volume", "patient"))
    if lack is not None:
        raise lack
    found: dict[str, VolumeLine] = {}
    for number, line in table.rows:
        volume, one = _parsed(line, number, path, by_patient)
        if volume in found:
            raise RefusedInputError(
                "LISTED_TWICE",
                f"Line {number} of {path} lists {volume} again (first in line {found[volume].number}).",
            )
        found[volume] = one
    _one_split_each(found, path)
    return found


def patients_of(
    names: Sequence[str], images: Path, pattern: str | None, table: Path | None
) -> dict[str, str]:
    """Return the patient of each volume.

    Parameters
    ----------
    names : sequence of str
        Volumes, without suffix.
    images : pathlib.Path
        Their folder.
    pattern : str, optional
        Regular expression that the beginning of a name has to match: its first group is the patient, or all
        that it matches.
    table : pathlib.Path, optional
        Table of volumes (`read_volume_table`).

    Returns
    -------
    dict
        By name. With neither, each volume is taken for a patient, which is logged as a warning.

    Raises
    ------
    UsageError
        If there are both a pattern and a table, or the pattern is no regular expression.
    RefusedInputError
        If a volume is not in the table, or its name does not match.
    """
    if pattern is not None and table is not None:
        raise UsageError(
            "PATIENT_TWICE",
            f"patient_pattern was given, but {table} says whose the volumes are, too; leave one of them out.",
        )
    if pattern is not None:
        return _by_pattern(names, images, pattern)
    if table is not None:
        lines = read_volume_table(table)
        without = [name for name in names if name not in lines]
        if without:
            raise RefusedInputError(
                "LIST_MISMATCH",
                f"The volume {without[0]} of {images} has no line in {table} ({len(without)} of {len(names)} "
                "volumes have none).",
            )
        return {name: lines[name].patient for name in names}
    _warn_of_own_patients(images)
    return {name: name for name in names}


def listed_volumes(listed: Path, split: str | None) -> list[str]:
    """Return the volumes of a list, without suffix, in its order.

    Parameters
    ----------
    listed : pathlib.Path
        A table (``.csv``, `read_volume_table`), or a text file with the name of a volume a line.
    split : str, optional
        Take only volumes of this split; for tables.

    Raises
    ------
    UsageError
        If there is no such file, a text file shall have splits, or nothing is listed.
    RefusedInputError
        If the list cannot be read or lists a volume twice; the sentence names the line.
    """
    if is_table(listed):
        lines = read_volume_table(listed)
        if split is not None and any(line.split is None for line in lines.values()):
            raise RefusedInputError("LIST_FORMAT", f"The table {listed} has volumes without a split.")
        names = [name for name, line in lines.items() if split is None or line.split == split]
    elif split is not None:
        raise UsageError("LIST", f"Split {split} was asked for, but {listed} is no table (CSV) with splits.")
    else:
        names = _plain_list(listed)
    if not names:
        where = f" in split {split}" if split else ""
        raise UsageError("LIST_EMPTY", f"No volume of {listed} is left{where}.")
    return names


def _parsed(
    line: Mapping[str, str | None], number: int, path: Path, by_patient: bool
) -> tuple[str, VolumeLine]:
    patient = (line["patient"] or "").strip()
    volume = patient if by_patient else volume_name(line["volume"] or "")
    if not volume or not patient:
        raise RefusedInputError(
            "LIST_FORMAT", f"Line {number} of {path} has no {'patient' if volume else 'volume'}."
        )
    source = (line.get("source") or _PHANTOM).strip()
    owner = source if by_patient and source != _PHANTOM else patient
    return volume, VolumeLine(number, owner, (line.get("split") or "").strip() or None)


def _one_split_each(lines: Mapping[str, VolumeLine], path: Path) -> None:
    first: dict[str, tuple[str, VolumeLine]] = {}
    for name, line in lines.items():
        other, theirs = first.setdefault(line.patient, (name, line))
        if theirs.split != line.split:
            raise RefusedInputError(
                "PATIENT_IN_TWO_SPLITS",
                f"Patient {line.patient} of {path} has {other} in split {theirs.split or 'none'} (line "
                f"{theirs.number}) and {name} in {line.split or 'none'} (line {line.number}).",
            )


def _by_pattern(names: Sequence[str], images: Path, pattern: str) -> dict[str, str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            "PATIENT_PATTERN", f"patient_pattern {pattern!r} is no regular expression: {error}."
        ) from error
    found = {name: expression.match(name) for name in names}
    patients = {name: match and match[1 if expression.groups else 0] for name, match in found.items()}
    without = [name for name, patient in patients.items() if not patient]
    if without:
        raise RefusedInputError(
            "PATIENT_UNKNOWN",
            f"The name of the volume {without[0]} of {images} does not match patient_pattern {pattern!r} "
            f"({len(without)} of {len(names)} do not).",
        )
    return {name: str(patient) for name, patient in patients.items()}


def _plain_list(path: Path) -> list[str]:
    seen: dict[str, int] = {}
    for number, line in list_lines(path):
        name = volume_name(line)
        if seen.setdefault(name, number) != number:
            raise RefusedInputError(
                "LISTED_TWICE", f"Line {number} of {path} lists {name} again (first in line {seen[name]})."
            )
    return list(seen)


# Training and validation are read one after another.
@lru_cache(maxsize=64)
def _warn_of_own_patients(images: Path) -> None:
    _LOGGER.warning(
        "Nothing says whose the volumes of %s are: each is taken for a patient of its own, so that two "
        "scans of one person may be on both sides of a split. A table %s beside that folder (volume, "
        "patient, split) or patient_pattern in data_options tells.",
        images, TABLE,
    )  # fmt: skip
