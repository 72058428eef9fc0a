from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import verify_metadata

from builders.bundles import BUNDLE, small_bundle
from covid_ct_mask_net.checkpoints import file_sha256
from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.training.release.bundle_metrics import (
    FIGURES,
    evaluation_metrics,
    main,
    state_metrics,
)
from covid_ct_mask_net.training.release.readme_figures import BEGIN, END


def _report(sha256: str) -> dict[str, Any]:
    """A report with a figure at every place that is read, each another number."""
    report: dict[str, Any] = {
        "model": {"sha256": sha256, "name": "small", "version": "3"},
        "expert_slices": {"slices": 50},
        "synthetic_slices": {
            "slices": 9,
            "dice": {"ggo": {"value": math.nan}, "consolidation": {"value": 0.7}},
            "mask_ap": {"ap": 0.11, "ap50": 0.22},
        },
        "synthetic_scans": {"assessed": 42},
        "real_series": [
            {"series": "a/0", "class": "Control"},
            {"series": "b/0", "class": "COVID-19"},
            {"series": "c/0", "class": "Common Pneumonia"},
            {"series": "d/0", "reason": "NOT_CHEST"},
        ],
    }
    for number, path in enumerate(FIGURES.values(), start=1):
        *parents, last = path.split("/")
        place = report
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = number / 100
    for part, parts in (
        ("expert_slices", "dice"),
        ("synthetic_slices", "dice"),
        ("synthetic_scans", "scan_level"),
    ):
        for figure in report[part][parts].values():
            figure |= {"low": 0.0, "high": 1.0}
    return report


def test_figures_that_a_report_lacks_are_left_out() -> None:
    report = _report("")
    assert evaluation_metrics(report) == {name: n / 100 for n, name in enumerate(FIGURES, start=1)}
    del report["expert_slices"]
    report["synthetic_slices"]["dice"]["lesion"]["value"] = None
    missing = {name for name in FIGURES if name.startswith("expert")} | {"synthetic_slices_dice_lesion"}
    assert set(FIGURES) - set(evaluation_metrics(report)) == missing


def test_they_are_stated_with_their_weights_and_the_rest_stays(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    path, digest = bundle / "configs" / "metadata.json", file_sha256(bundle / "models" / "model.pt")
    before = json.loads(path.read_text(encoding="utf-8"))
    (tmp_path / "report.json").write_text(json.dumps(_report(digest)), encoding="utf-8")
    for _ in range(2):
        assert main([str(tmp_path / "report.json"), str(bundle)]) == ExitCode.DONE
    after = json.loads(path.read_text(encoding="utf-8"))
    assert after["weights_sha256"] == digest
    assert after["eval_metrics"]["expert_slices_dice_lesion"] == 0.01
    page = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
    assert f"Weights: small, version 3, sha256 `{digest[:16]}…`" in page
    assert "| Dice, both classes together | 0.010 [0.000, 1.000] |" in page
    assert "Of 3 real series without COVID-19 (1 more were not assessed), 2 are called diseased" in page
    shipped = (BUNDLE / "docs" / "README.md").read_text(encoding="utf-8")
    assert page.partition(BEGIN)[0] == shipped.partition(BEGIN)[0]
    assert page.partition(END)[2] == shipped.partition(END)[2]
    changed = {"weights_sha256", "eval_metrics"}
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    verify_metadata(meta_file=str(path), filepath=str(BUNDLE / "configs" / "metadata_schema.json"))


def test_metadata_and_readme_say_what_the_report_says(tmp_path: Path) -> None:
    """A new report must be stated: python -m ...release.bundle_metrics docs/model_report.json bundle."""
    names = ("configs/metadata.json", "docs/README.md", "models/model.pt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(BUNDLE / name, tmp_path / name)
    state_metrics(BUNDLE.parent / "docs" / "model_report.json", tmp_path)
    for name in names[:2]:
        assert (tmp_path / name).read_text(encoding="utf-8") == (BUNDLE / name).read_text(encoding="utf-8"), (
            name
        )


@pytest.mark.parametrize(
    "spoil", [lambda s: s.replace(END, ""), lambda s: f"{s}{BEGIN}", lambda s: f"{END}{s}"]
)
def test_a_readme_without_a_place_for_them_is_refused_and_nothing_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[str], str]
) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    readme, metadata = bundle / "docs" / "README.md", bundle / "configs" / "metadata.json"
    readme.write_text(spoil(readme.read_text(encoding="utf-8")), encoding="utf-8")
    before = metadata.read_bytes(), readme.read_bytes()
    report = _report(file_sha256(bundle / "models" / "model.pt"))
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    assert main([str(tmp_path / "report.json"), str(bundle)]) == ExitCode.REFUSED_INPUT
    assert "README_MARKS" in capsys.readouterr().err
    assert (metadata.read_bytes(), readme.read_bytes()) == before


def test_a_report_on_other_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    (tmp_path / "report.json").write_text(json.dumps(_report("0" * 64)), encoding="utf-8")
    assert main([str(tmp_path / "report.json"), str(bundle)]) == ExitCode.UNTRUSTED_MODEL
    assert "REPORT_OTHER_WEIGHTS" in capsys.readouterr().err
