"""An endless supply of training slices: each draw puts new lesions into a stored chest.

Making a chest takes seconds, putting lesions into it a fraction of that; so a few dozen chests give as many
different slices as training asks for, and no slice comes twice.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import MaskType, SliceClass
from covid_ct_mask_net.training.synthesis.acquisition import acquire, draw_acquisition
from covid_ct_mask_net.training.synthesis.disease import LungMap, confluent, draw_lesions, map_lungs
from covid_ct_mask_net.training.synthesis.domes import with_domes
from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume
from covid_ct_mask_net.training.synthesis.lesions import Lesion, implant
from covid_ct_mask_net.training.synthesis.masses import with_masses
from covid_ct_mask_net.training.synthesis.phantom import Chest
from covid_ct_mask_net.training.targets import detection_target

_ABOUT_A_LESION = 0.8
# Great vessels and chambers of the heart are about as large.
_ENHANCED_MM = 12.0
_BLOOD_HU = (120.0, 420.0)
_GREAT_VESSEL_MM = (5.0, 20.0)
_MIDDLE_MM = 60.0


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
    confluent_share
        Of diseased draws, how many get one to three confluent opacities on top.
    real_share
        Of draws from real chests.
    slices_a_draw
        Slices taken from a chest before the next.
    views
        How often each slice is shown, each time cropped, turned and windowed anew.
    slab
        Number of neighbouring slices, usually about a lesion's centre, that lesions are put into.
    lesion_share
        Of slices that show lesions, where the chest has any.
    pixel_mm
        Range of the pixel size that the networks see, drawn evenly in its logarithm.
    whole_share
        Of slices shown whole; the others are cropped about the lungs.
    margin_mm
        Largest distance of a crop from the lungs.
    level, width, gamma
        Ranges of the window, and the largest logarithm of its exponent.
    haze_share, haze
        Of draws in which all of the lungs are denser (expiration), and the largest share of air lost so.
    contrast_share, contrast
        Of slices with contrast medium: bright vessels, and soft tissue brightened unevenly by up to a factor.
    dome_share
        Of draws in which domes of the diaphragm rise into the slices.
    mass_share
        Of draws in which solid masses, which are no lesions here, lie in the lungs.
    turn, stretch
        Largest rotation in radians, and largest logarithm of the ratio of both axes.
    picture_share
        Of slices that look like pictures taken from publications: lossy compression, sharpened or enlarged.
    minimum_area
        Lesions of this many pixels or fewer are not taught.
    """

    class_shares: tuple[float, float, float] = (0.12, 0.28, 0.60)
    second_share: float = 0.4
    confluent_share: float = 0.35
    real_share: float = 0.6
    slices_a_draw: int = 6
    views: int = 2
    slab: int = 10
    lesion_share: float = 0.85
    pixel_mm: tuple[float, float] = (0.7, 1.3)
    whole_share: float = 0.2
    margin_mm: float = 20.0
    level: tuple[float, float] = (-740.0, -430.0)
    width: tuple[float, float] = (1000.0, 1950.0)
    gamma: float = 0.35
    haze_share: float = 0.4
    haze: float = 0.14
    contrast_share: float = 0.5
    contrast: float = 6.0
    dome_share: float = 0.3
    mass_share: float = 0.4
    turn: float = 0.15
    stretch: float = 0.15
    picture_share: float = 0.5
    minimum_area: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            share = getattr(self, field.name)
            if field.name.endswith("_share") and not 0.0 <= share <= 1.0:
                raise UsageError("SETTING", f"{field.name} is {share}, but must lie in 0 to 1.")


@dataclass(frozen=True)
class FalseFriends:
    """What lies in a slab and looks like lesions, but is none.

    Attributes
    ----------
    haze
        Share of the lungs' air that is lost evenly, as in expiration.
    domes, masses
        Whether domes of the diaphragm rise into it, and whether solid masses lie in the lungs.
    """

    haze: float = 0.0
    domes: bool = False
    masses: bool = False

    @classmethod
    def drawn(cls, settings: SupplySettings, rng: np.random.Generator) -> FalseFriends:
        """Return what the shares of the settings say, at random."""
        haze = rng.uniform(0, settings.haze) if rng.random() < settings.haze_share else 0.0
        domes = rng.random() < settings.dome_share
        # No number is drawn where none is wanted: slices of settings without masses stay what they were.
        masses = settings.mass_share > 0 and rng.random() < settings.mass_share
        return cls(haze, bool(domes), bool(masses))


NO_FALSE_FRIENDS = FalseFriends()

Sample = tuple[Tensor, dict[str, Tensor]]
Drawn = tuple[NDArray[np.float32], Labels]


def supply(grounds: Sequence[Ground], settings: SupplySettings, seed: int) -> Iterator[Sample]:
    """Yield slices (1, H, W) in [0, 1] with detection targets, without end."""
    for image, labels in draw_slices(grounds, settings, seed):
        yield sample_of(image, labels, settings.minimum_area)


def sample_of(image: NDArray[np.float32], labels: Labels, minimum_area: int) -> Sample:
    """Return a drawn slice as the detector takes it.

    Targets hold ``scale`` 1: the detector reads slices at the pixel size that was drawn.
    """
    target = detection_target(labels, MaskType.BOTH, minimum_area)
    target["scale"] = torch.tensor([1.0], dtype=torch.float64)
    return torch.from_numpy(np.ascontiguousarray(image))[None], target


def draw_slices(grounds: Sequence[Ground], settings: SupplySettings, seed: int) -> Iterator[Drawn]:
    """Yield slices float32 (H, W) in [0, 1] with lesion labels uint8 (H, W), without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield from _draw(choose_ground(grounds, settings.real_share, rng), settings, rng)


def choose_ground(grounds: Sequence[Ground], real_share: float, rng: np.random.Generator) -> Ground:
    """Return one of the chests: a real one with this probability, if there are any."""
    real = [ground for ground in grounds if ground.real]
    phantoms = [ground for ground in grounds if not ground.real]
    pool = real if real and (not phantoms or rng.random() < real_share) else phantoms
    return pool[int(rng.integers(len(pool)))]


def _draw(ground: Ground, settings: SupplySettings, rng: np.random.Generator) -> Iterator[Drawn]:
    slice_class = SliceClass(int(rng.choice(3, p=settings.class_shares)))
    # Training wants the many and large lesions that mild disease, the commoner, lacks.
    severity = float(rng.uniform(0.15, 1.0))
    lesions = draw_lesions(slice_class, ground.map, rng, severity)
    if slice_class is not SliceClass.CONTROL and rng.random() < settings.second_share:
        lesions += draw_lesions(SliceClass(int(rng.integers(1, 3))), ground.map, rng, severity)
    if slice_class is not SliceClass.CONTROL and rng.random() < settings.confluent_share:
        lesions = confluent(ground.map, rng, int(rng.integers(1, 4))) + lesions
    slab = plant_slab(ground, lesions, settings.slab, rng, FalseFriends.drawn(settings, rng))
    chosen = _choose(slab.usable, slab.labels[slab.usable], settings, rng)
    hu = slab.shown(chosen, rng)
    for plane, labels, lungs in zip(hu, slab.labels[chosen], slab.lungs[chosen], strict=True):
        for _ in range(settings.views):
            yield changed_slice(plane, labels, lungs, slab.grid, settings, rng)


@dataclass(frozen=True, eq=False)
class Slab:
    """Neighbouring slices of a chest with lesions.

    Attributes
    ----------
    hu, labels, lungs
        [slices, Y, X].
    grid
        Of all three.
    usable
        Which of the slices may be shown.
    real
        Whether the chest is a real one.
    """

    hu: Volume
    labels: Labels
    lungs: Labels
    grid: Grid
    usable: NDArray[np.int64]
    real: bool

    def shown(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> Volume:
        """Return some of the slices as scanned: phantoms by a protocol drawn at random."""
        if self.real:
            return self.hu[chosen]
        return acquire(self.hu[chosen], self.lungs[chosen], self.grid, draw_acquisition(rng), rng)


def plant_slab(
    ground: Ground,
    lesions: Sequence[Lesion],
    size: int,
    rng: np.random.Generator,
    friends: FalseFriends = NO_FALSE_FRIENDS,
) -> Slab:
    """Return ``size`` neighbouring slices, usually about a lesion, with lesions and false friends in them."""
    chest, grid = ground.chest, ground.chest.grid
    first, last = _place(ground, lesions, size, rng)
    lungs, hu = chest.lungs[first:last], chest.hu[first:last]
    if friends.haze:
        hu = _hazy(hu, lungs, friends.haze)
    moved = [replace(one, centre=(one.centre[0] - first, *one.centre[1:])) for one in lesions]
    airways = None if chest.airways is None else chest.airways[first:last]
    part = Grid(hu.shape, grid.spacing, (float(grid.axis(0)[first]), *grid.origin[1:]))
    if friends.domes:
        hu, lungs = with_domes(hu, lungs, part, rng)
    if friends.masses:
        hu, lungs = with_masses(hu, lungs, part, rng)
    planted = implant(hu, lungs, part, moved, rng, airways)
    usable = np.array([k - first for k in ground.slices if first <= k < last])
    return Slab(planted.hu, planted.labels, lungs, part, usable, ground.real)


def _place(ground: Ground, lesions: Sequence[Lesion], size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return first slice and end of neighbouring slices, some of which may be shown."""
    middle = int(rng.choice(ground.slices))
    if lesions and rng.random() < _ABOUT_A_LESION:
        size_of = np.array([max(one.radii) for one in lesions])
        wanted = lesions[int(rng.choice(len(lesions), p=size_of / size_of.sum()))].centre[0]
        middle = min(ground.slices, key=lambda k: abs(k - wanted))
    first = max(0, min(middle - size // 2, len(ground.chest.hu) - size))
    return first, min(first + size, len(ground.chest.hu))


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


def changed_slice(
    plane: Volume,
    labels: Labels,
    lungs: Labels,
    grid: Grid,
    settings: SupplySettings,
    rng: np.random.Generator,
) -> Drawn:
    """Return a slice cropped, turned, resampled, mirrored, windowed, blurred and made noisy at random.

    Parameters
    ----------
    plane, labels, lungs : [Y, X]
        HU, lesion labels and lungs.
    grid : Grid
        Of the slab that it is from.
    settings : SupplySettings
    rng : Generator

    Returns
    -------
    image, labels : [Y, X]
        In [0, 1], and the lesions in it.
    """
    rows, columns = _box(lungs, grid, settings, rng)
    if settings.contrast_share and rng.random() < settings.contrast_share:
        plane = _enhanced(plane, labels, lungs, settings.contrast, grid, rng)
    pixel = float(np.exp(rng.uniform(*np.log(settings.pixel_mm))))
    image, mask = _resampled(plane, labels, (rows, columns), pixel / grid.spacing[1], settings, rng)
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    level, width = rng.uniform(*settings.level), rng.uniform(*settings.width)
    shown = ((image - level) / width + 0.5).clip(0, 1) ** np.exp(rng.uniform(-settings.gamma, settings.gamma))
    if rng.random() < 0.3:
        shown = ndimage.gaussian_filter(shown, rng.uniform(0.3, 1.2))
    if rng.random() < 0.3:
        shown = shown + rng.normal(0, rng.uniform(0.005, 0.05), shown.shape)
    if rng.random() < settings.picture_share:
        shown = _as_picture(shown, rng)
    return shown.clip(0, 1).astype(np.float32), mask


def _enhanced(
    plane: Volume, labels: Labels, lungs: Labels, most: float, grid: Grid, rng: np.random.Generator
) -> Volume:
    """Return a slice with contrast medium: soft tissue up to ``most`` times as dense, and vessels.

    Great vessels are round, lie in the middle near the lungs, and bulge into them as the aorta does.
    """
    pixel = grid.spacing[1]
    field = ndimage.gaussian_filter(rng.normal(size=plane.shape), _ENHANCED_MM / pixel)
    field = (field - field.min()) / max(float(np.ptp(field)), 1e-12)
    enhanced = np.where(plane > 0, plane * (1 + rng.uniform(0, most - 1) * field), plane)
    blood = rng.uniform(*_BLOOD_HU)
    inside = (lungs > 0) & (labels == 0)
    enhanced[inside] += blood * ((plane[inside] + 300) / 300).clip(0, 1)
    for row, column in _beside_lungs(lungs, pixel, int(rng.integers(0, 4)), rng):
        radii = rng.uniform(*_GREAT_VESSEL_MM) / pixel * np.array([1.0, rng.uniform(0.7, 1.4)])
        y, x = np.ogrid[: plane.shape[0], : plane.shape[1]]
        edge = (1 - np.hypot((y - row) / radii[0], (x - column) / radii[1])) * radii.min()
        share = np.where(labels == 0, (edge + 0.5).clip(0, 1), 0)
        enhanced += share * (blood * rng.uniform(0.8, 1.0) - enhanced)
    return enhanced.astype(plane.dtype)


def _beside_lungs(lungs: Labels, pixel: float, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows and columns (count, 2) in the middle of the body, a little way from lung."""
    if not (lungs > 0).any():
        return np.zeros((0, 2), dtype=np.int64)
    columns = np.flatnonzero((lungs > 0).any(axis=0))
    middle = (columns[0] + columns[-1]) / 2
    away = ndimage.distance_transform_edt(lungs == 0) * pixel
    places = np.argwhere((away > 3) & (away < 25))
    places = places[np.abs(places[:, 1] - middle) * pixel < _MIDDLE_MM]
    return places[rng.integers(len(places), size=count)] if len(places) else places


def _hazy(hu: Volume, lungs: Labels, share: float) -> Volume:
    """Return the chest with this share of the air of its lungs replaced evenly."""
    hazy = hu.copy()
    inside = (lungs > 0) & (hu < 0)
    hazy[inside] *= 1 - share
    return hazy


def _resampled(
    plane: Volume,
    labels: Labels,
    box: tuple[slice, slice],
    step: float,
    settings: SupplySettings,
    rng: np.random.Generator,
) -> tuple[Volume, Labels]:
    """Return the box of a slice, turned and stretched about its middle, at ``step`` pixels a pixel."""
    turn = rng.uniform(-settings.turn, settings.turn)
    stretch = np.exp(0.5 * rng.uniform(-settings.stretch, settings.stretch))
    steps = step * np.array([stretch, 1 / stretch])
    size = [max(64, round((part.stop - part.start) / s)) for part, s in zip(box, steps, strict=True)]
    cosine, sine = np.cos(turn), np.sin(turn)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) * steps[None, :]
    middle = np.array([(part.start + part.stop - 1) / 2 for part in box])
    offset = middle - matrix @ ((np.array(size) - 1) / 2)
    sharp = ndimage.gaussian_filter(plane, 0.4 * max(0.0, step - 1.0)) if step > 1 else plane
    image = ndimage.affine_transform(sharp, matrix, offset, tuple(size), order=1, cval=-1000.0)
    mask = ndimage.affine_transform(labels, matrix, offset, tuple(size), order=0)
    return image, mask


def _as_picture(shown: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """Return the slice as publications print it: sharpened or enlarged from few pixels, as JPEG."""
    if rng.random() < 0.4:
        shown = shown + rng.uniform(0.3, 1.5) * (shown - ndimage.gaussian_filter(shown, 1.0))
    picture = Image.fromarray((shown.clip(0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.4:
        share = rng.uniform(0.45, 0.9)
        small = [max(16, round(share * side)) for side in picture.size]
        picture = picture.resize((small[0], small[1]), Image.Resampling.BILINEAR).resize(
            picture.size, Image.Resampling.BICUBIC
        )
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=int(rng.integers(40, 95)))
    return np.asarray(Image.open(stored), dtype=np.float32) / 255


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
