"""NIfTI volumes whose axial slices have a class in a table, such as the cohorts of ``synthesize``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES
from covid_ct_mask_net.training.datasets.list_files import read_table
from covid_ct_mask_net.training.datasets.read import volume_shape
from covid_ct_mask_net.training.datasets.records import (
    SCAN_CLASS,
    VOLUME_SLICE,
    Record,
    check_slice_class,
    existing_folder,
    files_in,
    make_record,
    stem_of,
)
from covid_ct_mask_net.training.datasets.volume_patients import table_beside, volume_name

TABLE = "slices.csv"
_COLUMNS = ("patient", "slice", "class_id")
_CLASS, _SPLIT, _LUNG, _VOLUME = "class_id", "split", "lung_pixels", "volume"


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
        Folder of ``PATIENT.nii`` or ``PATIENT.nii.gz`` in HU; with a column ``volume``, of those files.
    table : path
        CSV with a line of names: ``patient``, ``slice`` (from the feet, from 0) and ``class_id``; ``volume``
        (which patients with several scans need), ``split`` and ``lung_pixels`` may be there, other columns
        are not read.
    split : str, optional
        Take only lines of this split: ``train``, ``val`` or ``test`` in cohorts.
    least_lung_pixels : int
        Leave out slices with less lung, where the table tells.
    class_names : sequence of str
        Of the class ids.

    Returns
    -------
    list of dict
        With ``scan_class`` where a table beside the folder of images states one: a column ``class_id`` of
        ``scans.csv`` of a cohort, or of ``volumes.csv``.

    Raises
    ------
    UsageError
        If the folder or the table is missing, or nothing is left of it.
    RefusedInputError
        If a line cannot be read, names a volume or slice that is not there, or a class that the stated one
        of its scan excludes; the sentence names the line.
    """
    folder = existing_folder(images, "NIfTI volumes")
    path = Path(table)
    if not path.is_file():
        raise UsageError(
            "LIST_MISSING", f"There is no table {path}; a CSV with {', '.join(_COLUMNS)} was expected."
        )
    volumes = {stem_of(file): file for file in files_in(folder, (".nii", ".nii.gz"))}
    stated = _scan_classes(folder, class_names)
    depths: dict[str, int] = {}
    records: list[Record] = []
    seen: dict[tuple[str, int], int] = {}
    for number, line in _lines(path, split):
        where = f"Line {number} of {path}"
        patient, index, slice_class = _parse(line, where, class_names)
        name = volume_name(line[_VOLUME] or "") if _VOLUME in line else patient
        if name not in volumes:
            raise RefusedInputError(
                "LIST_MISMATCH", f"{where} names the volume {name}, which is not in {folder}."
            )
        if name not in depths:
            depths[name] = volume_shape(volumes[name])[2]
        if not 0 <= index < depths[name]:
            raise RefusedInputError(
                "LIST_MISMATCH",
                f"{where} names slice {index}, but {volumes[name]} has {depths[name]} slices, from 0.",
            )
        if seen.setdefault((name, index), number) != number:
            raise RefusedInputError(
                "LISTED_TWICE",
                f"{where} lists slice {index} of {name} again (first in line {seen[name, index]}).",
            )
        if _number(line.get(_LUNG) or least_lung_pixels, _LUNG, where) < least_lung_pixels:
            continue
        record = make_record(
            volumes[name],
            patient=patient,
            scan=name,
            slice_index=index,
            slice_class=slice_class,
            file=f"{name}#{index:04d}",
        )
        records.append({**record, VOLUME_SLICE: index, **_scan_class(stated, name, slice_class, where)})
    if not records:
        raise UsageError("LIST_EMPTY", f"No slice of {path} is left{f' in split {split}' if split else ''}.")
    return records


def _scan_classes(images: Path, class_names: Sequence[str]) -> dict[str, int]:
    """Return the class of each volume by its name, where a table beside the folder of images states it."""
    path = table_beside(images)
    if path is None:
        return {}
    found: dict[str, int] = {}
    for number, line in _lines(path, None, ()):
        where = f"Line {number} of {path}"
        if line.get(_CLASS):
            name = volume_name(line.get(_VOLUME) or line.get("patient") or "")
            found[name] = check_slice_class(_number(line[_CLASS], _CLASS, where), where, class_names)
    return found


def _scan_class(stated: Mapping[str, int], name: str, slice_class: int, where: str) -> dict[str, int]:
    if name not in stated:
        return {}
    # Slices of a diseased scan show its disease or none.
    if slice_class not in (0, stated[name]):
        raise RefusedInputError(
            "CLASS_CONTRADICTED",
            f"{where} gives a slice of {name} class {slice_class}, but the table of scans states class "
            f"{stated[name]} for all of it.",
        )
    return {SCAN_CLASS: stated[name]}


def _lines(
    path: Path, split: str | None, columns: Sequence[str] = _COLUMNS
) -> list[tuple[int, Mapping[str, str | None]]]:
    table = read_table(path)
    lack = table.lacks((*columns, _SPLIT) if split is not None else columns)
    if lack is not None:
        raise lack
    return [(number, line) for number, line in table.rows if split is None or line[_SPLIT] == split]


def _parse(line: Mapping[str, str | None], where: str, class_names: Sequence[str]) -> tuple[str, int, int]:
    patient = (line["patient"] or "").strip()
    index = _number(line["slice"], "slice", where)
    slice_class = _number(line[_CLASS], _CLASS, where)
    return patient, index, check_slice_class(slice_class, where, class_names)


def _number(text: str | int | None, name: str, where: str) -> int:
    try:
        return int(text if text is not None else "")
    except ValueError as error:
        raise RefusedInputError(
            "LIST_FORMAT", f"{where} has {name} {text!r}; a whole number was expected."
        ) from error
