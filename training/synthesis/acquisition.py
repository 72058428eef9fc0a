"""How a scanner shows a chest: motion at the heart, sharpness of the kernel, noise with its texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from covid_ct_mask_net.training.synthesis.grids import Grid, Labels, Volume


@dataclass(frozen=True)
class Acquisition:
    """One protocol.

    Attributes
    ----------
    kernel
        Name as scanners give it; ``sharp`` says whether it is a lung kernel.
    sharp
        Edges are enhanced and noise is fine-grained; soft kernels blur and leave coarse noise.
    blur_mm
        Standard deviation of the point spread in the plane.
    noise_hu
        Standard deviation of noise in soft tissue.
    motion_mm
        How far the heart and the lung beside it move during the rotation.
    """

    kernel: str
    sharp: bool
    blur_mm: float
    noise_hu: float
    motion_mm: float


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """Return a random protocol."""
    sharp = bool(rng.random() < 0.6)
    return Acquisition(
        kernel=str(rng.choice(["LUNG", "B60f", "B70f"] if sharp else ["STANDARD", "B30f", "B40f"])),
        sharp=sharp,
        blur_mm=rng.uniform(0.35, 0.6) if sharp else rng.uniform(0.6, 1.0),
        noise_hu=rng.uniform(18, 60) if sharp else rng.uniform(6, 20),
        motion_mm=float(rng.choice([0.0, 1.0], p=[0.4, 0.6]) * rng.uniform(1.5, 5.0)),
    )


def acquire(hu: Volume, lungs: Labels, grid: Grid, how: Acquisition, rng: np.random.Generator) -> Volume:
    """Return the volume as scanned, whole HU from -1024 to 3071 as float32 [Z, Y, X]."""
    scanned = np.empty_like(hu)
    sigma = how.blur_mm / grid.spacing[1]
    for index, plane in enumerate(hu):
        moved = _with_motion(plane, lungs[index], grid, how.motion_mm)
        blurred = ndimage.gaussian_filter(moved, sigma)
        noise = rng.standard_normal(plane.shape, dtype=np.float32)
        if how.sharp:
            blurred += 0.6 * (blurred - ndimage.gaussian_filter(blurred, 1.6 * sigma))
            noise = noise - ndimage.gaussian_filter(noise, 1.6)
            noise = ndimage.gaussian_filter(noise, 0.5)
        else:
            noise = ndimage.gaussian_filter(noise, 1.1)
        # Rays through much tissue carry more noise; lungs are quieter than shoulders.
        strength = how.noise_hu * (0.75 + 0.25 * np.clip((blurred + 1000) / 1000, 0, 1.2))
        scanned[index] = blurred + strength * noise / noise.std()
    result: Volume = np.rint(scanned).clip(-1024, 3071).astype(np.float32)
    return result


def _with_motion(plane: Volume, lungs: Labels, grid: Grid, reach_mm: float) -> Volume:
    """Blend the plane with itself shifted near the heart's left border: double contours and haze."""
    if reach_mm == 0 or not lungs.any():
        return plane
    y, x = grid.axis(1), grid.axis(2)
    near = np.exp(-(((x[None, :] - 50) / 38) ** 2) - ((y[:, None] + 30) / 42) ** 2).astype(np.float32)
    pixels = reach_mm / grid.spacing[1]
    shifted = ndimage.shift(plane, (-0.5 * pixels, pixels), order=1, mode="nearest")
    return plane + 0.5 * near * (shifted - plane)
