"""Table 6: average precision of lesion detection, COCO's and the original's, each under its own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from covid_ct_mask_net.training.runs import MODES, Run
from covid_ct_mask_net.training.tables import published
from covid_ct_mask_net.training.tables.measured import internal, not_of_the_paper, run_label, variant
from covid_ct_mask_net.training.tables.published import MODE_NAMES
from covid_ct_mask_net.training.tables.table import MISSING, Table, number

_KEYS = ("ap50", "ap75", "ap")
DEFINITIONS = {
    "original_image_ap": "original AP (mean over slices)",
    "coco_mask": "COCO, masks",
    "coco_box": "COCO, boxes",
}


def table_6(runs: Sequence[Run]) -> Table:
    """Return Table 6, with class AP and Dice of our runs below it as notes."""
    ours = [run for run in runs if run.info.kind == "segmentation"]
    rows: list[tuple[str, ...]] = []
    notes = list(published.TABLE_6_NOTES)
    for mode in published.TABLE_6:
        paper = published.TABLE_6[mode]
        rows.append(
            (MODE_NAMES[mode], "paper", DEFINITIONS["original_image_ap"], *(number(v) for v in paper), "100")
        )
        rows += [
            (MODE_NAMES[mode], f"README, {one.network}", DEFINITIONS["original_image_ap"],
             *(number(v, 4) for v in figures), str(published.SEGMENTATION_TEST_SLICES))
            for one, figures in published.README_AP.items()
            if one.mode == mode
        ]  # fmt: skip
        found = [run for run in ours if run.info.mode == mode and _internal(run)]
        for run in found:
            rows += _rows(run, notes)
        if not found:
            rows.append((MODE_NAMES[mode], "not run", *[MISSING] * 5))
    for mode in MODES["segmentation"]:
        found = [run for run in ours if run.info.mode == mode and _internal(run)]
        if mode in published.TABLE_6 or not found:
            continue
        notes.append(not_of_the_paper(mode))
        for run in found:
            rows += _rows(run, notes)
    columns = ("trained", "source", "definition", "AP@0.5", "AP@0.75", "AP@[0.5:0.95]", "slices")
    return Table("table-6", "Table 6: average precision of lesions", columns, tuple(rows), tuple(notes))


def evaluations(run: Run) -> dict[str, Mapping[str, Any]]:
    """Return the figures of a detector by evaluation."""
    return {name: one for name, one in run.metrics.items() if isinstance(one, dict) and "coco_mask" in one}


def precisions(figures: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return AP@0.5, AP@0.75 and AP@[0.5:0.95] of one of `DEFINITIONS`, with intervals."""
    within = figures.get("intervals", {}).get(key, {})
    return tuple(_with_interval(figures[key].get(one), within.get(one)) for one in _KEYS)


def _internal(run: Run) -> dict[str, Mapping[str, Any]]:
    return {name: one for name, one in evaluations(run).items() if internal(run, name)}


def _with_interval(value: float | None, interval: Mapping[str, float | None] | None) -> str:
    if interval is None or interval.get("low") is None:
        return number(value)
    return f"{number(value)} ({number(interval['low'])}–{number(interval['high'])})"


def _reference(run: Run, figures: Mapping[str, Any]) -> tuple[str, Sequence[float]] | str:
    """Return the source and the published AP of the same network and thresholds, or why there is none."""
    stated = figures.get("protocol")
    if stated is None:
        return "the evaluation does not state its thresholds; evaluate again"
    if stated["changed"] or stated["name"] not in published.LESION_AP:
        return "none was published under its thresholds"
    source, known = published.LESION_AP[stated["name"]]
    one = variant(run)
    if one not in known:
        return f"{source} has none of {one.network} for what was trained here"
    return source, known[one]


def _differences(reference: Sequence[float], figures: Mapping[str, Any]) -> list[str]:
    same = figures["slices"] == published.SEGMENTATION_TEST_SLICES
    intervals = figures.get("intervals", {}).get("original_image_ap", {})
    cells = []
    for key, printed in zip(_KEYS, reference, strict=True):
        within = intervals.get(key, {})
        outside = within.get("low") is not None and not within["low"] <= printed <= within["high"]
        flag = " *differs*" if outside else ""
        difference = figures["original_image_ap"][key] - printed
        cells.append(f"{difference:+.3f}" + (flag if same else " (other slices)"))
    return cells


def _rows(run: Run, notes: list[str]) -> list[tuple[str, ...]]:
    rows = []
    for name, figures in _internal(run).items():
        source = run_label(run) if name == "test" else f"{run_label(run)}, {name}"
        for key, definition in DEFINITIONS.items():
            what = MODE_NAMES[run.info.mode]
            rows.append((what, source, definition, *precisions(figures, key), f"{figures['slices']:,}"))
            if key == "original_image_ap" and name == "test":
                reference = _reference(run, figures)
                if isinstance(reference, str):
                    notes.append(f"{source} is compared with no figure: {reference}.")
                    label, cells = "difference", [MISSING] * len(_KEYS)
                else:
                    label, cells = f"difference to {reference[0]}", _differences(reference[1], figures)
                rows.append((what, f"{run.folder.name}: {label}", definition, *cells, ""))
        classes = figures["coco_mask"].get("by_class50", {})
        dice = figures.get("lesion_dice", {}).get("dice", {})
        if classes or dice:
            notes.append(
                f"{source}: COCO mask AP@0.5 by class "
                + (", ".join(f"{label} {number(value)}" for label, value in classes.items()) or MISSING)
                + "; Dice of pixels from score 0.5 "
                + (", ".join(f"{label} {number(value)}" for label, value in dice.items()) or MISSING)
                + "."
            )
        if name == "test" and figures["slices"] != published.SEGMENTATION_TEST_SLICES:
            notes.append(
                f"{source} was evaluated on {figures['slices']:,} slices, not on the paper's 100: it does "
                "not reproduce the published figures."
            )
    return rows
