"""COVIDx-CT v1 and the original's classification layout: one folder of PNG slices and a list of names."""

from __future__ import annotations

from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.training.datasets.lists import ListedSlice, listed_files, read_list
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
        If a listed slice is not in the folder (the sentence names it and says how many are missing), or has
        no class in its name.
    """
    folder = existing_folder(images, "images of slices")
    if listed is None:
        slices = [ListedSlice(path.name, parse_slice_name(path.name)) for path in files_in(folder)]
        if not slices:
            raise RefusedInputError("FOLDER_EMPTY", f"There are no images in {folder}.")
    else:
        slices = listed if isinstance(listed, list) else read_list(listed)
    files = listed_files(slices, folder)
    return [_record(path, one) for path, one in zip(files, slices, strict=True)]


def _record(path: Path, one: ListedSlice) -> Record:
    return make_record(
        path,
        patient=one.name.patient,
        scan=one.name.scan,
        slice_index=int(one.name.slice),
        slice_class=int(one.name.known_class()),
        file=one.file,
    )
