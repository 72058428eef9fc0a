"""All tables and figures of a set of runs in one folder, with an index that says what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.labels import LesionClass, MaskType
from covid_ct_mask_net.training.files import write_text
from covid_ct_mask_net.training.lesion_statistics import SliceLesions, read_lesions
from covid_ct_mask_net.training.predictions import MAIN
from covid_ct_mask_net.training.runs import Run, read_run
from covid_ct_mask_net.training.samples import Sample, read_samples
from covid_ct_mask_net.training.tables import checks, classes, external, lesions, plots, settings_table, sizes
from covid_ct_mask_net.training.tables.measured import dataset_of, run_label
from covid_ct_mask_net.training.tables.overlays import figure_1, figure_6, logit_figure
from covid_ct_mask_net.training.tables.table import MISSING, Table

INDEX = "README.md"


@dataclass(frozen=True)
class ReportOptions:
    """What a report is made of besides the runs.

    Attributes
    ----------
    prevalence
        Of each class, at which predictive values are shown.
    figures
        Whether figures are drawn.
    lesions
        Lesions of a data set for Figure 2; those of the runs' evaluations if empty.
    """

    prevalence: tuple[float, ...] | None = None
    figures: bool = True
    lesions: Sequence[SliceLesions] = field(default=())


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders; a folder without ``run.json`` stands for the run folders in it.

    Raises
    ------
    UsageError
        If a folder is no run and holds none, or two runs have the same folder name.
    """
    paths: list[Path] = []
    for folder in folders:
        inside = (
            [] if (folder / "run.json").is_file() else sorted(p.parent for p in folder.glob("*/run.json"))
        )
        paths += inside or [folder]
    paths = list(dict.fromkeys(path.resolve() for path in paths))
    names = [path.name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            "RUN_TWICE",
            f"Two run folders are called {twice[0]}; tables tell runs by the names of their folders.",
        )
    return [read_run(path) for path in paths]


def all_tables(runs: Sequence[Run], options: ReportOptions) -> list[Table]:
    """Return every table, whatever the runs are: what cannot be filled says so."""
    return [
        sizes.table_1(runs),
        settings_table.table_2(runs),
        settings_table.table_3(runs),
        classes.table_4(runs),
        classes.table_5(runs),
        lesions.table_6(runs),
        classes.table_7(runs),
        classes.table_8(runs),
        classes.table_9(runs),
        external.external_table(runs),
        checks.levels_table(runs),
        checks.demographics_table(runs),
        checks.calibration_table(runs),
        checks.prevalence_table(runs, options.prevalence),
        checks.robustness_table(runs),
        checks.control_table(runs),
        checks.external_changes_table(runs),
    ]


def write_report(runs: Sequence[Run], folder: Path, options: ReportOptions) -> list[Path]:
    """Write all tables and figures, and an index.

    Returns
    -------
    list of pathlib.Path
        The files, the index first.
    """
    tables = all_tables(runs, options)
    files = [path for table in tables for path in table.write(folder)]
    figures = list(_figures(runs, folder, options)) if options.figures else []
    index = write_text(folder / INDEX, _index(runs, tables, figures))
    return [index, *files, *(path for _, path in figures if path is not None)]


def _figures(runs: Sequence[Run], folder: Path, options: ReportOptions) -> Iterator[tuple[str, Path | None]]:
    """Yield (what it shows, file, or None where the runs have nothing for it)."""
    shown = list(options.lesions)
    if shown:
        path = plots.distribution_figure(shown, folder / "figure-2.png")
        yield "Figure 2: lesions of the data set given", path
    for run in runs:
        name, label = run.folder.name, run_label(run)
        for evaluation, samples in _samples(run).items():
            yield from _slices(run, folder, evaluation, samples)
        if run.info.kind == "segmentation":
            if not shown:
                yield from _distributions(run, folder)
        else:
            yield f"Confusion matrix, {label}", plots.confusion_figure(run, folder / f"confusion-{name}.png")
            yield f"Reliability, {label}", plots.reliability_figure(run, folder / f"reliability-{name}.png")
        yield f"Training curves, {label}", plots.training_curves(run, folder / f"curves-{name}.png")


def _samples(run: Run) -> dict[str, list[Sample]]:
    """Return the samples of the main evaluation, even if there are none, and of others that left some."""
    further = sorted(one for one in run.info.evaluations if one != MAIN)
    found = {one: [] if one in run.left_out else read_samples(run.folder, one) for one in (MAIN, *further)}
    return {name: samples for name, samples in found.items() if samples or name == MAIN}


def _slices(
    run: Run, folder: Path, evaluation: str, samples: Sequence[Sample]
) -> Iterator[tuple[str, Path | None]]:
    """Yield what is drawn from the samples of one evaluation."""
    main, mask_type = evaluation == MAIN, MaskType(run.info.mask_type)
    label = run_label(run) if main else f"{run_label(run)}, {dataset_of(run, evaluation)}"
    end = f"{run.folder.name}.png" if main else f"{run.folder.name}-{evaluation}.png"
    if run.info.kind == "segmentation":
        yield f"Figure 1: slices with masks, {label}", figure_1(samples, folder / f"figure-1-{end}")
        path = figure_6(samples, folder / f"figure-6-{end}", mask_type)
        yield f"Figure 6: detections by RoI NMS, {label}", path
    path = logit_figure(samples, folder / f"logits-{end}", run.info.class_names, mask_type)
    yield f"Mask and class logits, {label}", path


def _distributions(run: Run, folder: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield Figure 2 of each evaluation of a detector; that of the main one also where there is none."""
    further = sorted(one for one in lesions.evaluations(run) if one != MAIN)
    for evaluation in (MAIN, *further):
        found = read_lesions(run.folder, evaluation)
        if not found and evaluation != MAIN:
            continue
        dataset = dataset_of(run, evaluation)
        end = "" if evaluation == MAIN else f"-{evaluation}"
        path = folder / f"figure-2-{run.folder.name}{end}.png"
        title = f"({len(found) // len(LesionClass)} slices, {dataset})"
        what = f"Figure 2: distribution of lesions, {run_label(run)}, {dataset}"
        yield what, plots.distribution_figure(found, path, title)


def _index(runs: Sequence[Run], tables: Sequence[Table], figures: Sequence[tuple[str, Path | None]]) -> str:
    lines = ["# Tables and figures", "", RESEARCH_NOTICE, "", "Computed from these run folders:", ""]
    lines += ["| run | kind | mode | seed | git | data |", "| --- | --- | --- | --- | --- | --- |"]
    for run in runs:
        info = run.info
        data = ", ".join(f"{name} {digest[:12]}" for name, digest in info.data.items()) or MISSING
        seed = MISSING if info.seed is None else str(info.seed)
        lines.append(f"| {run_label(run)} | {info.kind} | {info.mode} | {seed} | {info.git[:12]} | {data} |")
    left_out = [
        f"- {run.folder.name}, {name}: {reason}." for run in runs for name, reason in run.left_out.items()
    ]
    if left_out:
        lines += ["", "Left out of tables and figures:", "", *left_out]
    lines += ["", "Figures 3 to 5 of the paper are drawings of the architecture; see docs/.", ""]
    for table in tables:
        lines += [table.to_markdown()]
    lines += ["## Figures", ""]
    for what, path in figures:
        lines += (
            [f"![{what}]({path.name})", ""] if path else [f"- {what}: nothing for it in the run folder", ""]
        )
    if not figures:
        lines += ["No figures were drawn.", ""]
    return "\n".join(lines)
