"""Where the lesions lie in the lungs, from the front and from the side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from covid_ct_mask_net.app.overlays import LESION_COLOURS
from covid_ct_mask_net.geometry import voxel_spacing
from covid_ct_mask_net.labels import LesionClass

_BACKGROUND, _LUNG = 16, 110.0


def coronal(
    lungs: NDArray[np.uint8], labels: NDArray[np.uint8], affine: NDArray[np.float64], height: int = 360
) -> NDArray[np.uint8]:
    """Return the view from the front: patient's right on the left, head up.

    Parameters
    ----------
    lungs, labels : NDArray
        uint8, canonical [X, Y, Z]: nonzero in the lungs; lesion classes.
    affine : NDArray
        Of both.
    height : int
        Of the picture in pixels.

    Returns
    -------
    NDArray
        RGB uint8 (height, width, 3). Lungs are the brighter the deeper they are; of lesions one behind the
        other consolidation is shown.
    """
    return _project(lungs, labels, affine, height, along=1)


def sagittal(
    lungs: NDArray[np.uint8], labels: NDArray[np.uint8], affine: NDArray[np.float64], height: int = 360
) -> NDArray[np.uint8]:
    """Return the view from the patient's left: front on the left, head up; as `coronal`."""
    return _project(lungs, labels, affine, height, along=0)


def _project(
    lungs: NDArray[np.uint8], labels: NDArray[np.uint8], affine: NDArray[np.float64], height: int, along: int
) -> NDArray[np.uint8]:
    across = 1 - along
    spacing = voxel_spacing(affine)
    # Rows of the picture run down from the head: the third index backwards.
    # Slice by slice: counted at once, the voxels would be copied.
    counts = np.array([np.count_nonzero(plane, axis=along) for plane in lungs.transpose(2, 0, 1)])
    depth = counts[::-1].astype(np.float64)
    classes = labels.max(axis=along)[:, ::-1].T
    most = depth.max()
    grey = _BACKGROUND + (_LUNG * np.sqrt(depth / most) if most else depth)
    picture = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    for lesion_class in LesionClass:
        picture[classes == lesion_class] = LESION_COLOURS[lesion_class]
    scale = height / (picture.shape[0] * spacing[2])
    size = (max(1, round(picture.shape[1] * spacing[across] * scale)), height)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST))
