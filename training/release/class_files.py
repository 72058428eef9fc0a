"""Slices with classes on disk, as the bundle's training of the classifier reads them (layout ``covidx``).

python -m covid_ct_mask_net.training.release.class_files --chests DIR --output DIR --draws 1080
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.training.datasets.names import SliceName
from covid_ct_mask_net.training.release.chests import chest_records, load_grounds
from covid_ct_mask_net.training.release.class_slices import AS_READ, Draws, class_slices


def write_slices(folder: Path, slices: Iterable[tuple[Tensor, int]]) -> int:
    """Write slices (1, H, W) in [0, 1] with their classes as 8-bit PNG, and return how many.

    Names are those of COVIDx-CT v1. The patient in them is the number of the slice: slices of one patient
    are not told apart from those of others, so no share of them may be held out.

    Parameters
    ----------
    folder : Path
        Made here; it appears when all slices are there.
    slices : iterable of (slice, class id)

    Raises
    ------
    UsageError
        If the folder exists.
    """
    if folder.exists():
        raise UsageError("FOLDER_EXISTS", f"The folder {folder} exists already; slices go into a new one.")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    count = 0
    for image, slice_class in slices:
        count += 1
        name = SliceName(str(count), str(count), "0001", SliceClass(slice_class)).covidx
        pixels = np.rint(image[0].numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(partial / name)
    partial.replace(folder)
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chests", type=Path, required=True, help="folder of release.chests")
    parser.add_argument("--real", type=Path, help="folder that holds the series named in chests.REAL_SLICES")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the slices")
    parser.add_argument("--draws", type=int, default=Draws.patients, help="patients, classes in turn")
    parser.add_argument("--seed", type=int, default=Draws.seed)
    parser.add_argument(
        "--mass-share",
        type=float,
        default=AS_READ.mass_share,
        help="of patients with solid masses in their lungs, which are no disease here (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    # Says what is missing, before anything is drawn.
    chest_records(options.chests, options.real)
    grounds = list(load_grounds(options.chests, options.real))
    as_read = replace(AS_READ, mass_share=options.mass_share)
    drawn = class_slices(grounds, Draws(options.draws, seed=options.seed, supply=as_read))
    write_slices(options.output, tqdm(drawn, unit="slice"))


if __name__ == "__main__":
    main()
