"""CNCB segmentation set (paper, section 3.1): 750 slices of 150 patients with masks of lungs and lesions."""

from __future__ import annotations

from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.datasets.lesions_only import slices_with_lesions
from covid_ct_mask_net.training.datasets.lists import read_list
from covid_ct_mask_net.training.datasets.names import parse_slice_name
from covid_ct_mask_net.training.datasets.records import (
    Record,
    existing_folder,
    files_in,
    make_record,
    paired_by_name,
    stem_of,
)
from covid_ct_mask_net.training.targets import MINIMUM_AREA

# 0 background, 1 lung, 2 GGO, 3 consolidation -> lungs merged into background, lesions by value. The original
# numbered classes by the rank of the labels present, so that a slice without GGO taught consolidation as GGO.
CNCB_MASK_VALUES = {0: 0, 1: 0, 2: 1, 3: 2}


def cncb_segmentation(
    images: Path | str,
    masks: Path | str,
    listed: Path | str | None = None,
    *,
    lesions_only: bool = False,
    mask_type: MaskType | str = MaskType.BOTH,
    minimum_area: int = MINIMUM_AREA,
) -> list[Record]:
    """Return the data dictionaries of slices with lesion masks.

    Parameters
    ----------
    images, masks : path
        Folders; ``Patient_Slice.jpg`` and ``Patient_Slice.png``, paired by name.
    listed : path, optional
        List of names; only these slices are taken. Without it the two folders have to match completely.
    lesions_only : bool
        Leave out slices without a lesion that is taught, as the original does; this reads every mask once.
    mask_type, minimum_area
        Those of the training, where ``lesions_only``: type of masks, and pixels up to which a lesion is none.

    Returns
    -------
    list of dict
        ``image``, ``mask``, ``patient``, ``scan`` (the patient again: the set has one scan each), ``slice``.

    Raises
    ------
    RefusedInputError
        If an image or mask is missing, a list does not match the folders, or no slice has a lesion.
    """
    image_files = files_in(existing_folder(images, "images of slices"))
    mask_files = files_in(existing_folder(masks, "masks of slices"))
    if listed is not None:
        wanted = [one.file for one in read_list(listed)]
        image_files = _wanted(image_files, wanted, Path(images), "images")
        mask_files = _wanted(mask_files, wanted, Path(masks), "masks")
    pairs = paired_by_name(image_files, mask_files)
    if not pairs:
        raise RefusedInputError("FOLDER_EMPTY", f"There are no images in {images}.")
    records = []
    for image, mask in pairs:
        name = parse_slice_name(image.name)
        records.append(
            make_record(
                image,
                mask=mask,
                mask_values=CNCB_MASK_VALUES,
                patient=name.patient,
                scan=name.scan,
                slice_index=int(name.slice),
            )
        )
    return slices_with_lesions(records, mask_type, minimum_area) if lesions_only else records


def _wanted(files: list[Path], wanted: list[str], folder: Path, what: str) -> list[Path]:
    by_stem = {stem_of(path): path for path in files}
    missing = [name for name in wanted if stem_of(Path(name)) not in by_stem]
    if missing:
        raise RefusedInputError(
            "LIST_MISMATCH",
            f"{missing[0]} is listed, but {folder} has no such file ({len(missing)} of {len(wanted)} listed "
            f"{what} are missing).",
        )
    return [by_stem[stem_of(Path(name))] for name in wanted]
