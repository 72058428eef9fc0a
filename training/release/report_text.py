"""The report on the shipped weights in words and tables (Markdown)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covid_ct_mask_net import RESEARCH_NOTICE

# What the project aimed at on the expert slices.
AIMS = {"lesion": 0.65, "ggo": 0.55, "consolidation": 0.40, "ap50": 0.12}
_NAMES = {"lesion": "both classes together", "ggo": "GGO", "consolidation": "consolidation"}


def markdown(report: Mapping[str, Any]) -> str:
    """Return the page; parts that were not measured are left out."""
    model = report["model"]
    parts = [
        "# Report on models/model.pt",
        f"{RESEARCH_NOTICE} Made by one command (docs/training.md says which); figures in square brackets "
        "are 95 % intervals over patients.",
        f"{model['name']}, version {model['version']}, sha256 `{model['sha256'][:16]}…`. Rule: "
        f"{report['rule']['pooling']}, temperature {report['rule']['temperature']:g}.",
    ]
    if "expert_slices" in report:
        parts += _expert(report["expert_slices"])
    if "real_series" in report:
        parts += _real(report["real_series"])
    parts += _synthetic_slices(report["synthetic_slices"], report["pictures"])
    parts += _scans(report["synthetic_scans"])
    return "\n\n".join(parts) + "\n"


def _expert(found: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            f"Dice, {_NAMES[name]}",
            interval(values),
            f"{AIMS[name]:.2f}",
            _verdict(values["value"], AIMS[name]),
        ]
        for name, values in found["dice"].items()
    ]
    ap50 = found["mask_ap"]["ap50"]
    rows.append(["mask AP at IoU 0.5", f"{ap50:.3f}", f"{AIMS['ap50']:.2f}", _verdict(ap50, AIMS["ap50"])])
    return [
        "## Expert-labelled slices, none of them trained on",
        f"{found['slices']} slices of COVID-SemiSeg, score from 0.5. The expert masks fall into "
        f"{found['fragments_a_slice']:.1f} fragments a slice, which keeps instance AP low.",
        table(["measure", "found", "aim", ""], rows),
        "Pixels, in per cent of all by true label (rows) and found label (columns):",
        _confusion(found["confusion"], ["none", "GGO", "consolidation"], per_cent=True),
    ]


def _real(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        [
            row["series"],
            row.get("class", f"not assessed: {row['reason']}"),
            f"{row['lesion_percent']:.2f} %" if "lesion_percent" in row else "",
            ", ".join(f"{p:.2f}" for p in row.get("probabilities", [])),
        ]
        for row in rows
    ]
    return [
        "## Real series without COVID-19",
        "cmb-crc-01068 was kept out of training and shows no infection. The two Lung-PET-CT-Dx people have "
        "lung cancer, and slices of them away from the tumour were trained on: these rows are no test.",
        table(["series", "class", "lesions in the lungs", "probabilities"], lines),
    ]


def _synthetic_slices(found: Mapping[str, Any], pictures: Mapping[str, str]) -> list[str]:
    rows = [[f"Dice, {_NAMES[name]}", interval(values)] for name, values in found["dice"].items()]
    rows += [[f"mask {name.upper()}", f"{found['mask_ap'][name]:.3f}"] for name in ("ap", "ap50", "ap75")]
    shown = [
        f"{name.capitalize()} cases (slice, truth, found; GGO green, consolidation red):\n\n"
        f"![{name} cases]({path})"
        for name, path in pictures.items()
    ]
    return [
        "## Slices of held-out synthetic patients",
        f"{found['slices']} slices of {found['patients']} phantoms.",
        table(["measure", "found"], rows),
        *shown,
    ]


def _scans(found: Mapping[str, Any]) -> list[str]:
    parts = [
        "## Scans of held-out synthetic patients",
        f"{found['assessed']} of {found['scans']} scans assessed.",
    ]
    columns = []
    for level in ("slices", "scan_level"):
        values = found[level]
        columns.append(
            [
                str(values["count"]),
                interval(values["accuracy"]),
                interval(values["disease_sensitivity"]),
                interval(values["disease_specificity"]),
                *(interval(one) for one in values["sensitivity"].values()),
            ]
        )
    names = ["number", "accuracy", "sensitivity for disease", "specificity for disease"]
    names += [f"sensitivity, {name}" for name in found["scan_level"]["sensitivity"]]
    parts.append(
        table(["measure", "slices", "scans"], [[n, *v] for n, *v in zip(names, *columns, strict=True)])
    )
    parts.append("Scans by true (rows) and predicted class (columns):")
    parts.append(_confusion(found["scan_level"]["confusion"], list(found["scan_level"]["sensitivity"])))
    raised, calibration = found["raised"], found["calibration"]
    percents = found["control_lesion_percent"]
    dice = ", ".join(f"{_NAMES[name]} {value:.2f}" for name, value in found["lesion_volume_dice"].items())
    parts.append(
        f"- Priority raised from a probability of disease of {raised['threshold']:g} on: sensitivity "
        f"{raised['sensitivity']:.3f}, specificity {raised['specificity']:.3f}.\n"
        f"- Calibration of scan probabilities: expected calibration error {calibration['ece']:.3f}, Brier "
        f"score {calibration['brier']:.3f}.\n"
        f"- Lesions reported in scans without any: at most {max(percents, default=0):.2f} % of the lungs.\n"
        f"- Mean Dice of lesion volumes in diseased scans: {dice}."
    )
    return parts


def interval(values: Mapping[str, float]) -> str:
    """Return a figure with its interval, to three places."""
    return f"{values['value']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def _verdict(value: float, aim: float) -> str:
    return "reached" if value >= aim else f"missed by {aim - value:.4f}"


def _confusion(counts: Sequence[Sequence[int]], names: Sequence[str], *, per_cent: bool = False) -> str:
    total = sum(map(sum, counts))
    cells = [[f"{100 * n / total:.2f}" if per_cent else str(n) for n in row] for row in counts]
    return table(["", *names], [[name, *row] for name, row in zip(names, cells, strict=True)])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
