"""What the data sets have in common: one MONAI data dictionary a slice, checked before anything is read.

A data dictionary holds what `monai.data.CacheDataset` and `PersistentDataset` need to read the slice and
what evaluation needs to group it; values are plain, so that it can be hashed and pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES

IMAGE = "image"
MASK = "mask"
SLICE_CLASS = "slice_class"
FILE = "file"
PATIENT = "patient"
SCAN = "scan"
# Of the whole scan, where the collection states one beside the classes of its slices.
SCAN_CLASS = "scan_class"
SLICE = "slice"
# How to read the two files; `read.ReadSliced` takes these out again.
TRANSPOSED = "transposed"
MASK_VALUES = "mask_values"
VOLUME_SLICE = "volume_slice"

# Mask value on disk -> lesion label (0 background, 1 GGO, 2 consolidation).
LESION_MASK_VALUES: Mapping[int, int] = {0: 0, 1: 1, 2: 2}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

Record = dict[str, Any]


def make_record(
    image: Path,
    *,
    patient: str,
    scan: str,
    slice_index: int,
    mask: Path | None = None,
    slice_class: int | None = None,
    mask_values: Mapping[int, int] | None = None,
    transposed: bool = False,
    file: str | None = None,
) -> Record:
    """Return the data dictionary of one slice.

    Parameters
    ----------
    image, mask : pathlib.Path
        Files; the mask may be missing in data sets for classification.
    patient, scan : str
        Identifiers within the data set; evaluation resamples patients and pools scans by them.
    slice_index : int
        Number of the slice in its scan.
    slice_class : int, optional
        Class of the slice by its id.
    mask_values : mapping of int to int, optional
        Value in the mask file to lesion label; any other value is refused when the mask is read.
    transposed : bool
        Whether rows and columns are exchanged on disk.
    file : str, optional
        Name of the slice in lists and predictions; the image's name if not given. Never a whole path.
    """
    record: Record = {
        IMAGE: str(image),
        FILE: file or image.name,
        PATIENT: patient,
        SCAN: scan,
        SLICE: slice_index,
        TRANSPOSED: transposed,
    }
    if mask is not None:
        record[MASK] = str(mask)
        record[MASK_VALUES] = dict(LESION_MASK_VALUES if mask_values is None else mask_values)
    if slice_class is not None:
        record[SLICE_CLASS] = slice_class
    return record


def existing_folder(folder: Path | str, what: str) -> Path:
    """Return the folder as a path.

    Raises
    ------
    UsageError
        If it is no folder; the sentence says what was looked for there.
    """
    path = Path(folder)
    if not path.is_dir():
        raise UsageError("FOLDER_MISSING", f"There is no folder {path}; {what} were expected there.")
    return path


def paired_by_name(
    images: Iterable[Path], masks: Iterable[Path], *, mask_suffix: str = ""
) -> list[tuple[Path, Path]]:
    """Pair images with masks by name without suffixes, never by the order in which they sort.

    Parameters
    ----------
    images, masks : iterable of pathlib.Path
    mask_suffix : str
        What a mask's name has more than its image's, for example ``"_mask"``.

    Returns
    -------
    list of (image, mask)
        By name of the image.

    Raises
    ------
    RefusedInputError
        If an image has no mask, a mask no image, or two files have the same name but for their suffix.
    """
    image_of = _by_stem(images, "")
    mask_of = _by_stem(masks, mask_suffix)
    for stem, image in image_of.items():
        if stem not in mask_of:
            raise RefusedInputError(
                "MASK_MISSING",
                f"The image {image} has no mask; one named {stem}{mask_suffix} was expected.",
            )
    for stem, mask in mask_of.items():
        if stem not in image_of:
            raise RefusedInputError("IMAGE_MISSING", f"The mask {mask} has no image named {stem}.")
    return [(image_of[stem], mask_of[stem]) for stem in sorted(image_of)]


def stem_of(path: Path) -> str:
    """Return the name without its suffix, ``.nii.gz`` counted as one."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]


def files_in(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Return the files of a folder that end so, sorted by name; hidden files are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.name.lower().endswith(tuple(suffixes)) and not path.name.startswith(".")
    )


def check_slice_class(value: int, where: str, names: Sequence[str] = SLICE_CLASS_NAMES) -> int:
    """Return the class id.

    Raises
    ------
    RefusedInputError
        If there is no such class; the sentence says where it was found and lists the classes.
    """
    if not 0 <= value < len(names):
        allowed = ", ".join(f"{index} {name}" for index, name in enumerate(names))
        raise RefusedInputError("SLICE_CLASS", f"{where} has class {value}, but classes are {allowed}.")
    return value


def data_hash(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the sha256 over names and classes of the slices, whatever their order and place on disk.

    Runs carry it, so that tables never compare results on different data without saying so.
    """
    rows = sorted(
        [str(r[FILE]), str(r[PATIENT]), str(r[SCAN]), int(r[SLICE]), r.get(SLICE_CLASS)] for r in records
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _by_stem(paths: Iterable[Path], suffix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        stem = stem_of(path)
        if suffix:
            if not stem.endswith(suffix):
                raise RefusedInputError(
                    "MASK_NAME", f"The mask {path} does not end in {suffix!r} as masks of this folder do."
                )
            stem = stem.removesuffix(suffix)
        if stem in found:
            raise RefusedInputError(
                "NAME_TWICE",
                f"{found[stem]} and {path} have the same name; which one is meant cannot be told.",
            )
        found[stem] = path
    return found
