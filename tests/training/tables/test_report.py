from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from builders.run_folders import make_classifier_run, make_segmentation_run
from builders.samples import add_samples
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.training.lesion_statistics import SliceLesions, write_lesions
from covid_ct_mask_net.training.run_record import WriteRun
from covid_ct_mask_net.training.runs import Evaluation, RunInfo, add_evaluation, read_run
from covid_ct_mask_net.training.tables.report import ReportOptions, all_tables, read_runs, write_report

TABLES = {f"table-{number}" for number in range(1, 10)}


def test_every_table_is_there_even_without_runs() -> None:
    names = {table.name for table in all_tables([], ReportOptions())}
    assert names >= TABLES
    assert names - TABLES == {
        "external", "levels", "demographics", "calibration", "prevalence", "robustness", "controls",
        "external-changes",
    }  # fmt: skip


def test_the_index_shows_every_table_and_figure_once(tmp_path: Path) -> None:
    make_classifier_run(tmp_path / "runs" / "cls")
    add_samples(make_segmentation_run(tmp_path / "runs" / "seg"))
    files = write_report(read_runs([tmp_path / "runs"]), tmp_path / "out", ReportOptions())
    index = files[0].read_text()
    linked = re.findall(r"\]\(([^)]+\.png)\)", index)
    written = sorted(path.name for path in files if path.suffix == ".png")
    assert sorted(linked) == written
    assert written == [
        "confusion-cls.png", "curves-cls.png", "curves-seg.png", "figure-1-seg.png", "figure-2-seg.png",
        "figure-6-seg.png", "logits-seg.png", "reliability-cls.png",
    ]  # fmt: skip
    for number in range(1, 10):
        assert index.count(f"## Table {number}:") == 1
    assert "Research use only" in index
    assert "Mask and class logits, cls: covid-ct-mask-net s_bn (both): nothing for it" in index


def test_figure_2_is_of_each_evaluation_apart(tmp_path: Path) -> None:
    folder = make_segmentation_run(tmp_path / "seg")
    metrics = json.loads((folder / "metrics.json").read_text())
    add_evaluation(
        folder, "elsewhere", Evaluation("hospital B", "external"), metrics["test"], read_run(folder).info
    )
    for name in ("test", "elsewhere"):
        write_lesions(folder, [SliceLesions("a.png", one, 1, 0.1) for one in LesionClass], name)
    files = write_report(read_runs([folder]), tmp_path / "out", ReportOptions())
    assert {"figure-2-seg.png", "figure-2-seg-elsewhere.png"} <= {path.name for path in files}
    index = files[0].read_text()
    label = "Figure 2: distribution of lesions, seg: covid-ct-mask-net full (both)"
    assert f"![{label}, CNCB test (internal)](figure-2-seg.png)" in index
    assert f"![{label}, hospital B (external)](figure-2-seg-elsewhere.png)" in index


def test_slices_are_drawn_of_each_evaluation_that_left_some(tmp_path: Path) -> None:
    folder = add_samples(make_segmentation_run(tmp_path / "seg"))
    info = read_run(folder).info
    metrics = json.loads((folder / "metrics.json").read_text())["test"]
    for name in ("elsewhere", "nothing"):
        add_evaluation(folder, name, Evaluation("hospital B", "external"), metrics, info)
    add_samples(folder, 1, "elsewhere")
    files = write_report(read_runs([folder]), tmp_path / "out", ReportOptions())
    names = {path.name for path in files}
    for figure in ("figure-1", "figure-6", "logits"):
        assert {f"{figure}-seg.png", f"{figure}-seg-elsewhere.png"} <= names
        assert f"{figure}-seg-nothing.png" not in names
    index = files[0].read_text()
    assert "(both), hospital B (external)](figure-1-seg-elsewhere.png)" in index


def test_figures_may_be_left_out(tmp_path: Path) -> None:
    runs = read_runs([make_classifier_run(tmp_path / "cls")])
    files = write_report(runs, tmp_path / "out", ReportOptions(figures=False))
    assert not [path for path in files if path.suffix == ".png"]
    assert "No figures were drawn." in files[0].read_text()


def test_folders_of_runs_are_opened_and_names_told_apart(tmp_path: Path) -> None:
    make_classifier_run(tmp_path / "a" / "seed-1")
    make_classifier_run(tmp_path / "a" / "seed-2")
    make_classifier_run(tmp_path / "b" / "seed-1")
    assert [run.folder.name for run in read_runs([tmp_path / "a"])] == ["seed-1", "seed-2"]
    # The same run named twice is one run.
    assert len(read_runs([tmp_path / "a", tmp_path / "a" / "seed-1"])) == 2
    with pytest.raises(UsageError, match="Two run folders are called seed-1"):
        read_runs([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(UsageError, match=r"run\.json is missing"):
        read_runs([tmp_path])


def test_the_index_says_which_evaluations_were_left_out(tmp_path: Path) -> None:
    folder = add_samples(make_segmentation_run(tmp_path / "seg"))
    WriteRun(folder, RunInfo("segmentation", "full"))()
    files = write_report(read_runs([folder]), tmp_path / "out", ReportOptions())
    index = files[0].read_text()
    assert "- seg, test: of weights before the last training; evaluate again." in index
    assert "figure-6-seg.png" not in {path.name for path in files}
