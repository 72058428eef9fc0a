"""What the paper and its README print, as numbers, and where they contradict themselves.

Source: Ter-Sarkisov, A. (2022), Applied Intelligence 52, 9664-9675, and the README of its repository (October
and November 2020). Shares are in [0, 1]. Nothing here is a result of this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from covid_ct_mask_net.networks.settings import FULL_BACKBONE
from covid_ct_mask_net.training.metrics.classification import figures

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
MASK_NAMES = {"both": "both lesions", "ggo": "ground-glass opacity alone", "merge": "merged lesions"}
PAPER, README = "the paper", "the README"


class Variant(NamedTuple):
    """Which network a figure is of; a run is compared with published figures of its own variant alone.

    Attributes
    ----------
    backbone, truncation
        ``resnet50``, or ``resnet18`` or ``resnet34`` and how many of the last stages are cut off.
    mask_type
        Lesions of the detector: both, ggo, merge.
    mode
        What was trained, as in ``run.json``.
    """

    backbone: str
    truncation: int
    mask_type: str
    mode: str

    @property
    def network(self) -> str:
        """Backbone and lesions for people: ``resnet18 truncated by 1, merged lesions``."""
        lesions = MASK_NAMES.get(self.mask_type, self.mask_type)
        if self.backbone == FULL_BACKBONE:
            return lesions
        return f"{self.backbone} truncated by {self.truncation}, {lesions}"


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


@dataclass(frozen=True)
class Reference:
    """A published row that runs of one variant are compared with.

    Attributes
    ----------
    source
        `PAPER` or `README`.
    result
        Its figures.
    """

    source: str
    result: PublishedResult


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
    "Rows of the original's README are of its released models, at RoI NMS 0.75 and scores from 0.75. A run "
    "is compared with the paper where it was evaluated under the paper's thresholds (protocol *paper*), with "
    "the README where under the README's (*readme*), and only with the same network.",
)
# README: AP of the released models on the same list. All weights were trained, the light ones on merged
# lesions.
README_AP: Mapping[Variant, tuple[float, float, float]] = {
    Variant(FULL_BACKBONE, 0, "both", "full"): (0.5020, 0.4198, 0.3871),
    Variant(FULL_BACKBONE, 0, "merge", "full"): (0.6192, 0.4522, 0.4468),
    Variant("resnet34", 1, "merge", "full"): (0.5988, 0.4506, 0.4476),
    Variant("resnet18", 1, "merge", "full"): (0.4995, 0.3778, 0.3932),
}
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
    "2,409,859 weights, as here by default; with all layers (`batch_norm_layers`) they are 2,417,539.",
)
# README: released models on COVIDx-CT v1 test, rows true, columns predicted.
README_CONFUSION: Mapping[str, Confusion] = {
    "merge": ((9236, 188, 26), (116, 7150, 129), (20, 298, 4028)),
    "both": ((9158, 278, 14), (204, 7030, 161), (15, 251, 4080)),
}
README_FIRST_CONFUSION: Confusion = ((8703, 738, 9), (406, 6767, 213), (14, 386, 3946))
# README: light models, (Control, Common Pneumonia, COVID-19), overall. S and batch normalisation were
# trained, on detectors of merged lesions.
README_LIGHT: Mapping[Variant, PublishedResult] = {
    Variant("resnet34", 1, "merge", "s_bn"): PublishedResult((0.9289, 0.9170, 0.9176), 0.9289),
    Variant("resnet18", 1, "merge", "s_bn"): PublishedResult((0.9698, 0.9163, 0.9135), 0.9395),
}
TEST_CLASSES = (9450, 7395, 4346)


def overall_of(sensitivity: Sequence[float | None], slices: Sequence[int] = TEST_CLASSES) -> float | None:
    """Return the overall accuracy that class sensitivities give on so many slices; None if one is unknown."""
    if any(value is None for value in sensitivity):
        return None
    hits = sum(value * count for value, count in zip(sensitivity, slices, strict=True) if value is not None)
    return hits / sum(slices)


def _of_matrix(confusion: Confusion) -> PublishedResult:
    of = figures(confusion)
    return PublishedResult(tuple(float(one) for one in of.sensitivity), of.accuracy, of.weighted_f1)


def _of_the_paper(rows: Mapping[str, PublishedResult]) -> dict[Variant, Reference]:
    """Return the rows of a table of the paper, all of ResNet50 and both lesions, by variant."""
    return {Variant(FULL_BACKBONE, 0, "both", mode): Reference(PAPER, row) for mode, row in rows.items()}


# What runs are compared with. A variant that is not here has no published figures.
SLICE_CLASSES: Mapping[Variant, Reference] = {
    **_of_the_paper(TABLE_4),
    Variant(FULL_BACKBONE, 0, "merge", "s_bn"): Reference(README, _of_matrix(README_CONFUSION["merge"])),
    **{variant: Reference(README, row) for variant, row in README_LIGHT.items()},
}
BINARY_CLASSES: Mapping[Variant, Reference] = _of_the_paper(TABLE_9)
# By the protocol (`metrics.protocols`) whose thresholds the figures were made with.
LESION_AP: Mapping[str, tuple[str, Mapping[Variant, tuple[float, float, float]]]] = {
    "paper": (PAPER, {Variant(FULL_BACKBONE, 0, "both", mode): row for mode, row in TABLE_6.items()}),
    "readme": (README, README_AP),
}
