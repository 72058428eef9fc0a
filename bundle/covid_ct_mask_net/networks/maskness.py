"""Scores that count how sure the outline of a lesion is, not only its box."""

from __future__ import annotations

from torch import Tensor


def maskness(masks: Tensor) -> Tensor:
    """Return how sure each mask is of its pixels: the mean probability of those from 0.5 on.

    SOLO (Wang 2020, arXiv 1912.04488) has the name and multiplies scores by it. A mask without such a pixel
    gets 0.

    Parameters
    ----------
    masks : Tensor
        (n, 1, h, w) probabilities.

    Returns
    -------
    Tensor
        (n,), each 0 or in [0.5, 1].
    """
    flat = masks.flatten(1)
    inside = flat >= 0.5
    count = inside.sum(dim=1)
    return (flat * inside).sum(dim=1) / count.clamp(min=1)


def score_by_masks(found: dict[str, Tensor], min_score: float) -> dict[str, Tensor]:
    """Return the detections of a slice with scores multiplied by their maskness, best first.

    Parameters
    ----------
    found : dict
        ``scores`` (n,) of boxes, ``masks`` (n, 1, h, w), and what else has one entry a detection.
    min_score : float
        What scores less after it is left out.
    """
    scores = found["scores"] * maskness(found["masks"])
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= min_score]
    return {**{name: values[order] for name, values in found.items()}, "scores": scores[order]}
