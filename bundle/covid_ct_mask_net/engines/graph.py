"""The networks' convolutions and fully connected layers as OpenVINO graphs, built from the weights.

Built, not traced: the graph then has its batch normalisation folded into the convolutions, a stem that reads
one channel, and feature maps with channels last, which the kernels behind it want.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.resnet import BasicBlock, Bottleneck

from covid_ct_mask_net.networks.classifier import HeadS

Weights = NDArray[np.float32]

STEM_CHANNELS = 2


def trunk_graph(network: FasterRCNN) -> ov.Model:
    """Return backbone, FPN and RPN head.

    Parameters
    ----------
    network : FasterRCNN
        Detector or classifier.

    Returns
    -------
    Model
        Input (1, 2, H, W) with H and W open, to be set to multiples of 32: the slice in [0, 1], and ones
        where the slice is; both zero in the padding. Outputs, each (h, w, channels): the feature maps, the
        objectness (h, w, A), then the box deltas (h, w, 4 A) of each level, finest first.
    """
    image = ops.parameter([1, STEM_CHANNELS, -1, -1], np.float32, name="slice")
    body = network.backbone.body
    x = _stem(image, body.conv1, body.bn1, network)
    x = ops.max_pool(x, [2, 2], [1, 1], [1, 1], [1, 1], [3, 3]).output(0)
    levels = []
    for name, stage in body.items():
        if name.startswith("layer"):
            for block in stage:
                x = _block(x, block)
            if name in body.return_layers:
                levels.append(x)
    features = _pyramid(levels, network.backbone.fpn)
    objectness, deltas = [], []
    head = network.rpn.head
    for feature in features:
        hidden = feature
        for layer in head.conv:
            hidden = ops.relu(_convolution(hidden, layer[0]))
        objectness.append(_convolution(hidden, head.cls_logits))
        deltas.append(_convolution(hidden, head.bbox_pred))
    outputs = [_channels_last(node) for node in (*features, *objectness, *deltas)]
    return ov.Model(outputs, [image], "trunk")


def box_graph(networks: Sequence[FasterRCNN], regions: int) -> ov.Model:
    """Return the box heads of networks with the same pooled regions, for a fixed number of regions.

    Their first layers, which take nearly all the time, are one.

    Parameters
    ----------
    networks : sequence of FasterRCNN
        Detector, classifier or both, with box heads of the same widths.
    regions : int

    Returns
    -------
    Model
        Input (regions, bins * 256), channels last within a bin; outputs class logits (regions, C) and box
        deltas (regions, 4 C) of each network.
    """
    firsts = [network.roi_heads.box_head.fc6 for network in networks]
    pooled = ops.parameter([regions, firsts[0].in_features], np.float32, name="pooled")
    weights = np.concatenate([_bins_first(network) for network in networks])
    biases = np.concatenate([_array(first.bias) for first in firsts])
    shared = ops.relu(_dense(pooled, weights, biases))
    parts = ops.split(shared, _constant_int(1), len(networks)).outputs()
    outputs = []
    for network, part in zip(networks, parts, strict=True):
        heads = network.roi_heads
        hidden = ops.relu(_linear(part, heads.box_head.fc7))
        predictor = heads.box_predictor
        outputs += [_linear(hidden, predictor.cls_score), _linear(hidden, predictor.bbox_pred)]
    return ov.Model(outputs, [pooled], "box_heads")


def mask_graph(head: MaskRCNNHeads, predictor: MaskRCNNPredictor, regions: int, side: int) -> ov.Model:
    """Return the mask branch: from pooled regions (n, side, side, 256) to probabilities (n, C, 2 s, 2 s)."""
    channels = head[0][0].in_channels
    pooled = ops.parameter([regions, side, side, channels], np.float32, name="pooled")
    x = ops.transpose(pooled, _ints([0, 3, 1, 2]))
    for layer in head:
        x = ops.relu(_convolution(x, layer[0]))
    up = predictor.conv5_mask
    x = ops.convolution_backprop_data(
        x, _constant(_array(up.weight)), strides=list(up.stride), pads_begin=[0, 0], pads_end=[0, 0],
        dilations=[1, 1],
    )  # fmt: skip
    x = ops.relu(ops.add(x, _constant(_array(up.bias).reshape(1, -1, 1, 1))))
    return ov.Model([ops.sigmoid(_convolution(x, predictor.mask_fcn_logits))], [pooled], "mask_branch")


def s_graph(head: HeadS) -> ov.Model:
    """Return S: input (1, 5 N), output logits (1, classes)."""
    rows = ops.parameter([1, head.fc1.in_features], np.float32, name="rows")
    hidden = ops.relu(_linear(rows, head.fc1))
    hidden = ops.relu(_linear(hidden, head.fc2))
    return ov.Model([_linear(hidden, head.fc3)], [rows], "s")


def _stem(image: ov.Node, convolution: nn.Conv2d, norm: nn.BatchNorm2d, network: FasterRCNN) -> ov.Node:
    """Return normalisation, first convolution and ReLU of a grey slice.

    Three equal channels, each normalised, are one channel with weights sum(w / std) and a channel of ones
    with weights -sum(w mean / std). Padding is zero after normalisation, so the ones end where
    the slice does.
    """
    weight, bias = _folded(convolution, norm)
    mean = np.asarray(network.transform.image_mean, dtype=np.float64)[:, None, None]
    std = np.asarray(network.transform.image_std, dtype=np.float64)[:, None, None]
    wide = weight.astype(np.float64)
    grey = np.stack([(wide / std).sum(axis=1), -(wide * mean / std).sum(axis=1)], axis=1)
    return ops.relu(_convolve(image, grey.astype(np.float32), bias, convolution))


def _block(x: ov.Node, block: BasicBlock | Bottleneck) -> ov.Node:
    steps = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
    if isinstance(block, Bottleneck):
        steps.append((block.conv3, block.bn3))
    y = x
    for number, (convolution, norm) in enumerate(steps, start=1):
        y = _convolve(y, *_folded(convolution, norm), convolution)
        if number < len(steps):
            y = ops.relu(y)
    if block.downsample is not None:
        convolution, norm = block.downsample
        x = _convolve(x, *_folded(convolution, norm), convolution)
    return ops.relu(ops.add(y, x))


def _pyramid(levels: list[ov.Node], fpn: Any) -> list[ov.Node]:
    """Return the FPN maps, finest first; every level is half as large as the one before."""
    inner = _convolution(levels[-1], fpn.inner_blocks[-1][0])
    maps = [_convolution(inner, fpn.layer_blocks[-1][0])]
    for level in reversed(range(len(levels) - 1)):
        lateral = _convolution(levels[level], fpn.inner_blocks[level][0])
        above = ops.interpolate(
            inner, _constant(np.asarray([2.0, 2.0], dtype=np.float32)), "nearest", "scales",
            axes=_ints([2, 3]), coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
        inner = ops.add(lateral, above)
        maps.insert(0, _convolution(inner, fpn.layer_blocks[level][0]))
    return maps


def _bins_first(network: FasterRCNN) -> Weights:
    """Return the weights of the first layer of a box head for pooled regions with channels last."""
    first = network.roi_heads.box_head.fc6
    bins = first.in_features // network.backbone.out_channels
    by_bin = _array(first.weight).reshape(first.out_features, -1, bins).transpose(0, 2, 1)
    return np.ascontiguousarray(by_bin.reshape(first.out_features, -1))


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Weights, Weights]:
    """Return weight and bias of a convolution with its batch normalisation in test mode folded in."""
    scale = (
        cast("Tensor", norm.weight).double() / (cast("Tensor", norm.running_var).double() + norm.eps).sqrt()
    )
    weight = convolution.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - cast("Tensor", norm.running_mean).double() * scale
    return _array(weight), _array(bias)


def _convolution(x: ov.Node, layer: nn.Conv2d) -> ov.Node:
    return _convolve(x, _array(layer.weight), None if layer.bias is None else _array(layer.bias), layer)


def _convolve(x: ov.Node, weight: Weights, bias: Weights | None, layer: nn.Conv2d) -> ov.Node:
    pads = [int(p) for p in layer.padding]
    y = ops.convolution(x, _constant(weight), list(layer.stride), pads, pads, list(layer.dilation))
    return y if bias is None else ops.add(y, _constant(bias.reshape(1, -1, 1, 1)))


def _linear(x: ov.Node, layer: nn.Linear) -> ov.Node:
    return _dense(x, _array(layer.weight), _array(layer.bias))


def _dense(x: ov.Node, weight: Weights, bias: Weights) -> ov.Node:
    return ops.add(ops.matmul(x, _constant(weight), False, True), _constant(bias[None]))


def _channels_last(node: ov.Node) -> ov.Node:
    return ops.squeeze(ops.transpose(node, _ints([0, 2, 3, 1])), _ints([0]))


def _array(tensor: Tensor) -> Weights:
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(np.float32))


def _constant(values: NDArray[np.float32] | np.float32) -> ov.Node:
    return ops.constant(values, np.float32)


def _constant_int(value: int) -> ov.Node:
    return ops.constant(np.int64(value), np.int64)


def _ints(values: list[int]) -> ov.Node:
    return ops.constant(np.asarray(values, dtype=np.int64))
