from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from builders.bundles import BUNDLE
from covid_ct_mask_net.training.release.readme_figures import figures

_ONE = {"value": 0.5, "low": 0.4, "high": 0.6}


def _slices() -> dict[str, Any]:
    return {
        "slices": 50,
        "dice": {"lesion": {**_ONE, "value": 0.7}, "ggo": {**_ONE, "value": math.nan}, "consolidation": _ONE},
        "mask_ap": {"ap": 0.1, "ap50": 0.2},
    }


def _report(**parts: Any) -> dict[str, Any]:
    return {"model": {"name": "m", "version": "1", "sha256": "ab" * 32}, **parts}


def test_each_figure_stands_beside_what_it_was_measured_on() -> None:
    text = figures(_report(expert_slices=_slices()))
    assert (
        "| 50 expert-labelled slices (COVID-SemiSeg), not trained on | Dice, both classes together | 0.700"
        in text
    )
    assert "| mask AP, AP50 | 0.100, 0.200 |" in text
    assert "synthetic" not in text
    assert "real series" not in text


def test_what_no_case_could_be_measured_by_is_left_out() -> None:
    text = figures(_report(expert_slices=_slices()))
    assert "Dice, GGO" not in text
    assert "nan" not in text


def test_how_many_series_without_covid_are_called_diseased() -> None:
    series = [{"series": f"a/{n}", "class": name} for n, name in enumerate(("Control", "COVID-19"))]
    text = figures(_report(real_series=series))
    assert (
        "**Of 2 real series without COVID-19, 1 are called diseased: do not trust the class of a real" in text
    )
    assert "| a/1 | COVID-19 |" in text


def test_the_shipped_ones_say_what_becomes_of_real_series() -> None:
    report = json.loads((BUNDLE.parent / "docs" / "model_report.json").read_text(encoding="utf-8"))
    diseased = sum(row["class"] != "Control" for row in report["real_series"])
    readme = (Path(BUNDLE) / "docs" / "README.md").read_text(encoding="utf-8")
    assert (
        f"Of {len(report['real_series'])} real series without COVID-19, {diseased} are called diseased"
        in readme
    )
