"""What the paper and its README print, as numbers, and where they contradict themselves.

Source: Ter-Sarkisov, A. (2022), Applied Intelligence 52, 9664-9675, and the README of its repository (October
and November 2020). Shares are in [0, 1]. Nothing here is a result of this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Confusion = tuple[tuple[int, ...], ...]
TEST_SLICES, TRAINING_SLICES, LEFT_OUT_SLICES = 21_191, 3_000, 58_782
SEGMENTATION_TEST_SLICES = 100
ICTCF_TEST = {"Negative": 9_275, "COVID-19": 3_701}
MODE_NAMES = {
    "s": "only S",
    "s_bn": "S + batch normalisation",
    "full": "full model",
    "heads": "heads only",
    "roi_heads": "box and mask heads",
    "held_stem": "all but the stem",
    "s_boxes": "S + box head",
}


@dataclass(frozen=True)
class PublishedResult:
    """One row of a published table of slice classes.

    Attributes
    ----------
    sensitivity
        By class, in the order of the class ids; None where it is not known here.
    accuracy, weighted_f1
        Overall; None where the table has none.
    """

    sensitivity: tuple[float | None, ...]
    accuracy: float | None = None
    weighted_f1: float | None = None


# Table 4, by mode. The class order is ours: Control, Common Pneumonia, COVID-19.
TABLE_4: Mapping[str, PublishedResult] = {
    "s": PublishedResult((0.8237, 0.7113, 0.7630), 0.7720, 0.7730),
    "s_bn": PublishedResult((0.9110, 0.9162, 0.9080), 0.9166, 0.9150),
    "full": PublishedResult((0.9721, 0.9170, 0.8226), 0.9222, 0.9293),
}
TABLE_4_NOTES = (
    "The paper prints 91.10 % Control sensitivity for S + batch normalisation; its abstract has 92.10 %. "
    "With 91.10 the classes give an overall accuracy of 91.22 %, with 92.10 the printed 91.66 %: 91.10 is a "
    "misprint. The confusion matrix of the repository's first README (8703, 738, 9; 406, 6767, 213; 14, 386, "
    "3946) has 92.10 %, too, and lacks 9 of the 7,395 slices of Common Pneumonia.",
    "The paper prints 21,192 test slices in its text and 21,191 in Table 5; the list has 21,191.",
)
# Table 6: AP at 0.50, at 0.75, and over 0.50:0.95, by the rule of the original's code.
TABLE_6: Mapping[str, tuple[float, float, float]] = {
    "heads": (0.511, 0.301, 0.298),
    "full": (0.565, 0.413, 0.352),
}
TABLE_6_NOTES = (
    "The published AP is a mean of the AP of single slices, in which a lesion may take any overlapping "
    "detection, whatever its score, and a slice with nothing to find and nothing found counts 1. It is not "
    "COCO's AP and is compared with *original AP* only.",
    "The original's README has other figures for its released models (RoI NMS 0.75, score from 0.75): both "
    "lesions 50.20 / 41.98 / 38.71 %, merged 61.92 / 45.22 / 44.68 %, ResNet34 without its last stage "
    "59.88 / 45.06 / 44.76 %, ResNet18 49.95 / 37.78 / 39.32 %.",
)
# Table 7: the printed overall accuracy of S + BN, and what its own class sensitivities give.
TABLE_7: Mapping[str, PublishedResult] = {
    "s_bn": PublishedResult((None, None, None), 0.9389),
}
TABLE_7_RECOMPUTED_ACCURACY = 0.9275
# Table 9 (class order Negative, COVID-19). Its third figure is taken as the class-weighted F1.
TABLE_9: Mapping[str, PublishedResult] = {
    "s": PublishedResult((0.8127, 0.8545), None, 0.8201),
    "s_bn": PublishedResult((0.9146, 0.9391), None, 0.9220),
    "full": PublishedResult((0.8727, 0.9131), None, 0.8891),
}
# Table 1: millions of weights as printed.
TABLE_1_TOTAL = {"classifier": 31.52, "segmentation": 31.78}
TABLE_1_TRAINED = {"s": 2.25, "s_bn": 2.36, "full": 31.52}
TABLE_1_NOTES = (
    "Totals count parameters and batch normalisation buffers, as the paper's do.",
    "The paper prints 2.25M or 2.26M for only S and 2.36M for S + batch normalisation. S as it is coded has "
    "2,364,419 weights by itself; 2.26M is that less the 106,293 weights and buffers of batch normalisation. "
    "The original finds layers by the letters *bn* and so misses the four of the shortcuts: it trains "
    "2,409,859 weights; with all layers, as here, they are 2,417,539.",
)
# README: released models on COVIDx-CT v1 test, rows true, columns predicted.
README_CONFUSION: Mapping[str, Confusion] = {
    "merge": ((9236, 188, 26), (116, 7150, 129), (20, 298, 4028)),
    "both": ((9158, 278, 14), (204, 7030, 161), (15, 251, 4080)),
}
README_FIRST_CONFUSION: Confusion = ((8703, 738, 9), (406, 6767, 213), (14, 386, 3946))
# README: light models, (Control, Common Pneumonia, COVID-19), overall.
README_LIGHT: Mapping[str, PublishedResult] = {
    "resnet34 truncated by 1": PublishedResult((0.9289, 0.9170, 0.9176), 0.9289),
    "resnet18 truncated by 1": PublishedResult((0.9698, 0.9163, 0.9135), 0.9395),
}
TEST_CLASSES = (9450, 7395, 4346)


def overall_of(sensitivity: Sequence[float | None], slices: Sequence[int] = TEST_CLASSES) -> float | None:
    """Return the overall accuracy that class sensitivities give on so many slices; None if one is unknown."""
    if any(value is None for value in sensitivity):
        return None
    hits = sum(value * count for value, count in zip(sensitivity, slices, strict=True) if value is not None)
    return hits / sum(slices)
