"""Whether engine fast may stand in for torch: agreement of slices and scan-level AUC on a held-out cohort.

    covid-ct-mask-net synthesize held-out --patients 60 --seed 77
    python benchmarks/admission.py held-out --step 10
    python benchmarks/admission.py test validation --engines exact 'fast, int8'      all slices of two cohorts

Every scan is prepared once and read by each engine with the weights of the bundle. Admitted is an engine with
the class of the first engine on 98 % of the slices and AUC (disease against Control, and COVID-19 against the
others) within 0.005 of it. AUC goes in steps of one pair of scans: of 0.0026 with 14 scans of each class.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.inference import lung_space
from covid_ct_mask_net.labels import SliceClass
from covid_ct_mask_net.nifti_file import LoadNiftid
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.pipeline import load_pipeline

ENGINES = {
    "torch": {"name": "torch"},
    "exact": {"name": "exact"},
    "fast, bfloat16": {"name": "fast", "precision": "bfloat16"},
    "fast, int8": {"name": "fast", "precision": "int8"},
}
LEAST_AGREEMENT, LARGEST_DIFFERENCE = 0.98, 0.005


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the share of pairs in the right order; ties count half."""
    first, second = scores[positive][:, None], scores[~positive][None]
    return float(((first > second) + 0.5 * (first == second)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cohort", type=Path, nargs="+")
    parser.add_argument("--split", help="of the cohorts; all of it if not given")
    parser.add_argument("--step", type=float, help="read one slice in each so many mm; all if not given")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--most", type=int, help="scans at most")
    arguments = parser.parse_args()
    plan = "all" if arguments.step is None else f"every={arguments.step:g}"
    pipeline = load_pipeline(bundle_root(), {"slices": plan, "engine": "torch"})
    network = pipeline.network
    engines = {
        name: build_engine(network.detector, network.classifier, network.min_score, **ENGINES[name])
        for name in arguments.engines
    }
    scans: list[tuple[Path, dict[str, str]]] = []
    for cohort in arguments.cohort:
        with (cohort / "scans.csv").open(encoding="utf-8", newline="") as file:
            scans += [(cohort, row) for row in csv.DictReader(file)]
    scans = [scan for scan in scans if arguments.split in (None, scan[1]["split"])][: arguments.most]
    true = np.array([int(row["class_id"]) for _, row in scans])
    slices: dict[str, list[int]] = {name: [] for name in engines}
    pooled: dict[str, list[NDArray[np.float64]]] = {name: [] for name in engines}
    for cohort, row in scans:
        path = cohort / "images" / f"{row['patient']}.nii.gz"
        data = LoadNiftid("volume")({"volume": str(path), "source_key": row["patient"]})
        data = pipeline.prepare(data)
        order = data["slice_sampling"].order
        pooling = pipeline.triage.triage.pooling.at_step(data["slice_sampling"].step_mm)
        for name, engine in engines.items():
            indices = [int(i) for i in data["slice_indices"]]
            read = pipeline.inferer(data["slices"], engine, indices, lungs=lung_space(data))
            by_slice = {one.slice_index: one for one in read}
            evidence = [by_slice[index] for index in order]
            logits = np.array([one.logits for one in evidence])
            logits = logits / pipeline.triage.triage.temperature
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities = powers / powers.sum(axis=1, keepdims=True)
            slices[name] += probabilities.argmax(axis=1).tolist()
            pooled[name].append(pooling(pipeline.triage.triage.support(probabilities, evidence)))
        sys.stderr.write(".")
        sys.stderr.flush()
    first = next(iter(engines))
    print(f"\n{len(scans)} scans, {len(slices[first])} slices, weights {pipeline.model.sha256[:12]}")
    print(
        "engine           slices as torch  scans as torch  right scans  AUC disease  AUC COVID-19  admitted"
    )
    figures: dict[str, tuple[float, float]] = {}
    for name in engines:
        scores = np.stack(pooled[name])
        figures[name] = (
            auc(1.0 - scores[:, SliceClass.CONTROL], true != SliceClass.CONTROL),
            auc(scores[:, SliceClass.COVID_19], true == SliceClass.COVID_19),
        )
        classes, reference = scores.argmax(axis=1), np.stack(pooled[first]).argmax(axis=1)
        same = float(np.mean(np.array(slices[name]) == np.array(slices[first])))
        away = max(abs(a - b) for a, b in zip(figures[name], figures[first], strict=True))
        admitted = same >= LEAST_AGREEMENT and away <= LARGEST_DIFFERENCE
        print(
            f"{name:16} {same:15.1%} {np.mean(classes == reference):15.1%} {np.mean(classes == true):12.1%} "
            f"{figures[name][0]:12.4f} {figures[name][1]:13.4f}  {'yes' if admitted else 'no'}"
        )


if __name__ == "__main__":
    main()
