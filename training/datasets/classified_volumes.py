"""NIfTI volumes whose axial slices have a class in a table, such as the cohorts of ``synthesize``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.datasets.read import volume_shape
from covid_ct_mask_net.training.datasets.records import (
    VOLUME_SLICE,
    Record,
    check_slice_class,
    existing_folder,
    files_in,
    make_record,
    stem_of,
)

TABLE = "slices.csv"
_COLUMNS = ("patient", "slice", "class_id")
_SPLIT, _LUNG = "split", "lung_pixels"


def classified_volumes(
    images: Path | str,
    table: Path | str,
    *,
    split: str | None = None,
    least_lung_pixels: int = 1,
    class_names: Sequence[str] = SLICE_CLASS_NAMES,
) -> list[Record]:
    """Return one data dictionary for every slice of a table.

    Parameters
    ----------
    images : path
        Folder of ``PATIENT.nii`` or ``PATIENT.nii.gz`` in HU.
    table : path
        CSV with a line of names: ``patient``, ``slice`` (from the feet, from 0) and ``class_id``; ``split``
        and ``lung_pixels`` may be there, other columns are not read.
    split : str, optional
        Take only lines of this split: ``train``, ``val`` or ``test`` in cohorts.
    least_lung_pixels : int
        Leave out slices with less lung, where the table tells.
    class_names : sequence of str
        Of the class ids.

    Raises
    ------
    UsageError
        If the folder or the table is missing, or nothing is left of it.
    RefusedInputError
        If a line cannot be read or names a volume or slice that is not there; the sentence names the line.
    """
    folder = existing_folder(images, "NIfTI volumes")
    path = Path(table)
    if not path.is_file():
        raise UsageError(
            "LIST_MISSING", f"There is no table {path}; a CSV with {', '.join(_COLUMNS)} was expected."
        )
    volumes = {stem_of(file): file for file in files_in(folder, (".nii", ".nii.gz"))}
    depths: dict[str, int] = {}
    records: list[Record] = []
    seen: dict[tuple[str, int], int] = {}
    for number, line in _lines(path, split):
        where = f"Line {number} of {path}"
        patient, index, slice_class = _parse(line, where, class_names)
        if patient not in volumes:
            raise RefusedInputError(
                "LIST_MISMATCH", f"{where} names the volume {patient}, which is not in {folder}."
            )
        if patient not in depths:
            depths[patient] = volume_shape(volumes[patient])[2]
        if not 0 <= index < depths[patient]:
            raise RefusedInputError(
                "LIST_MISMATCH",
                f"{where} names slice {index}, but {volumes[patient]} has {depths[patient]} slices, from 0.",
            )
        if seen.setdefault((patient, index), number) != number:
            raise RefusedInputError(
                "LISTED_TWICE",
                f"{where} lists slice {index} of {patient} again (first in line {seen[patient, index]}).",
            )
        if _number(line.get(_LUNG) or least_lung_pixels, _LUNG, where) < least_lung_pixels:
            continue
        record = make_record(
            volumes[patient],
            patient=patient,
            scan=patient,
            slice_index=index,
            slice_class=slice_class,
            file=f"{patient}#{index:04d}",
        )
        records.append({**record, VOLUME_SLICE: index})
    if not records:
        raise UsageError("LIST_EMPTY", f"No slice of {path} is left{f' in split {split}' if split else ''}.")
    return records


def _lines(path: Path, split: str | None) -> list[tuple[int, Mapping[str, str | None]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or []
            lines = [(reader.line_num, line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RefusedInputError("LIST_FORMAT", f"The table {path} is no CSV file.") from error
    wanted = (*_COLUMNS, _SPLIT) if split is not None else _COLUMNS
    missing = [name for name in wanted if name not in names]
    if missing:
        raise RefusedInputError(
            "LIST_FORMAT",
            f"The table {path} has no column {', '.join(missing)}; it has {', '.join(names) or 'none'}.",
        )
    return [(number, line) for number, line in lines if split is None or line[_SPLIT] == split]


def _parse(line: Mapping[str, str | None], where: str, class_names: Sequence[str]) -> tuple[str, int, int]:
    patient = (line["patient"] or "").strip()
    index = _number(line["slice"], "slice", where)
    slice_class = _number(line["class_id"], "class_id", where)
    return patient, index, check_slice_class(slice_class, where, class_names)


def _number(text: str | int | None, name: str, where: str) -> int:
    try:
        return int(text if text is not None else "")
    except ValueError as error:
        raise RefusedInputError(
            "LIST_FORMAT", f"{where} has {name} {text!r}; a whole number was expected."
        ) from error
