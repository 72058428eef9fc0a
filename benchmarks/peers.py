"""Time of a slice against what users might take instead, interleaved in one process, random weights.

    python benchmarks/peers.py --rounds 3

Peers: torchvision's Mask R-CNN as it comes (ResNet50, its own thresholds and masks); MobileNetV2 on whole
slices, which stands in for COVIDNet-CT (a network of that size; COVIDNet-CT itself is not run); a U-Net of
the shape of lungmask's R231 (five levels from 64 to 1024 channels, 256 x 256), made anew. The last two also
through OpenVINO. Ours has one core a slice, the others have all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import openvino as ov
import torch
import torchvision
from engines import networks, sides
from torch import Tensor, nn

from covid_ct_mask_net.engines.calibration import phantoms
from covid_ct_mask_net.engines.runtime import CORE

Run = Callable[[Tensor], object]


class UNet(nn.Module):
    """Two convolutions a level, five levels, transposed convolutions on the way up."""

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512, 1024), classes: int = 3) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [_double(a, b) for a, b in zip((1, *widths[:-1]), widths, strict=True)],
        )
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in widths[-2::-1]])
        self.merge = nn.ModuleList([_double(2 * w, w) for w in widths[-2::-1]])
        self.last = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return class scores (B, 3, H, W)."""
        levels: list[Tensor] = []
        for block in self.down:
            images = block(images if not levels else torch.max_pool2d(levels[-1], 2))
            levels.append(images)
        for up, merge, level in zip(self.up, self.merge, levels[-2::-1], strict=True):
            images = merge(torch.cat([level, up(images)], dim=1))
        scores: Tensor = self.last(images)
        return scores


def _double(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def compiled(network: nn.Module, example: Tensor) -> Run:
    """Return a network through OpenVINO on all cores."""
    model = CORE.compile_model(ov.convert_model(network, example_input=example), "CPU")
    return lambda image: model(image.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    image = torch.from_numpy(phantoms(1, 1)[0])[None, None]
    mask_rcnn = torchvision.models.detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    mobile = torchvision.models.mobilenet_v2(weights=None, num_classes=3).eval()
    unet = UNet().eval()
    three, small = image.expand(-1, 3, -1, -1).contiguous(), image[..., ::2, ::2].contiguous()
    rows: dict[str, tuple[Run, Tensor]] = {
        f"ours, {network}, {name}": (run, image)
        for network in ("resnet50", "light")
        for name, run in sides(networks(network), ["exact"], "none").items()
    }
    rows |= {
        "torchvision Mask R-CNN": (lambda x: mask_rcnn(list(x)), three),
        "MobileNetV2, torch": (mobile, three),
        "MobileNetV2, OpenVINO": (compiled(mobile, three), three),
        "U-Net 256 x 256, torch": (unet, small),
        "U-Net 256 x 256, OpenVINO": (compiled(unet, small), small),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    with torch.inference_mode():
        for turn in range(arguments.rounds + 1):
            for name, (run, source) in rows.items():
                start = time.perf_counter()
                run(source)
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    for name, taken in seconds.items():
        print(f"{name:28} {1e3 * statistics.median(taken):8.0f} ms a slice")


if __name__ == "__main__":
    main()
