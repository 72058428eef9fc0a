"""The chests that the model was trained on: phantoms from a seed, and two real people's clear slices.

python -m covid_ct_mask_net.training.release.chests --output DIR --count 48
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.training.datasets.records import Record, existing_folder, make_record
from covid_ct_mask_net.training.synthesis.grids import Grid
from covid_ct_mask_net.training.synthesis.phantom import EMPHYSEMA_SHARE, Chest, draw_chest
from covid_ct_mask_net.training.synthesis.real_lungs import read_real_chests
from covid_ct_mask_net.training.synthesis.slice_supply import Ground

_MODULE = "covid_ct_mask_net.training.release.chests"
PHANTOMS = 48
SIZE = 384
SEED = 77
_STEPS_MM = (2.5, 5.0, 6.0, 8.0)
_LEAST_LUNG_MM2 = 500.0

# TCIA Lung-PET-CT-Dx, CC BY 4.0. Both people have lung cancer; only slices away from the tumour are shown,
# and no third person is trained on: cmb-crc-01068 is kept for the test.
REAL_SLICES: dict[str, tuple[int, ...]] = {
    "lung-dx-a0001": (*range(6, 38), 53, 54),
    "lung-dx-a0002": (*range(4, 11), *range(20, 28)),
}


def make_phantoms(folder: Path, count: int, first: int = 0, emphysema_share: float = EMPHYSEMA_SHARE) -> None:
    """Write phantoms ``first`` to ``count`` - 1 as ``NNN.npz``; those that exist stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, count):
        path = folder / f"{number:03d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng([SEED, number])
        step = float(rng.choice(_STEPS_MM))
        _save(path, draw_chest(rng, SIZE, step, emphysema_share=emphysema_share), thin=step == _STEPS_MM[0])


def load_grounds(folder: Path, real: Path | None) -> Iterator[Ground]:
    """Yield the phantoms of a folder, and the real chests below ``real`` that are named in `REAL_SLICES`."""
    for path in sorted(folder.glob("*.npz")):
        yield _load(path)
    if real is not None:
        for name, slices in REAL_SLICES.items():
            for chest in read_real_chests(real / name):
                yield Ground.of(chest, slices, real=True)


def chest_records(folder: Path, real: Path | None) -> list[Record]:
    """Return what a run notes as its data: one record a phantom, and one a slice of a real chest.

    Parameters
    ----------
    folder, real : Path
        As in `load_grounds`.

    Raises
    ------
    UsageError
        If there is no such folder, or it holds no chest.
    """
    phantoms = sorted(existing_folder(folder, "phantoms of release.chests").glob("*.npz"))
    if not phantoms and real is None:
        raise UsageError(
            "NO_CHESTS",
            f"There are no phantoms (NNN.npz) in {folder}; make some by python -m {_MODULE}.",
        )
    records = [make_record(path, patient=path.stem, scan=path.stem, slice_index=0) for path in phantoms]
    if real is not None:
        for name, slices in REAL_SLICES.items():
            series = existing_folder(real / name, "the series of a real chest")
            records += [
                make_record(series, patient=name, scan=name, slice_index=index, file=f"{name}#{index:04d}")
                for index in slices
            ]
    return records


def _save(path: Path, chest: Chest, *, thin: bool) -> None:
    pixel_mm2 = chest.grid.spacing[1] * chest.grid.spacing[2]
    every = range(0, len(chest.hu), 2 if thin else 1)
    keep = [k for k in every if np.count_nonzero(chest.lungs[k]) * pixel_mm2 > _LEAST_LUNG_MM2]
    if chest.airways is None or chest.roots is None:
        raise ValueError("Only phantoms are stored; real chests are read from their series.")
    np.savez(
        path,
        hu=np.rint(chest.hu).astype(np.int16),
        lungs=chest.lungs,
        air=(chest.airways * 255).astype(np.uint8),
        sp=chest.grid.spacing,
        og=chest.grid.origin,
        keep=keep,
        rz=[chest.roots[1], chest.roots[2]],
    )


def _load(path: Path) -> Ground:
    with np.load(path) as stored:
        hu = stored["hu"].astype(np.float32)
        dz, dy, dx = (float(s) for s in stored["sp"])
        z, y, x = (float(p) for p in stored["og"])
        roots = {side: tuple(float(p) for p in root) for side, root in zip((1, 2), stored["rz"], strict=True)}
        chest = Chest(
            hu,
            stored["lungs"],
            Grid(hu.shape, (dz, dy, dx), (z, y, x)),
            stored["air"].astype(np.float32) / 255,
            roots,  # type: ignore[arg-type]
        )
        return Ground.of(chest, [int(k) for k in stored["keep"]], real=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="folder for the phantoms")
    parser.add_argument("--count", type=int, default=PHANTOMS, help="how many; those that exist stay")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (default: %(default)s)")
    parser.add_argument(
        "--emphysema-share",
        type=float,
        default=EMPHYSEMA_SHARE,
        help="of phantoms with emphysema (default: %(default)s; the shipped weights have learned from 0.5)",
    )
    options = parser.parse_args(arguments)
    make_phantoms(options.output, options.first + options.count, options.first, options.emphysema_share)


if __name__ == "__main__":
    main()
