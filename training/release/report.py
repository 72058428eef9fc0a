r"""Measure a bundle's weights and say what came out: on synthetic patients held out, and on real CT.

    python -m covid_ct_mask_net.training.release.report --bundle bundle --cohort DIR \
        --lesion-slices DIR --real DIR --output docs

Writes ``model_report.json``, ``model_report.md`` and pictures of good and bad cases into ``images``. Nothing
in it was trained on: the cohort has a seed of its own, the expert slices are for validation only, and of the
real people only those count whom the model has not seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covid_ct_mask_net.checkpoints import load_segmentation
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.pipeline import VolumePipeline, load_pipeline
from covid_ct_mask_net.training.datasets.lesion_slices import lesion_slices
from covid_ct_mask_net.training.files import write_text
from covid_ct_mask_net.training.metrics.bootstrap import Interval, classification_intervals
from covid_ct_mask_net.training.metrics.calibration import brier_score, reliability
from covid_ct_mask_net.training.metrics.classification import confusion_matrix
from covid_ct_mask_net.training.release.cohort_slices import cohort_slices
from covid_ct_mask_net.training.release.expert_slices import (
    SliceResult,
    detect_records,
    detect_slice,
    picture,
    slice_figures,
)
from covid_ct_mask_net.training.release.report_text import markdown
from covid_ct_mask_net.training.release.scans import (
    ANY,
    AssessedScan,
    assess,
    assess_cohort,
    pooled,
    read_scans,
    write_scans,
)
from covid_ct_mask_net.training.synthesis.real_lungs import read_real_chests

NAME = "model_report"
_PICTURED = 4


def scan_figures(scans: Sequence[AssessedScan], pipeline: VolumePipeline, seed: int = 0) -> dict[str, Any]:
    """Return what the triage of scans with known class is worth: slices, scans, lesions, calibration."""
    triage = pipeline.triage.triage
    read = [scan for scan in scans if scan.reason is None]
    chances = np.stack([pooled(scan, triage.pooling, triage.temperature, triage.support) for scan in read])
    true = np.array([scan.scan_class for scan in read], dtype=np.int64)
    names = [scan.name for scan in read]
    slice_logits = np.concatenate([np.array(scan.logits) for scan in read])
    slice_true = np.concatenate([np.array(scan.slice_classes, dtype=np.int64) for scan in read])
    owners = [scan.name for scan in read for _ in scan.logits]
    diagram = reliability(chances, true)
    control = true == SliceClass.CONTROL
    threshold = triage.priority_rules.raised_probability
    raised = 1 - chances[:, SliceClass.CONTROL] >= threshold
    return {
        "scans": len(scans),
        "assessed": len(read),
        "slices": _class_figures(slice_true, slice_logits.argmax(axis=1), owners, seed),
        "scan_level": _class_figures(true, chances.argmax(axis=1), names, seed),
        "calibration": {"ece": diagram.ece, "brier": brier_score(chances, true)},
        "raised": {
            "threshold": threshold,
            "sensitivity": float(raised[~control].mean()),
            "specificity": float((~raised[control]).mean()),
        },
        "control_lesion_percent": [
            scan.percent for scan, healthy in zip(read, control, strict=True) if healthy
        ],
        "lesion_volume_dice": {
            name: float(
                np.nanmean([scan.overlaps[name].dice for scan in read if scan.overlaps and scan.scan_class])
            )
            for name in (ANY, "ggo", "consolidation")
        },
    }


def _class_figures(
    true: np.ndarray, predicted: np.ndarray, owners: Sequence[str], seed: int
) -> dict[str, Any]:
    found = classification_intervals(true, predicted, owners, len(SliceClass), seed=seed)
    disease = classification_intervals(
        (true != SliceClass.CONTROL).astype(int),
        (predicted != SliceClass.CONTROL).astype(int),
        owners,
        2,
        seed=seed,
    )
    return {
        "count": len(true),
        "accuracy": _values(found.accuracy),
        "sensitivity": {c.label: _values(found.sensitivity[c]) for c in SliceClass},
        "ppv": {c.label: _values(found.ppv[c]) for c in SliceClass},
        "disease_sensitivity": _values(disease.sensitivity[1]),
        "disease_specificity": _values(disease.sensitivity[0]),
        "confusion": confusion_matrix(true, predicted, len(SliceClass)).tolist(),
    }


def _values(interval: Interval) -> dict[str, float]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high}


def real_figures(pipeline: VolumePipeline, folder: Path) -> list[dict[str, Any]]:
    """Return class and lesion share of every real series below the folders of one person each."""
    triage = pipeline.triage.triage
    rows = []
    for person in sorted(path for path in folder.iterdir() if path.is_dir()):
        for number, chest in enumerate(read_real_chests(person)):
            scan = assess(
                pipeline, f"{person.name}/{number}", chest.hu.transpose(2, 1, 0), chest.grid.ras_affine
            )
            row: dict[str, Any] = {"series": scan.name, "slices": len(scan.logits), "reason": scan.reason}
            if scan.reason is None:
                chances = pooled(scan, triage.pooling, triage.temperature, triage.support)
                row |= {
                    "class": SliceClass(int(chances.argmax())).label,
                    "probabilities": [float(p) for p in chances],
                    "lesion_percent": scan.percent,
                }
            rows.append(row)
    return rows


def _pictures(results: Sequence[SliceResult], folder: Path) -> dict[str, str]:
    """Draw the best and the worst slices of synthetic patients with lesions."""
    shown = sorted((one for one in results if one.truth.any()), key=lambda one: one.dice)
    # One patient each, and none whose lesions are a few pixels.
    large = [one for one in shown if np.count_nonzero(one.truth) > 0.01 * one.truth.size]
    sets = {"good": large[::-1], "bad": large}
    for name, ordered in sets.items():
        chosen: dict[str, SliceResult] = {}
        for one in ordered:
            chosen.setdefault(one.patient, one)
        picture(list(chosen.values())[:_PICTURED], folder / f"{NAME}_{name}.png")
    return {name: f"images/{NAME}_{name}.png" for name in sets}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True, help="bundle folder with the weights")
    parser.add_argument("--cohort", type=Path, required=True, help="held-out scans, from synthesize")
    parser.add_argument("--lesion-slices", type=Path, help="COVID-SemiSeg slices; left out if not given")
    parser.add_argument("--real", type=Path, help="folder with one folder of DICOM series a person")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scans", type=Path, help="file that keeps what the bundle said about each scan")
    options = parser.parse_args(arguments)
    pipeline = load_pipeline(options.bundle)
    detector = load_segmentation(options.bundle / "models" / "model.pt")
    if options.scans is not None and options.scans.exists():
        scans = read_scans(options.scans)
    else:
        scans = list(assess_cohort(pipeline, options.cohort))
        if options.scans is not None:
            write_scans(options.scans, scans)
    synthetic = [detect_slice(detector, *one) for one in cohort_slices(options.cohort)]
    report: dict[str, Any] = {
        "model": {
            "name": pipeline.model.name,
            "version": pipeline.model.version,
            "sha256": pipeline.model.sha256,
        },
        "rule": {
            "pooling": pipeline.triage.triage.describe(),
            "temperature": pipeline.triage.triage.temperature,
        },
        "synthetic_scans": scan_figures(scans, pipeline),
        "synthetic_slices": slice_figures(synthetic),
        "pictures": _pictures(synthetic, options.output / "images"),
    }
    if options.lesion_slices is not None:
        records = lesion_slices(options.lesion_slices)
        report["expert_slices"] = slice_figures(list(detect_records(detector, records)))
    if options.real is not None:
        report["real_series"] = real_figures(pipeline, options.real)
    write_text(options.output / f"{NAME}.json", json.dumps(report, indent=1) + "\n")
    write_text(options.output / f"{NAME}.md", markdown(report))


if __name__ == "__main__":
    main()
