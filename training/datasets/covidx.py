"""COVIDx-CT v1 and the original's classification layout: one folder of PNG slices and a list of names."""

from __future__ import annotations

from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.lists import ListedSlice, read_list
from covid_ct_mask_net.training.datasets.names import parse_slice_name
from covid_ct_mask_net.training.datasets.records import Record, existing_folder, files_in, make_record


def covidx_slices(images: Path | str, listed: Path | str | list[ListedSlice] | None = None) -> list[Record]:
    """Return the data dictionaries of listed slices, or of all slices in a folder.

    Parameters
    ----------
    images : path
        Folder of images. Files may be named as in COVIDx-CT v1 (``NCP_96_1328_0032.png``) or as in the
        original (``2_96_1328_0032.png``), whichever way the list names them.
    listed : path or list of ListedSlice, optional
        List; without one, every image of the folder is taken, its class from its name.

    Returns
    -------
    list of dict
        ``image``, ``slice_class``, ``patient``, ``scan``, ``slice``, ``file``.

    Raises
    ------
    RefusedInputError
        If a listed slice is not in the folder; the sentence names it and says how many are missing.
    """
    folder = existing_folder(images, "images of slices")
    if listed is None:
        slices = [ListedSlice(path.name, parse_slice_name(path.name)) for path in files_in(folder)]
        if not slices:
            raise RefusedInputError("FOLDER_EMPTY", f"There are no images in {folder}.")
    else:
        slices = listed if isinstance(listed, list) else read_list(listed)
    present = {path.name for path in files_in(folder)}
    found = [_file_of(one, present) for one in slices]
    missing = [one.file for one, name in zip(slices, found, strict=True) if name is None]
    if missing:
        raise RefusedInputError(
            "LIST_MISMATCH",
            f"{missing[0]} is listed, but not in {folder} ({len(missing)} of {len(slices)} listed slices are "
            "missing).",
        )
    return [_record(folder, one, str(name)) for one, name in zip(slices, found, strict=True)]


def _file_of(one: ListedSlice, present: set[str]) -> str | None:
    names = (one.file, one.name.covidx, one.name.original)
    return next((name for name in names if name in present), None)


def _record(folder: Path, one: ListedSlice, name: str) -> Record:
    slice_class = None if one.name.slice_class is None else int(one.name.slice_class)
    return make_record(
        folder / name,
        patient=one.name.patient,
        scan=one.name.scan,
        slice_index=int(one.name.slice),
        slice_class=slice_class,
        file=one.file,
    )
