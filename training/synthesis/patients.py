"""One synthetic patient: a chest, the lesions of a class, and how it was scanned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.labels import LesionClass, SliceClass
from covid_ct_mask_net.training.synthesis.acquisition import acquire, draw_acquisition
from covid_ct_mask_net.training.synthesis.disease import draw_lesions, map_lungs
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume
from covid_ct_mask_net.training.synthesis.lesions import Lesion, implant
from covid_ct_mask_net.training.synthesis.masses import with_masses
from covid_ct_mask_net.training.synthesis.phantom import EMPHYSEMA_SHARE, Chest, draw_chest


@dataclass(frozen=True, eq=False)
class Patient:
    """A scan with its truth.

    Attributes
    ----------
    name
        Number of the patient in the cohort, as text.
    slice_class
        Class of the scan.
    hu, lungs, labels, instances
        [Z, Y, X]; labels are 0, 1 GGO, 2 consolidation; instances number the lesions from 1.
    grid
        Of all of them.
    lesions
        As drawn; those that ended outside the scan have no voxels.
    kernel
        Convolution kernel.
    source
        ``"phantom"`` or the name of the real chest.
    masses
        Whether solid masses lie in the lungs, which are no lesions here.
    emphysema
        Share of a phantom's lungs that emphysema takes; of real lungs it is not known, and 0.
    """

    name: str
    slice_class: SliceClass
    hu: Volume
    lungs: Labels
    labels: Labels
    instances: NDArray[np.uint16]
    grid: Grid
    lesions: tuple[Lesion, ...]
    kernel: str
    source: str
    masses: bool = False
    emphysema: float = 0.0

    def volume_ml(self, lesion_class: LesionClass) -> float:
        """Return the volume of a lesion type in millilitres."""
        return float(np.count_nonzero(self.labels == lesion_class)) * self.grid.voxel_ml

    def slice_classes(self, least_pixels: int) -> NDArray[np.int64]:
        """Return the class of each slice: that of the scan where it shows lesions, else Control."""
        shows = np.count_nonzero(self.labels, axis=(1, 2)) >= least_pixels
        return np.where(shows, int(self.slice_class), int(SliceClass.CONTROL))


def phantom_patient(
    name: str,
    slice_class: SliceClass,
    rng: np.random.Generator,
    size: int,
    step_mm: float | None = None,
    mass_share: float = 0.0,
    emphysema_share: float = EMPHYSEMA_SHARE,
) -> Patient:
    """Return a patient with a phantom chest.

    Parameters
    ----------
    name : str
    slice_class : SliceClass
    rng : numpy Generator
        All of the patient follows from it.
    size : int
        Rows and columns.
    step_mm : float, optional
        Distance of slices; drawn from 2.5 to 8 mm if not given.
    mass_share : float
        Probability that the patient has solid masses, whatever the class.
    emphysema_share : float
        Probability that the patient has emphysema, whatever the class.
    """
    step = step_mm or float(rng.choice([2.5, 4.0, 5.0, 6.0, 8.0]))
    chest = draw_chest(rng, size, step, emphysema_share=emphysema_share)
    lesions = draw_lesions(slice_class, map_lungs(chest.lungs, chest.grid, chest.roots), rng)
    clear, free, masses = _with_masses(chest, mass_share, rng)
    planted = implant(clear, free, chest.grid, lesions, rng, chest.airways)
    how = draw_acquisition(rng)
    hu = acquire(planted.hu, free, chest.grid, how, rng)
    return Patient(
        name, slice_class, hu, chest.lungs, planted.labels, planted.instances, chest.grid, tuple(lesions),
        how.kernel, "phantom", masses, chest.emphysema,
    )  # fmt: skip


def implanted_patient(
    name: str,
    slice_class: SliceClass,
    chest: Chest,
    source: str,
    rng: np.random.Generator,
    mass_share: float = 0.0,
) -> Patient:
    """Return a patient with lesions, or masses, in a real chest; without any its voxels are the real ones."""
    lesions = draw_lesions(slice_class, map_lungs(chest.lungs, chest.grid), rng)
    clear, free, masses = _with_masses(chest, mass_share, rng)
    planted = implant(clear, free, chest.grid, lesions, rng)
    hu = np.rint(planted.hu).clip(-1024, 3071).astype(np.float32)
    return Patient(
        name, slice_class, hu, chest.lungs, planted.labels, planted.instances, chest.grid, tuple(lesions),
        "as the real series", source, masses,
    )  # fmt: skip


def _with_masses(chest: Chest, share: float, rng: np.random.Generator) -> tuple[Volume, Labels, bool]:
    """Return attenuation, lungs that are free for lesions, and whether the patient has masses."""
    # No number is drawn where none is wanted: cohorts without masses stay what they were.
    if share > 0 and rng.random() < share:
        return *with_masses(chest.hu, chest.lungs, chest.grid, rng), True
    return chest.hu, chest.lungs, False
