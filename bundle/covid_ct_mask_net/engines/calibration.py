"""From float32 to int8: ranges of the activations, measured on phantoms that never change.

Phantoms, not the slices at hand: the same study must give the same result, whatever was read before it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]

CALIBRATION_SLICES = 32
_SIDE = 512
_SEED = 20201106


def quantise_trunk(model: ov.Model) -> ov.Model:
    """Return a trunk with int8 convolutions (NNCF, post-training, no retraining).

    The stem and the 1 x 1 convolutions of the RPN head stay as they are: they cost little, and what they
    give is ranked.

    Parameters
    ----------
    model : Model
        Of `covid_ct_mask_net.engines.graph.trunk_graph`; float32, height and width open.
    """
    inputs = [_network_input(image) for image in calibration_phantoms()]
    return _quantised(model, inputs, _kept_in_float(model))


def quantise_box_heads(model: ov.Model, pooled: Iterable[Floats]) -> ov.Model:
    """Return box heads whose first layer, which takes nearly all of their time, is int8.

    Parameters
    ----------
    model : Model
        Of `covid_ct_mask_net.engines.graph.box_graph`; float32.
    pooled : iterable of (regions, bins * channels)
        Regions of calibration phantoms.
    """
    dense = [node for node in model.get_ordered_ops() if node.get_type_name() == "MatMul"]
    kept = [node.get_friendly_name() for node in dense if node.input_value(0) != model.input(0)]
    return _quantised(model, list(pooled), kept)


def calibration_phantoms() -> list[Floats]:
    """Return the phantoms that int8 graphs are calibrated on."""
    return phantoms(CALIBRATION_SLICES, _SEED)


def _quantised(model: ov.Model, inputs: list[Floats], kept: list[str]) -> ov.Model:
    """Return a copy in int8 but for some nodes, given by name."""
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf.quantize(
        model.clone(),
        nncf.Dataset(inputs),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=kept),
    )


def phantoms(count: int, seed: int) -> list[Floats]:
    """Return slices (512, 512) in [0, 1] with body, lungs, vessels, opacities and noise.

    They stand in for chest CT under a lung window where only ranges of values matter.
    """
    random = np.random.default_rng(seed)
    return [_phantom(random) for _ in range(count)]


def _phantom(random: np.random.Generator) -> Floats:
    y, x = np.mgrid[-1.0 : 1.0 : _SIDE * 1j, -1.0 : 1.0 : _SIDE * 1j].astype(np.float32)
    image = np.zeros((_SIDE, _SIDE), dtype=np.float32)
    size = random.uniform(0.65, 0.95)
    image[_ellipse(x, y, 0.0, 0.0, size, size * random.uniform(0.65, 0.85))] = random.uniform(0.85, 1.0)
    lungs = np.zeros(image.shape, dtype=bool)
    height = random.uniform(0.15, 0.5) * size
    for sign in (-1, 1):
        lungs |= _ellipse(x, y, sign * 0.42 * size, 0.0, random.uniform(0.2, 0.33) * size, height)
    image[lungs] = random.uniform(0.02, 0.2)
    vessels = ndimage.gaussian_filter(random.standard_normal(image.shape).astype(np.float32), 2.0)
    image[lungs & (vessels > np.quantile(vessels, 0.96))] = random.uniform(0.5, 0.9)
    for _ in range(random.integers(0, 6)):
        centre = random.uniform(-0.6, 0.6, 2)
        spot = _ellipse(x, y, centre[0], centre[1] / 2, *random.uniform(0.03, 0.2, 2))
        image[lungs & spot] += random.uniform(0.15, 0.8)
    image = ndimage.gaussian_filter(image, random.uniform(0.4, 1.2))
    image += random.normal(0.0, random.uniform(0.005, 0.05), image.shape).astype(np.float32)
    return np.clip(image, 0.0, 1.0)


def _ellipse(x: Floats, y: Floats, x0: float, y0: float, a: float, b: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = ((x - x0) / a) ** 2 + ((y - y0) / b) ** 2 <= 1.0
    return inside


def _network_input(image: Floats) -> Floats:
    return np.stack([image, np.ones_like(image)])[None]


def _kept_in_float(model: ov.Model) -> list[str]:
    """Return the names of the convolutions that stay in float: the first, and those that are outputs."""
    convolutions = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    kept = [convolutions[0].get_friendly_name()]
    levels = len(model.outputs) // 3
    for result in model.outputs[levels:]:
        node = result.get_node().input_value(0).get_node()
        while node.get_type_name() != "Convolution":
            node = node.input_value(0).get_node()
        kept.append(node.get_friendly_name())
    return kept
