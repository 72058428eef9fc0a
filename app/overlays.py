"""Pictures of axial slices with the outlines of their lesions, for people to look at.

Radiological display: the patient's right is on the left of the picture. No picture holds patient data; each
carries the research-only mark, because pictures are copied out of their context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from covid_ct_mask_net.app.outlines import boundary_polygons
from covid_ct_mask_net.geometry import voxel_spacing
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.triage.lesions import LinkedLesion, slice_masks

LUNG_WINDOW = (-600.0, 1500.0)
"""Level and width in HU."""
# Yellow and magenta stay apart for every kind of colour vision, and neither is a grey of the CT.
LESION_COLOURS: Mapping[LesionClass, tuple[int, int, int]] = {
    LesionClass.GROUND_GLASS_OPACITY: (255, 214, 10),
    LesionClass.CONSOLIDATION: (255, 92, 205),
}
_STRIP = 66
_MARK = "RESEARCH USE ONLY. NOT FOR DIAGNOSIS."


@dataclass(frozen=True, eq=False)
class Drawn:
    """A lesion on one slice: number, class, corner (row, column) of its mask, and the mask."""

    number: int
    lesion_class: LesionClass
    corner: tuple[int, int]
    mask: NDArray[np.bool_]


def lesions_on(linked: Sequence[LinkedLesion], slice_index: int) -> tuple[Drawn, ...]:
    """Return what there is to draw on a slice; ``linked`` is in the order of the lesion numbers."""
    drawn = []
    for number, lesion in enumerate(linked, start=1):
        if slice_index in lesion.slices:
            corner, mask = slice_masks(lesion)[slice_index]
            drawn.append(Drawn(number, lesion.lesion_class, corner, mask))
    return tuple(drawn)


def draw_slice(
    hu: NDArray,
    affine: NDArray[np.float64],
    slice_index: int,
    lesions: Sequence[Drawn],
    captions: Sequence[str],
    longest: int = 768,
) -> NDArray[np.uint8]:
    """Return a picture of one slice, RGB uint8 (height, width, 3).

    Parameters
    ----------
    hu : NDArray
        HU, canonical [X, Y, Z].
    affine : NDArray
        Of the volume; pixels of the picture are square.
    slice_index : int
        Canonical index.
    lesions : sequence of Drawn
        Outlined and numbered.
    captions : sequence of str
        At most two lines for the strip below the slice, ASCII.
    longest : int
        Longer side of the slice in the picture, in pixels.
    """
    spacing = voxel_spacing(affine)
    level, span = LUNG_WINDOW
    plane = np.clip((hu[:, :, slice_index].T.astype(np.float32) - (level - span / 2)) / span, 0.0, 1.0)
    height, width = plane.shape
    scale = longest / max(width * spacing[0], height * spacing[1])
    across, down = spacing[0] * scale, spacing[1] * scale
    size = (max(1, round(width * across)), max(1, round(height * down)))
    grey = Image.fromarray(np.rint(plane * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (max(size[0], 320), size[1] + _STRIP))
    canvas.paste(grey, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for lesion in lesions:
        _outline(draw, lesion, (across, down))
    _letter(draw, "R", (8, size[1] // 2), "lm")
    _letter(draw, "L", (size[0] - 8, size[1] // 2), "rm")
    _strip(draw, canvas.size, lesions, captions)
    return np.asarray(canvas)


def _outline(draw: ImageDraw.ImageDraw, lesion: Drawn, step: tuple[float, float]) -> None:
    colour = LESION_COLOURS[lesion.lesion_class]
    row, column = lesion.corner
    polygons = [(polygon + np.array([column, row])) * step for polygon in boundary_polygons(lesion.mask)]
    for polygon in polygons:
        points = [(float(x), float(y)) for x, y in polygon]
        # A dark line below keeps the outline visible on white.
        draw.line(points, fill=(0, 0, 0), width=4, joint="curve")
        draw.line(points, fill=colour, width=2, joint="curve")
    largest = max(polygons, key=len)
    # Beside the point farthest to the upper right: the corner of the box may be far from the lesion.
    x, y = largest[np.argmax(largest[:, 0] - largest[:, 1])] + (4, -4)
    draw.text(
        (float(x), max(float(y), 14.0)), str(lesion.number), fill=colour, font=_font(18), anchor="ls",
        stroke_width=2, stroke_fill=(0, 0, 0),
    )  # fmt: skip


def _strip(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], lesions: Sequence[Drawn], captions: Sequence[str]
) -> None:
    top = size[1] - _STRIP
    draw.rectangle((0, top, size[0], size[1]), fill=(16, 18, 22))
    draw.text((8, top + 6), _MARK, fill=(255, 122, 89), font=_font(15))
    for line, caption in enumerate(captions[:2]):
        draw.text((8, top + 26 + 18 * line), caption, fill=(222, 226, 232), font=_font(14))
    x = size[0] - 8.0
    for lesion_class in sorted({lesion.lesion_class for lesion in lesions}, reverse=True):
        label, colour = lesion_class.label, LESION_COLOURS[lesion_class]
        x -= draw.textlength(label, font=_font(14))
        draw.text((x, top + 6), label, fill=colour, font=_font(14))
        draw.rectangle((x - 18, top + 9, x - 6, top + 19), outline=colour, width=2)
        x -= 34


def _letter(draw: ImageDraw.ImageDraw, letter: str, place: tuple[int, int], anchor: str) -> None:
    draw.text(
        place, letter, fill=(235, 238, 242), font=_font(22), anchor=anchor, stroke_width=2,
        stroke_fill=(0, 0, 0),
    )  # fmt: skip


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own font: the same letters on every machine.
    return ImageFont.load_default(size)
