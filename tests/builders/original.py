"""Checkpoints in the layout of the original repository (2020), and its documented rules written out plainly.

The reference network works on the old names with convolutions, NMS and RoIAlign alone: nothing of
torchvision's detection models and nothing of the product is in it.
"""

from __future__ import annotations

import math
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet
from torchvision.ops import nms, roi_align

SIZES = (2, 4, 8, 16, 32)
RATIOS = (0.1, 0.25, 0.5, 1, 1.5, 2)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


def _body_state(backbone: str, stages: range, generator: torch.Generator) -> OrderedDict[str, Tensor]:
    """A ResNet whose statistics fit its random weights, so that activations stay of order one."""
    body = getattr(resnet, backbone)(weights=None).train()
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(3):
            body(torch.randn(2, 3, 64, 64, generator=generator))
    kept = ("conv1", "bn1", *(f"layer{n}" for n in stages))
    return OrderedDict(
        (f"backbone.body.{name}", tensor.clone())
        for name, tensor in body.state_dict().items()
        if name.split(".")[0] in kept
    )


def original_state(
    backbone: str, truncation: int, classes: int, *, s: tuple[int, int] | None, masks: bool, seed: int = 0
) -> OrderedDict[str, Tensor]:
    """Random weights under the old names; ``s`` is (N, F) of a classifier file."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    stages = range(1, 5 - truncation)
    state = _body_state(backbone, stages, generator)
    widths = (256, 512, 1024, 2048) if backbone == "resnet50" else (64, 128, 256, 512)
    maps = [widths[n - 1] for n in stages] if backbone == "resnet50" else [widths[stages[-1] - 1]]

    def layer(name: str, *shape: int, outputs: int | None = None, scale: float = 1.0) -> None:
        fan_in = math.prod(shape[1:])
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale / math.sqrt(fan_in)
        state[f"{name}.bias"] = 0.1 * torch.randn(outputs or shape[0], generator=generator)

    for level, width in enumerate(maps):
        layer(f"backbone.fpn.inner_blocks.{level}", 256, width, 1, 1)
    for level in range(len(maps)):
        layer(f"backbone.fpn.layer_blocks.{level}", 256, 256, 3, 3)
    layer("rpn.head.conv", 256, 256, 3, 3)
    layer("rpn.head.cls_logits", 30, 256, 1, 1)
    layer("rpn.head.bbox_pred", 120, 256, 1, 1, scale=0.3)
    layer("roi_heads.box_head.fc6", 128, 12544, scale=2)
    layer("roi_heads.box_head.fc7", 128, 128, scale=2)
    layer("roi_heads.box_predictor.cls_score", classes, 128, scale=0.3)
    layer("roi_heads.box_predictor.bbox_pred", 4 * classes, 128)
    if masks:
        mask_width, mask_layers = (256, 4) if backbone == "resnet50" else (128, 1)
        for number in range(1, mask_layers + 1):
            layer(f"roi_heads.mask_head.mask_fcn{number}", mask_width, 256, 3, 3)
        layer("roi_heads.mask_predictor.conv5_mask", mask_width, mask_width, 2, 2)
        layer("roi_heads.mask_predictor.mask_fcn_logits", classes, mask_width, 1, 1)
    if s is not None:
        count, features = s
        layer("s2new.fc_scores", features, 5 * count)
        layer("s2new.fc_scores_2", features, features)
        layer("s2new.fc_scores_img", 3, features)
    return state


def write_original(
    path: Path,
    state: OrderedDict[str, Tensor],
    *,
    archive: bool = True,
    module: str = "models.mask_net.rpn_segmentation",
    sizes: tuple[tuple[float, ...], ...] = (SIZES,) * 5,
    **changes: Any,
) -> Path:
    """Save as the original's training scripts do: six keys, a live anchor generator among the values."""
    package = [module.rsplit(".", n)[0] for n in range(module.count("."), 0, -1)]
    names = {name: types.ModuleType(name) for name in (*package, module)}

    class AnchorGenerator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sizes = sizes
            self.aspect_ratios = (RATIOS,) * len(sizes)
            self.cell_anchors = [torch.zeros(30, 4)] * len(sizes)
            self._cache = {(torch.Size([16, 16]), (4.0, 4.0)): [torch.arange(8.0)[4:]]}

    AnchorGenerator.__module__, AnchorGenerator.__qualname__ = module, "AnchorGenerator"
    names[module].AnchorGenerator = AnchorGenerator  # type: ignore[attr-defined]
    weight = next(iter(state.values()))
    content = {
        "epoch": "100",
        "model_weights": state,
        "optimizer_state": {"state": {0: {"step": 5, "exp_avg": weight * 0}}, "param_groups": [{"lr": 1e-5}]},
        "lrate": 1e-5,
        "anchor_generator": AnchorGenerator(),
        "model_name": None,
        **changes,
    }
    sys.modules.update(names)
    try:
        torch.save(content, path, _use_new_zipfile_serialization=archive)
    finally:
        for name in names:
            del sys.modules[name]
    return path


class OriginalClassifier:
    """Rows and logits of one slice by the documented rules, from weights under the old names."""

    def __init__(
        self, state: OrderedDict[str, Tensor], backbone: str, truncation: int, min_size: int
    ) -> None:
        self.state, self.backbone, self.min_size = state, backbone, min_size
        self.stages = list(range(1, 5 - truncation))
        self.count = state["s2new.fc_scores.weight"].shape[1] // 5

    @torch.no_grad()
    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels, size = self._prepare(image)
        maps = self._fpn(self._body(pixels))
        proposals = self._proposals(maps, pixels.shape[-1], pixels.shape[-2], size)
        rows = self._rows(maps, proposals, pixels.shape[-1], size)
        hidden = functional.relu(self._linear("s2new.fc_scores", rows.reshape(1, -1)))
        hidden = functional.relu(self._linear("s2new.fc_scores_2", hidden))
        return rows, self._linear("s2new.fc_scores_img", hidden)[0]

    def _prepare(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        channels = [(image[0] - m) / s for m, s in zip(MEAN, STD, strict=True)]
        pixels = torch.stack(channels)[None]
        short, long = min(image.shape[-2:]), max(image.shape[-2:])
        scale = self.min_size / short
        if long * scale > 1024:
            scale = 1024 / long
        pixels = functional.interpolate(
            pixels, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False
        )
        height, width = pixels.shape[-2:]
        return functional.pad(pixels, (0, -width % 32, 0, -height % 32)), (height, width)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def _conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return functional.conv2d(
            x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"), stride=stride, padding=padding
        )

    def _bn(self, name: str, x: Tensor) -> Tensor:
        parts = [self.state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts, eps=1e-5)

    def _body(self, x: Tensor) -> list[Tensor]:
        at = "backbone.body"
        x = functional.relu(self._bn(f"{at}.bn1", self._conv(f"{at}.conv1", x, 2, 3)))
        x = functional.max_pool2d(x, 3, 2, 1)
        maps = []
        for stage in self.stages:
            for block in range(BLOCKS[self.backbone][stage - 1]):
                x = self._block(f"{at}.layer{stage}.{block}", x, 2 if block == 0 and stage > 1 else 1)
            maps.append(x)
        return maps if self.backbone == "resnet50" else maps[-1:]

    def _block(self, at: str, x: Tensor, stride: int) -> Tensor:
        if self.backbone == "resnet50":
            y = functional.relu(self._bn(f"{at}.bn1", self._conv(f"{at}.conv1", x)))
            y = functional.relu(self._bn(f"{at}.bn2", self._conv(f"{at}.conv2", y, stride, 1)))
            y = self._bn(f"{at}.bn3", self._conv(f"{at}.conv3", y))
        else:
            y = functional.relu(self._bn(f"{at}.bn1", self._conv(f"{at}.conv1", x, stride, 1)))
            y = self._bn(f"{at}.bn2", self._conv(f"{at}.conv2", y, 1, 1))
        if f"{at}.downsample.0.weight" in self.state:
            x = self._bn(f"{at}.downsample.1", self._conv(f"{at}.downsample.0", x, stride))
        return functional.relu(x + y)

    def _fpn(self, maps: list[Tensor]) -> list[Tensor]:
        at = "backbone.fpn"
        merged: list[Tensor] = []
        for level in reversed(range(len(maps))):
            lateral = self._conv(f"{at}.inner_blocks.{level}", maps[level])
            if merged:
                lateral = lateral + functional.interpolate(merged[0], size=lateral.shape[-2:], mode="nearest")
            merged.insert(0, lateral)
        return [self._conv(f"{at}.layer_blocks.{n}", m, padding=1) for n, m in enumerate(merged)]

    def _proposals(self, maps: list[Tensor], width: int, height: int, size: tuple[int, int]) -> Tensor:
        boxes, scores = [], []
        for features in maps:
            hidden = functional.relu(self._conv("rpn.head.conv", features, padding=1))
            objectness = self._conv("rpn.head.cls_logits", hidden)[0].permute(1, 2, 0).reshape(-1)
            deltas = self._conv("rpn.head.bbox_pred", hidden)[0].permute(1, 2, 0).reshape(-1, 4)
            rows, columns = features.shape[-2:]
            anchors = _anchors(rows, columns, height // rows, width // columns)
            best = objectness.topk(min(1000, len(objectness))).indices
            found = _clip(_decode(anchors[best], deltas[best], (1, 1, 1, 1)), size)
            keep = nms(found, objectness[best], 0.75)
            boxes.append(found[keep])
            scores.append(objectness[best][keep])
        order = torch.cat(scores).argsort(descending=True)[:1000]
        return torch.cat(boxes)[order]

    def _rows(self, maps: list[Tensor], proposals: Tensor, width: int, size: tuple[int, int]) -> Tensor:
        pooled = torch.zeros(len(proposals), 256, 7, 7)
        area = (proposals[:, 2:] - proposals[:, :2]).prod(1)
        levels = torch.zeros(len(proposals))
        if len(maps) > 1:
            levels = torch.floor(4 + torch.log2(area.sqrt() / 224) + 1e-6).clamp(2, 5) - 2
        for level, features in enumerate(maps):
            at = torch.nonzero(levels == level)[:, 0]
            pooled[at] = roi_align(features, [proposals[at]], 7, features.shape[-1] / width, 2)
        hidden = functional.relu(self._linear("roi_heads.box_head.fc6", pooled.flatten(1)))
        hidden = functional.relu(self._linear("roi_heads.box_head.fc7", hidden))
        scores = self._linear("roi_heads.box_predictor.cls_score", hidden).softmax(1)
        deltas = self._linear("roi_heads.box_predictor.bbox_pred", hidden)
        found = []
        for lesion in range(1, scores.shape[1]):
            encoded = deltas[:, 4 * lesion : 4 * lesion + 4]
            boxes = _clip(_decode(proposals, encoded, (10, 10, 5, 5)), size)
            with_area = torch.nonzero((boxes[:, 2:] - boxes[:, :2]).prod(1) > 0)[:, 0]
            keep = with_area[nms(boxes[with_area], scores[with_area, lesion], 0.75)]
            found.append(torch.cat([scores[keep, lesion, None], encoded[keep]], 1))
        rows = torch.cat(found)
        rows = rows[rows[:, 0].argsort(descending=True, stable=True)][: self.count]
        return rows[[r * len(rows) // self.count for r in range(self.count)]]


def _anchors(rows: int, columns: int, step_y: int, step_x: int) -> Tensor:
    shapes = [(size / math.sqrt(ratio), size * math.sqrt(ratio)) for ratio in RATIOS for size in SIZES]
    cell = torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in shapes]).round()
    y, x = torch.meshgrid(torch.arange(rows) * step_y, torch.arange(columns) * step_x, indexing="ij")
    corners = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
    return (corners + cell).reshape(-1, 4)


def _decode(boxes: Tensor, deltas: Tensor, weights: tuple[int, int, int, int]) -> Tensor:
    extent = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + extent / 2
    shift, growth = (deltas / torch.tensor(weights)).split(2, 1)
    centre = centre + shift * extent
    half = growth.clamp(max=math.log(1000 / 16)).exp() * extent / 2
    return torch.cat([centre - half, centre + half], 1)


def _clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    x, y = boxes[:, 0::2].clamp(0, size[1]), boxes[:, 1::2].clamp(0, size[0])
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)
