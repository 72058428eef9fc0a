"""Table 1: sizes of networks and splits, counted from the networks as they are built."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from covid_ct_mask_net.networks.classifier import CovidCTMaskNet, HeadS
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)
from covid_ct_mask_net.training.modes import parameter_counts, train_classifier, train_detector
from covid_ct_mask_net.training.runs import Run
from covid_ct_mask_net.training.tables import published
from covid_ct_mask_net.training.tables.measured import run_label
from covid_ct_mask_net.training.tables.published import MODE_NAMES
from covid_ct_mask_net.training.tables.table import MISSING, Table, millions

_LIGHT = (
    ("resnet34", 0),
    ("resnet34", 1),
    ("resnet34", 2),
    ("resnet18", 0),
    ("resnet18", 1),
    ("resnet18", 2),
)
# README: total of the light classifiers in millions.
_README_LIGHT = dict(zip(_LIGHT, (24.86, 11.74, 4.92, 14.75, 6.35, 4.25), strict=True))
_COLUMNS = ("network", "total", "trained", "paper: total", "paper: trained")


def table_1(runs: Sequence[Run]) -> Table:
    """Return Table 1: weights of both networks by what is trained, of the light ones, and of the runs."""
    rows = []
    for mode in ("heads", "full"):
        counts = _detector_counts(DetectorSettings(), mode)
        rows.append(_row(f"Mask R-CNN, {MODE_NAMES[mode]}", counts, published.TABLE_1_TOTAL["segmentation"]))
    for mode in ("s", "s_bn", "full"):
        counts = _classifier_counts(DetectorSettings(), ClassifierSettings(), mode)
        rows.append(
            _row(
                f"COVID-CT-Mask-Net, {MODE_NAMES[mode]}", counts,
                published.TABLE_1_TOTAL["classifier"], published.TABLE_1_TRAINED[mode],
            )
        )  # fmt: skip
    with torch.device("meta"):
        s = sum(p.numel() for p in HeadS(ClassifierSettings()).parameters())
        light_s = sum(p.numel() for p in HeadS(light_classifier_settings()).parameters())
    rows.append(("S alone (N 256, F 1024)", f"{s:,}", f"{s:,}", MISSING, MISSING))
    rows.append(("S alone, light (N 128, F 512)", f"{light_s:,}", f"{light_s:,}", MISSING, "0.60M"))
    for backbone, truncation in _LIGHT:
        settings = light_detector_settings(backbone=backbone, truncation=truncation, mask_type="merge")
        name = f"{backbone} without {truncation} stages"
        rows.append(_row(f"Mask R-CNN, {name}", _detector_counts(settings, "full"), None))
        counts = _classifier_counts(settings, light_classifier_settings(), "s")
        rows.append(_row(f"classifier, {name}, only S", counts, _README_LIGHT[backbone, truncation], 0.6))
    for run in runs:
        stated = run.info.parameters
        counts = {name: int(stated[name]) for name in ("total", "trainable") if name in stated}
        if counts:
            rows.append(_row(run_label(run), counts, None))
    notes = (
        *published.TABLE_1_NOTES,
        "Splits as published, counted from the lists: segmentation 650 slices for training and validation "
        "and 100 for testing; COVIDx-CT v1 61,782 / 21,036 / 21,191 slices, of which 3,000 are trained on.",
    )
    return Table("table-1", "Table 1: sizes of models and splits", _COLUMNS, tuple(rows), notes)


def _detector_counts(settings: DetectorSettings, mode: str) -> dict[str, int]:
    with torch.device("meta"):
        network = LesionDetector(settings)
    return parameter_counts(network, train_detector(network, mode))


def _classifier_counts(trunk: DetectorSettings, settings: ClassifierSettings, mode: str) -> dict[str, int]:
    with torch.device("meta"):
        network = CovidCTMaskNet(trunk, settings)
    return parameter_counts(network, train_classifier(network, mode))


def _row(
    name: str, counts: dict[str, int], total: float | None, trained: float | None = None
) -> tuple[str, ...]:
    ours = [f"{counts[key]:,}" if key in counts else MISSING for key in ("total", "trainable")]
    paper = [millions(None if value is None else value * 1e6) for value in (total, trained)]
    return (name, *ours, *paper)
