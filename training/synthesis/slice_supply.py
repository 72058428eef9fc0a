"""An endless supply of training slices: each draw puts new lesions into a stored chest.

Making a chest takes seconds, putting lesions into it a fraction of that; so a few dozen chests give as many
different slices as training asks for, and no slice comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from covid_ct_mask_net.labels import MaskType, SliceClass
from covid_ct_mask_net.training.synthesis.acquisition import acquire, draw_acquisition
from covid_ct_mask_net.training.synthesis.disease import LungMap, draw_lesions, map_lungs
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume
from covid_ct_mask_net.training.synthesis.lesions import implant
from covid_ct_mask_net.training.synthesis.phantom import Chest
from covid_ct_mask_net.training.targets import detection_target


@dataclass(frozen=True, eq=False)
class Ground:
    """A chest that lesions are put into.

    Attributes
    ----------
    chest
        Phantom without noise, or a real chest as scanned.
    map
        Its lungs.
    slices
        Which slices may be shown: those with lung, and in real chests without disease.
    real
        Real chests are not scanned again.
    """

    chest: Chest
    map: LungMap
    slices: tuple[int, ...]
    real: bool

    @classmethod
    def of(cls, chest: Chest, slices: Sequence[int], real: bool) -> Ground:
        """Return the ground with its lungs mapped; lesions start in the slices that may be shown."""
        return cls(chest, map_lungs(chest.lungs, chest.grid, chest.roots), tuple(slices), real)


@dataclass(frozen=True)
class SupplySettings:
    """How slices are drawn and changed.

    Attributes
    ----------
    class_shares
        Of Control, Common Pneumonia and COVID-19.
    second_share
        Of diseased draws, how many get the lesions of a second draw on top.
    real_share
        Of draws from real chests.
    slices_a_draw
        Slices taken from a chest before the next.
    lesion_share
        Of slices that show lesions, where the chest has any.
    pixel_mm
        Range of the pixel size that the networks see, drawn evenly in its logarithm.
    whole_share
        Of slices shown whole; the others are cropped about the lungs.
    margin_mm
        Largest distance of a crop from the lungs.
    level, width
        Ranges of the window.
    minimum_area
        Lesions of this many pixels or fewer are not taught.
    """

    class_shares: tuple[float, float, float] = (0.06, 0.38, 0.56)
    second_share: float = 0.4
    real_share: float = 0.5
    slices_a_draw: int = 6
    lesion_share: float = 0.8
    pixel_mm: tuple[float, float] = (0.65, 1.25)
    whole_share: float = 0.15
    margin_mm: float = 20.0
    level: tuple[float, float] = (-720.0, -480.0)
    width: tuple[float, float] = (1100.0, 1900.0)
    minimum_area: int = 16


Sample = tuple[Tensor, dict[str, Tensor]]


def supply(grounds: Sequence[Ground], settings: SupplySettings, seed: int) -> Iterator[Sample]:
    """Yield slices (1, H, W) in [0, 1] with detection targets, without end.

    Targets hold ``scale`` 1: the detector reads slices at the pixel size that was drawn.
    """
    rng = np.random.default_rng(seed)
    real = [ground for ground in grounds if ground.real]
    phantoms = [ground for ground in grounds if not ground.real]
    while True:
        from_real = bool(real) and (not phantoms or rng.random() < settings.real_share)
        pool = real if from_real else phantoms
        yield from _draw(pool[int(rng.integers(len(pool)))], settings, rng)


def _draw(ground: Ground, settings: SupplySettings, rng: np.random.Generator) -> Iterator[Sample]:
    chest, grid = ground.chest, ground.chest.grid
    slice_class = SliceClass(int(rng.choice(3, p=settings.class_shares)))
    # Training wants the many and large lesions that mild disease, the commoner, lacks.
    severity = float(rng.uniform(0.15, 1.0))
    lesions = draw_lesions(slice_class, ground.map, rng, severity)
    if slice_class is not SliceClass.CONTROL and rng.random() < settings.second_share:
        lesions += draw_lesions(SliceClass(int(rng.integers(1, 3))), ground.map, rng, severity)
    planted = implant(chest.hu, chest.lungs, grid, lesions, rng, chest.airways)
    usable = np.array(ground.slices)
    chosen = _choose(usable, planted.labels[usable], settings, rng)
    hu = planted.hu[chosen]
    if not ground.real:
        hu = acquire(hu, chest.lungs[chosen], grid, draw_acquisition(rng), rng)
    for plane, labels, lungs in zip(hu, planted.labels[chosen], chest.lungs[chosen], strict=True):
        yield _changed(plane, labels, lungs, grid, settings, rng)


def _choose(
    usable: NDArray[np.int64], labels: Labels, settings: SupplySettings, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return slices of a chest: most of them with lesions, larger lesions more often."""
    pixels = np.count_nonzero(labels, axis=(1, 2)).astype(np.float64)
    clear = int(rng.binomial(settings.slices_a_draw, 1 - settings.lesion_share))
    chosen = list(rng.permutation(usable[pixels == 0])[:clear])
    shows = usable[pixels > 0]
    if len(shows):
        weight = np.sqrt(pixels[pixels > 0])
        count = min(settings.slices_a_draw - len(chosen), len(shows))
        chosen += list(rng.choice(shows, count, replace=False, p=weight / weight.sum()))
    return np.array(chosen, dtype=np.int64)


def _changed(
    plane: Volume,
    labels: Labels,
    lungs: Labels,
    grid: Grid,
    settings: SupplySettings,
    rng: np.random.Generator,
) -> Sample:
    """Return a slice cropped, resampled, mirrored, windowed, blurred and made noisy at random."""
    rows, columns = _box(lungs, grid, settings, rng)
    plane, labels = plane[rows, columns], labels[rows, columns]
    pixel = float(np.exp(rng.uniform(*np.log(settings.pixel_mm))))
    size = [max(64, round(n * s / pixel)) for n, s in zip(plane.shape, grid.spacing[1:], strict=True)]
    image = torch.from_numpy(np.ascontiguousarray(plane))[None, None]
    image = functional.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
    mask = functional.interpolate(
        torch.from_numpy(np.ascontiguousarray(labels))[None, None].float(), size=size
    )
    if rng.random() < 0.5:
        image, mask = image.flip(-1), mask.flip(-1)
    level, width = rng.uniform(*settings.level), rng.uniform(*settings.width)
    shown = ((image[0, 0].numpy() - level) / width + 0.5).clip(0, 1) ** np.exp(rng.uniform(-0.35, 0.35))
    if rng.random() < 0.3:
        shown = ndimage.gaussian_filter(shown, rng.uniform(0.3, 1.0))
    if rng.random() < 0.3:
        shown = shown + rng.normal(0, rng.uniform(0.005, 0.04), shown.shape)
    target = detection_target(mask[0, 0].numpy().astype(np.uint8), MaskType.BOTH, settings.minimum_area)
    target["scale"] = torch.tensor([1.0], dtype=torch.float64)
    return torch.from_numpy(shown.clip(0, 1).astype(np.float32))[None], target


def _box(
    lungs: Labels, grid: Grid, settings: SupplySettings, rng: np.random.Generator
) -> tuple[slice, slice]:
    if rng.random() < settings.whole_share:
        return slice(0, lungs.shape[0]), slice(0, lungs.shape[1])
    found = ndimage.find_objects((lungs > 0).astype(np.uint8))
    if not found:
        return slice(0, lungs.shape[0]), slice(0, lungs.shape[1])
    reach = settings.margin_mm / grid.spacing[1]
    before, after = rng.uniform(-0.1, 1, 2) * reach, rng.uniform(-0.1, 1, 2) * reach
    rows, columns = (
        slice(max(0, int(part.start - b)), min(n, int(part.stop + a)))
        for part, b, a, n in zip(found[0], before, after, lungs.shape, strict=True)
    )
    return rows, columns
