"""iCTCF-CT (paper, section 5): slices of two classes, one folder a class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.records import (
    IMAGE_SUFFIXES,
    Record,
    check_slice_class,
    existing_folder,
    make_record,
)

BINARY_CLASS_NAMES = ("Negative", "COVID-19")
# nCT: negative, pCT: positive; the third folder of the collection, NiCT, shows no lung and is not used.
ICTCF_FOLDERS = {"nCT": 0, "pCT": 1}
_PATIENT = re.compile(r"patient[ _-]*(?P<number>\d+)", re.IGNORECASE)


def ictcf_slices(
    root: Path | str, listed: Path | str | None = None, folders: Mapping[str, int] | None = None
) -> list[Record]:
    """Return the data dictionaries of a two-class collection.

    Parameters
    ----------
    root : path
        Folder with one folder a class; images may lie at any depth below.
    listed : path, optional
        List with ``path class`` a line, paths relative to the root; only these slices are taken.
    folders : mapping of str to int, optional
        Name of a class folder to class id; iCTCF's ``nCT`` (0) and ``pCT`` (1) if not given.

    Returns
    -------
    list of dict
        ``patient`` is the "Patient N" of a folder or name. Where there is none, each image counts as a
        patient of its own and intervals are then those of independent images.

    Raises
    ------
    RefusedInputError
        If a class folder is missing or empty, or the list does not match the folder.
    """
    top = existing_folder(root, "one folder a class")
    classes = dict(ICTCF_FOLDERS if folders is None else folders)
    paths: dict[str, int] = {}
    for name, slice_class in classes.items():
        folder = existing_folder(top / name, f"slices of class {slice_class}")
        found = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise RefusedInputError("FOLDER_EMPTY", f"There are no images in {folder}.")
        paths |= {path.relative_to(top).as_posix(): slice_class for path in found}
    if listed is not None:
        paths = _listed(Path(listed), paths, top)
    return [_record(top, file, slice_class) for file, slice_class in paths.items()]


def _listed(path: Path, paths: Mapping[str, int], top: Path) -> dict[str, int]:
    if not path.is_file():
        raise UsageError("LIST_MISSING", f"There is no list {path}.")
    wanted: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        # Folder names of this collection hold blanks.
        file, _, text = line.strip().rpartition(" ")
        where = f"Line {number} of {path}"
        if not file or not text.isdigit():
            raise RefusedInputError("LIST_FORMAT", f"{where} is {line!r}; a path and a class were expected.")
        slice_class = check_slice_class(int(text), where, BINARY_CLASS_NAMES)
        if file not in paths:
            raise RefusedInputError("LIST_MISMATCH", f"{where} lists {file}, which is not in {top}.")
        if paths[file] != slice_class:
            raise RefusedInputError(
                "CLASS_CONTRADICTED",
                f"{where} gives {file} class {slice_class}; its folder has {paths[file]}.",
            )
        wanted[file] = slice_class
    if not wanted:
        raise RefusedInputError("LIST_EMPTY", f"The list {path} has no lines.")
    return wanted


def _record(top: Path, file: str, slice_class: int) -> Record:
    path = top / file
    match = _PATIENT.search(file)
    patient = f"patient-{match['number']}" if match else file
    number = re.findall(r"\d+", path.stem)
    return make_record(
        path,
        patient=patient,
        scan=patient,
        slice_index=int(number[-1]) if number else 0,
        slice_class=slice_class,
        file=file,
    )
