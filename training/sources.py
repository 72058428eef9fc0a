"""Data sets by the name of their layout, and validation parts that share no patient with training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.labels import MaskType
from covid_ct_mask_net.training.augmentation import slice_augmentation
from covid_ct_mask_net.training.datasets.classified_volumes import TABLE, classified_volumes
from covid_ct_mask_net.training.datasets.cncb import cncb_segmentation
from covid_ct_mask_net.training.datasets.covidx import covidx_slices
from covid_ct_mask_net.training.datasets.ictcf import ictcf_slices
from covid_ct_mask_net.training.datasets.lesion_slices import lesion_slices
from covid_ct_mask_net.training.datasets.read import WINDOW_LEVEL, WINDOW_WIDTH, ReadSliced
from covid_ct_mask_net.training.datasets.records import PATIENT, VOLUME_SLICE, Record
from covid_ct_mask_net.training.datasets.volumes import lesion_volumes
from covid_ct_mask_net.training.lung_crop import RandLungCropd
from covid_ct_mask_net.training.randomness import FromHereAnew, flat
from covid_ct_mask_net.training.runs import described_run
from covid_ct_mask_net.training.targets import LesionTargetsd

_LOGGER = logging.getLogger(__name__)
_Reader = Callable[[Path, "str | Path | None", Mapping[str, Any]], list[Record]]


def labelled_slices(
    layout: str, root: str | Path, listed: str | Path | None = None, **options: Any
) -> list[Record]:
    """Return slices with lesion masks.

    Parameters
    ----------
    layout : str
        ``cncb``: ``images/`` and ``masks/`` by name (paper, section 3.1); ``volumes``: the same folders with
        NIfTI volumes, and a table of whose they are; ``lesion_slices``: COVID-SemiSeg.
    root : path
    listed : path, optional
        List of names below ``root`` or anywhere, for ``cncb`` and ``volumes``; for the latter a table, too.
    **options
        Passed on to the reader of the layout (`datasets.volumes.lesion_volumes` ...). ``lesions_only`` is for
        all of them; for ``cncb`` and ``lesion_slices`` with ``mask_type`` and ``minimum_area``.

    Raises
    ------
    UsageError, RefusedInputError
        If the layout is unknown, or the data are not as it says; the sentence names the file.
    """
    folder = Path(root)
    readers: dict[str, _Reader] = {
        "cncb": lambda top, names, more: cncb_segmentation(top / "images", top / "masks", names, **more),
        "volumes": lambda top, names, more: lesion_volumes(top / "images", top / "masks", names, **more),
        "lesion_slices": lambda top, _, more: lesion_slices(top, **more),
    }
    return _read(readers, layout, folder, listed, options, lists=("cncb", "volumes"))


def classified_slices(
    layout: str, root: str | Path, listed: str | Path | None = None, **options: Any
) -> list[Record]:
    """Return slices with a class.

    Parameters
    ----------
    layout : str
        ``covidx``: one folder of images, names with class (COVIDx-CT v1 and the original's); ``ictcf``: one
        folder a class; ``volumes``: a folder ``images/`` of NIfTI volumes and a table of their slices.
    root : path
        Folder of the images; for ``ictcf`` the one with the class folders, for ``volumes`` the one above.
    listed : path, optional
        List of names; without one, all images. For ``volumes`` the table, ``slices.csv`` if not given.
    **options
        Passed on to the reader of the layout.

    Raises
    ------
    UsageError, RefusedInputError
        If the layout is unknown, or the data are not as it says.
    """
    readers: dict[str, _Reader] = {
        "covidx": lambda top, names, more: covidx_slices(top, names, **more),
        "ictcf": lambda top, names, more: ictcf_slices(top, names, **more),
        "volumes": lambda top, names, more: classified_volumes(top / "images", names or top / TABLE, **more),
    }
    return _read(readers, layout, Path(root), listed, options, lists=("covidx", "ictcf", "volumes"))


def hold_out(
    records: Sequence[Record],
    share: float,
    seed: int,
    validation: Sequence[Record] | None = None,
) -> tuple[list[Record], list[Record]]:
    """Return (training, validation) slices without a common patient.

    The original's "validation" folder was the test set by default; here validation comes out of the training
    patients, or is named.

    Parameters
    ----------
    records : sequence of dict
    share : float
        Of the patients that are held out, in [0, 1); 0 for none. At least one patient is, otherwise.
    seed : int
        Of the choice.
    validation : sequence of dict, optional
        Given validation slices; ``share`` is not used then.

    Raises
    ------
    UsageError
        If the share leaves nothing to train on.
    RefusedInputError
        If a patient is in both.
    """
    if validation is not None:
        shared = {_owner(one) for one in records} & {_owner(one) for one in validation}
        if shared:
            raise RefusedInputError(
                "PATIENT_IN_TWO_SPLITS",
                f"Patient {min(shared)} is in training and validation ({len(shared)} patients are).",
            )
        return list(records), list(validation)
    patients = sorted({_owner(record) for record in records})
    if not 0 <= share < 1 or (share and len(patients) < 2):
        raise UsageError(
            "VALIDATION_SHARE",
            f"A validation share of {share:g} of {len(patients)} patients leaves nothing to train on; give a "
            "share from 0 to below 1.",
        )
    count = min(max(round(share * len(patients)), 1), len(patients) - 1) if share else 0
    chosen = np.random.default_rng(seed).permutation(len(patients))[:count]
    held = {patients[index] for index in chosen}
    return (
        [record for record in records if _owner(record) not in held],
        [record for record in records if _owner(record) in held],
    )


def segmentation_transforms(
    mask_type: MaskType | str,
    minimum_area: int,
    *,
    augmentation: float = 0.0,
    lung_crop: float = 0.0,
    window_level: float = WINDOW_LEVEL,
    window_width: float = WINDOW_WIDTH,
) -> Compose:
    """Return reading, augmentation and targets of slices with masks.

    Parameters
    ----------
    mask_type : MaskType or str
    minimum_area : int
        Lesions of this many pixels or fewer are not taught.
    augmentation : float
        Probability of each step of `augmentation.slice_augmentation`; 0 for none, as in the paper.
    lung_crop : float
        Share of slices that are cropped to their lungs.
    window_level, window_width : float
        HU window for volumes (`datasets.read.ReadSliced`); images carry theirs already.

    Raises
    ------
    UsageError
        If the window is none, or slices shall be cropped to lungs under another one than the default: lungs
        are found by its grey values.
    """
    steps = classification_transforms(
        augmentation=augmentation, lung_crop=lung_crop, window_level=window_level, window_width=window_width
    )
    return flat([steps, FromHereAnew(), LesionTargetsd(mask_type, minimum_area)])


def classification_transforms(
    *,
    augmentation: float = 0.0,
    lung_crop: float = 0.0,
    window_level: float = WINDOW_LEVEL,
    window_width: float = WINDOW_WIDTH,
) -> Compose:
    """Return reading and augmentation of slices with classes; parameters as in `segmentation_transforms`."""
    if lung_crop and (window_level, window_width) != (WINDOW_LEVEL, WINDOW_WIDTH):
        raise UsageError(
            "WINDOW",
            f"lung_crop finds lungs by grey values of the window {WINDOW_LEVEL:g}/{WINDOW_WIDTH:g} HU, but "
            f"{window_level:g}/{window_width:g} HU was set; leave one of them out.",
        )
    steps: list[Any] = [ReadSliced(window_level, window_width)]
    if augmentation:
        steps.append(slice_augmentation(augmentation))
    if lung_crop:
        steps.append(RandLungCropd(lung_crop))
    return flat(steps)


def window_settings(records: Sequence[Record], window_level: float, window_width: float) -> dict[str, float]:
    """Return the HU window for ``run.json`` and ``metrics.json``: nothing for images, which carry theirs."""
    if not any(VOLUME_SLICE in one for one in records):
        return {}
    return {"window_level": float(window_level), "window_width": float(window_width)}


def check_window(
    folder: str | Path, records: Sequence[Record], window_level: float, window_width: float
) -> None:
    """Log a warning where an evaluation shows HU under another window than the training of its run folder.

    Parameters
    ----------
    folder : path
        Run folder.
    records : sequence of dict
        Slices to evaluate.
    window_level, window_width : float
        Of the evaluation.
    """
    info = described_run(Path(folder))
    trained = {} if info is None else info.settings.get("training", {})
    for name, value in window_settings(records, window_level, window_width).items():
        if name in trained and trained[name] != value:
            _LOGGER.warning(
                "%s is %g here, but %s was trained with %g; set it to evaluate what was trained.",
                name, value, folder, trained[name],
            )  # fmt: skip


def _read(
    readers: Mapping[str, _Reader],
    layout: str,
    root: Path,
    listed: str | Path | None,
    options: Mapping[str, Any],
    lists: Sequence[str],
) -> list[Record]:
    if layout not in readers:
        raise UsageError("LAYOUT", f"The layout is {layout!r}, but must be {', '.join(readers)}.")
    if listed is not None:
        if layout not in lists:
            raise UsageError("LIST", f"Lists of names are for {', '.join(lists)}; {layout} takes none.")
        # A list may lie beside the images.
        listed = root / listed if (root / listed).is_file() else Path(listed)
    return readers[layout](root, listed, options)


def _owner(record: Record) -> str:
    """Return whose slice it is; one number under two classes counts as one patient, as in `splits`."""
    return str(record[PATIENT])
