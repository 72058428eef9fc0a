from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import verify_metadata

from builders.bundles import BUNDLE, small_bundle
from covid_ct_mask_net.checkpoints import file_sha256
from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.training.release.bundle_metrics import FIGURES, evaluation_metrics, main


def _report(sha256: str) -> dict[str, Any]:
    """A report with a figure at every place that is read, each another number."""
    report: dict[str, Any] = {"model": {"sha256": sha256}}
    for number, path in enumerate(FIGURES.values(), start=1):
        *parents, last = path.split("/")
        place = report
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = number / 100
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
    changed = {"weights_sha256", "eval_metrics"}
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    verify_metadata(meta_file=str(path), filepath=str(BUNDLE / "configs" / "metadata_schema.json"))


def test_a_report_on_other_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    (tmp_path / "report.json").write_text(json.dumps(_report("0" * 64)), encoding="utf-8")
    assert main([str(tmp_path / "report.json"), str(bundle)]) == ExitCode.UNTRUSTED_MODEL
    assert "REPORT_OTHER_WEIGHTS" in capsys.readouterr().err
