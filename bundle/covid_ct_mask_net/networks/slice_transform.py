"""From one-channel slices to what torchvision's detection networks take."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from covid_ct_mask_net.networks.settings import DetectorSettings

SCALE = "scale"


class SliceTransform(GeneralizedRCNNTransform):
    """ImageNet normalisation to three channels and the resize that the paper's networks were trained with.

    A slice ``(1, H, W)`` in [0, 1] becomes ``(3, h, w)`` with the short side ``image_min_size`` unless the
    long side would pass ``image_max_size``. The image is interpolated with the scale factor itself, as
    torchvision did in 2020; today's torchvision recomputes it from the rounded size, which moves the logits
    by up to 1 for sizes that do not divide evenly.

    A crop must show anatomy at the scale of the slice that it was cut from. Its target dictionary then holds
    ``scale``, the `scale_of` that slice, and the crop is resized by this factor, whatever its own size.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        super().__init__(
            min_size=settings.image_min_size,
            max_size=settings.image_max_size,
            image_mean=list(settings.image_mean),
            image_std=list(settings.image_std),
        )

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize a slice and its targets (boxes in pixels, masks nearest-neighbour).

        A target may hold ``scale`` (see the class); with it ``boxes`` and ``masks`` may be absent.
        """
        height, width = image.shape[-2:]
        given = None if target is None else target.pop(SCALE, None)
        scale = self.scale_of(height, width) if given is None else float(given)
        if scale == 1.0:
            return image, target
        image = rescaled(image[None], scale)[0]
        if target is not None and "boxes" in target:
            target["boxes"] = resize_boxes(target["boxes"], [height, width], list(image.shape[-2:]))
            if "masks" in target:
                masks = target["masks"][:, None].to(torch.float32)
                target["masks"] = functional.interpolate(masks, size=image.shape[-2:])[:, 0].to(torch.uint8)
        return image, target

    def scale_of(self, height: int, width: int) -> float:
        """Return the factor by which a whole slice of this size is resized."""
        return float(min(self.min_size[-1] / min(height, width), self.max_size / max(height, width)))

    def resized_shape(self, height: int, width: int, scale: float | None = None) -> tuple[int, int]:
        """Return the shape that a slice, or a crop with a scale, gets; equal shapes may share a pass."""
        factor = self.scale_of(height, width) if scale is None else scale
        return int(height * factor), int(width * factor)


def rescaled(images: Tensor, scale: float) -> Tensor:
    """Return images (B, C, H, W) resized by a factor, as the paper's networks were trained to see them."""
    if scale == 1.0:
        return images
    return functional.interpolate(
        images, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=False
    )
