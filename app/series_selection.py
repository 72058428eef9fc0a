"""Which series of a study is assessed, and why: scored, deterministic, with reasons for each series.

Only headers are used. Free text (Body Part Examined, descriptions) is a hint in the score and never a gate,
because it is often wrong; whether lungs are there is judged on the pixels later.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from covid_ct_mask_net.app import geometry, headers, pixels
from covid_ct_mask_net.app.frames import frames_of
from covid_ct_mask_net.app.geometry import GeometryRules, StackGeometry
from covid_ct_mask_net.app.intake import Series, Study
from covid_ct_mask_net.app.kernels import is_sharp
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.series_rules import Action, SeriesRule
from covid_ct_mask_net.app.stacks import Stack, stacks_of
from covid_ct_mask_net.errors import CovidCTMaskNetError, NotAssessableError, RefusedInputError
from covid_ct_mask_net.results import Reason, SeriesReport

_CHEST = re.compile(r"CHEST|THORA|LUNG|TORAX|PULMO", re.IGNORECASE)
_ELSEWHERE = re.compile(r"HEAD|BRAIN|SKULL|SINUS|ABDOM|PELVI|KNEE|ANKLE|WRIST|HIP\b|LSPINE", re.IGNORECASE)
_HINTS = ("BodyPartExamined", "SeriesDescription", "ProtocolName")
# Which reason stands for the study when no series can be assessed: the one nearest to an assessment.
_LEAST_TELLING = ("AMBIGUOUS_SERIES", "TOO_FEW_SLICES", "NOT_AXIAL", "NOT_ORIGINAL_AXIAL", "NOT_CT")


@dataclass(frozen=True)
class SelectionRules:
    """Weights of the score and what is eligible.

    Attributes
    ----------
    derived
        Whether images that call themselves DERIVED are eligible.
    full_coverage_mm, coverage_points
        A stack as long as a chest gets all of the points, a shorter one its share.
    thin_mm, medium_mm, thick_mm
        Slice thickness up to which a series gets ``thin_points``, ``medium_points`` and ``thick_points``;
        thicker ones get none.
    sharp_kernel_points
        For a lung or bone kernel.
    chest_points, elsewhere_points
        For free text that names the chest; (negative) for free text that names only another region.
    defect_points
        (Negative) for each warning of the geometry and for duplicates.
    geometry
        Tolerances of the geometry verdict.
    series_rules
        Of the site: what it prefers, avoids, excludes or requires.
    """

    derived: bool = False
    full_coverage_mm: float = 250.0
    coverage_points: float = 40.0
    thin_mm: float = 3.0
    thin_points: float = 30.0
    medium_mm: float = 5.0
    medium_points: float = 20.0
    thick_mm: float = 10.0
    thick_points: float = 5.0
    sharp_kernel_points: float = 20.0
    chest_points: float = 10.0
    elsewhere_points: float = -20.0
    defect_points: float = -10.0
    geometry: GeometryRules = field(default_factory=GeometryRules)
    series_rules: tuple[SeriesRule, ...] = ()

    @property
    def steps(self) -> tuple[tuple[float, float], ...]:
        """Pairs of slice thickness (mm) and the points up to there, thinnest first."""
        return (
            (self.thin_mm, self.thin_points),
            (self.medium_mm, self.medium_points),
            (self.thick_mm, self.thick_points),
        )


@dataclass(frozen=True, eq=False)
class Candidate:
    """An eligible stack with its score and what made it up."""

    series: Series
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, eq=False)
class Selection:
    """The outcome for one study.

    Attributes
    ----------
    reports
        One per series, or per stack of a series that was split; ``chosen`` is true for at most one.
    candidates
        The eligible stacks, best first.
    refusal
        Why there is no candidate.
    """

    reports: tuple[SeriesReport, ...]
    candidates: tuple[Candidate, ...]
    refusal: CovidCTMaskNetError | None = None

    @property
    def chosen(self) -> Series | None:
        """The best candidate, or None."""
        return self.candidates[0].series if self.candidates else None

    def required(self) -> Series:
        """Return the chosen series or raise why there is none."""
        if self.refusal is not None:
            raise self.refusal
        return self.candidates[0].series


def select(study: Study, rules: SelectionRules | None = None, limits: Limits | None = None) -> Selection:
    """Rank the series of a study and choose one.

    Parameters
    ----------
    study : Study
        From the intake.
    rules : SelectionRules, optional
        Weights and eligibility.
    limits : Limits, optional
        How many slices a series must and may have.

    Returns
    -------
    Selection
        The same for the same study, in whatever order its files came.
    """
    rules, limits = rules or SelectionRules(), limits or Limits()
    if study.refusal is not None:
        return Selection((), (), RefusedInputError(study.refusal.code, study.refusal.sentence))
    with headers.quiet_pydicom():
        judged = [
            (stack, _judge(stack, rules, limits))
            for series in study.series
            for stack in stacks_of(series, rules.geometry, derived=rules.derived)
        ]
    candidates = sorted(
        (outcome for _, outcome in judged if isinstance(outcome, Candidate)),
        key=lambda item: (-item.score, -len(item.series.instances), *_identity(item.series)),
    )
    best = candidates[0] if candidates else None
    reports = tuple(_report(stack, outcome, outcome is best, len(candidates)) for stack, outcome in judged)
    return Selection(reports, tuple(candidates), None if candidates else _refusal(judged))


def rank(study: Study, rules: SelectionRules | None = None) -> tuple[SeriesReport, ...]:
    """Return the reports of ``select`` alone."""
    return select(study, rules).reports


def _judge(stack: Stack, rules: SelectionRules, limits: Limits) -> Candidate | CovidCTMaskNetError:
    """Return the stack as a candidate with its score, or why it is none."""
    if stack.refusal is not None:
        return NotAssessableError(stack.refusal.code, stack.refusal.sentence)
    try:
        frames = frames_of(stack.series)
        images = [frame.header for frame in frames]
        _check_rules(images, rules.series_rules)
        _check_count(len(frames), limits)
        grid = geometry.assess(images, rules.geometry)
        for frame in frames:
            pixels.calibration(frame.header)
    except (NotAssessableError, RefusedInputError) as error:
        return error
    parts = [*_parts(images[0], grid, rules), *_points_of_rules(images, rules.series_rules)]
    reasons = (*stack.notes, *grid.report.warnings, *(reason for _, reason in parts))
    return Candidate(stack.series, round(sum(points for points, _ in parts), 3), reasons)


def _check_rules(images: Sequence[Dataset], rules: Sequence[SeriesRule]) -> None:
    """Raise if a rule of the site excludes a series, or requires what it does not have."""
    for rule in rules:
        if rule.action is Action.EXCLUDE and rule.holds(images):
            raise NotAssessableError(
                "EXCLUDED_BY_RULE", f"The rule {rule.name} of the site excludes the series."
            )
        if rule.action is Action.REQUIRE and not rule.holds(images):
            raise NotAssessableError(
                "REQUIRED_BY_RULE", f"The series is not what the rule {rule.name} of the site requires."
            )


def _points_of_rules(images: Sequence[Dataset], rules: Sequence[SeriesRule]) -> list[tuple[float, Reason]]:
    return [
        (rule.points, Reason("SERIES_RULE", f"{rule.points:+.1f}: rule {rule.name} of the site."))
        for rule in rules
        if rule.action in (Action.PREFER, Action.AVOID) and rule.holds(images)
    ]


def _check_count(count: int, limits: Limits) -> None:
    if count < limits.minimum_slices:
        raise NotAssessableError(
            "TOO_FEW_SLICES",
            f"The series has {count} slice(s); at least {limits.minimum_slices} are expected.",
        )
    if count > limits.maximum_slices:
        raise RefusedInputError(
            "TOO_MANY_SLICES", f"The series has {count} slices; at most {limits.maximum_slices} are accepted."
        )


def _parts(header: Dataset, grid: StackGeometry, rules: SelectionRules) -> list[tuple[float, Reason]]:
    """Return what the score is made of, as points and reasons."""
    between = grid.report.spacing_mm[2]
    coverage = between * len(grid.order)
    thickness = grid.report.slice_thickness_mm or between
    by_thickness = next((points for limit, points in rules.steps if thickness <= limit + 1e-6), 0.0)
    parts = [
        (
            rules.coverage_points * min(1.0, coverage / rules.full_coverage_mm),
            "COVERAGE",
            f"{coverage:.0f} mm",
        ),
        (by_thickness, "SLICE_THICKNESS", f"slices of {thickness:g} mm"),
    ]
    sharp = any(is_sharp(kernel) for kernel in headers.text(header, "ConvolutionKernel")[:1])
    kind = "lung or bone kernel" if sharp else "no lung or bone kernel"
    parts.append((rules.sharp_kernel_points if sharp else 0.0, "KERNEL", kind))
    words = " ".join(value for keyword in _HINTS for value in headers.text(header, keyword))
    if _CHEST.search(words):
        parts.append((rules.chest_points, "BODY_PART_HINT", "its description names the chest"))
    elif _ELSEWHERE.search(words):
        parts.append((rules.elsewhere_points, "BODY_PART_HINT", "its description names another region"))
    defects = len(grid.report.warnings) + bool(grid.duplicates)
    if defects:
        parts.append((rules.defect_points * defects, "GEOMETRY_DEFECTS", f"{defects} flaws of the geometry"))
    return [(points, Reason(code, f"{points:+.1f}: {what}.")) for points, code, what in parts]


def _report(
    stack: Stack, outcome: Candidate | CovidCTMaskNetError, chosen: bool, candidates: int
) -> SeriesReport:
    series = stack.series
    if isinstance(outcome, Candidate):
        others = candidates - 1
        verdict = (
            Reason(
                "CHOSEN",
                f"Chosen: the best score of {candidates} that can be assessed."
                if others
                else "Chosen: the only one that can be assessed.",
            )
            if chosen
            else Reason("LOWER_RANK", "Can be assessed too, but another one ranks higher.")
        )
        score, reasons = outcome.score, (verdict, *outcome.reasons)
    else:
        score, reasons = None, (Reason(outcome.code, outcome.sentence), *stack.notes)
    return SeriesReport(
        series_instance_uid=series.series_instance_uid,
        modality=series.modality,
        instances=len(series.instances),
        chosen=chosen,
        score=score,
        reasons=reasons,
    )


def _refusal(
    judged: Sequence[tuple[Stack, Candidate | CovidCTMaskNetError]],
) -> CovidCTMaskNetError:
    """Return the reason that stands for the study: that of the series nearest to an assessment."""
    errors = [outcome for _, outcome in judged if isinstance(outcome, CovidCTMaskNetError)]

    def nearness(error: CovidCTMaskNetError) -> int:
        return _LEAST_TELLING.index(error.code) + 1 if error.code in _LEAST_TELLING else 0

    nearest = min(errors, key=lambda error: (nearness(error), error.code, error.sentence))
    return type(nearest)(nearest.code, f"No series of the study can be assessed. {nearest.sentence}")


def _identity(series: Series) -> tuple[str, str]:
    """Return what orders series of equal score: UIDs, which say nothing and so favour nobody."""
    return series.series_instance_uid, series.instances[0].sop_instance_uid
