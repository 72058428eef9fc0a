"""``report.html``: one study on one page, to be looked at without any other software."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from covid_ct_mask_net.app.evidence_plot import CLASS_COLOURS, evidence_plot
from covid_ct_mask_net.app.findings import Findings
from covid_ct_mask_net.app.html_page import facts, figure, items, page, table
from covid_ct_mask_net.app.projections import coronal, sagittal
from covid_ct_mask_net.app.sentences import LESION_NOTE, answer, lesion_rows, model_notice, probabilities
from covid_ct_mask_net.app.views import View
from covid_ct_mask_net.results import StudyResult, TriageReport

_MOST_LESIONS = 100


def html_report(result: StudyResult, findings: Findings | None, views: Sequence[View]) -> str:
    """Return the page of a study.

    Parameters
    ----------
    result : StudyResult
        Assessed or not. What it says is all that the page says: no patient data.
    findings : Findings or None
        Of an assessed study.
    views : sequence of View
        Pictures of slices.
    """
    sections = [_head(result)]
    if views:
        captions = [f"Position z {view.position_mm:.1f} mm: {view.key.reason}" for view in views]
        pictures = "".join(figure(v.picture, c) for v, c in zip(views, captions, strict=True))
        sections.append(f'<h2>Key images</h2><div class="pictures">{pictures}</div>')
    if result.triage is not None:
        sections.append(_lesions(result))
        if result.slices:
            sections.append(f'<h2>Slices</h2><div class="scroll">{evidence_plot(result.slices)}</div>')
    if findings is not None:
        if result.lesions:
            sections.append(_projections(findings))
        sections.append(_involvement(result))
    sections += [_source(result), _model(result)]
    notices = [] if result.model is None else [model_notice(result.model)]
    return page("Chest CT triage", "\n".join(section for section in sections if section), notices)


def _head(result: StudyResult) -> str:
    first, *others = answer(result) or ["No answer."]
    # The notice on the model stands on top of the page.
    others = [line for line in others if result.model is None or line != model_notice(result.model)]
    triage = result.triage
    level = "" if triage is None else f" {triage.priority.value}"
    bars = "" if triage is None else _probabilities(triage)
    warnings = [f"{warning.sentence} ({warning.code})" for warning in result.warnings]
    listed = f"<h2>Warnings</h2>{items(warnings)}" if warnings else ""
    return f'<p class="answer{level}">{escape(first)}</p>{bars}{items(others) if others else ""}{listed}'


def _probabilities(triage: TriageReport) -> str:
    rows = [
        f'<tr><th scope="row">{escape(c.label)}</th><td class=n>{share}</td>'
        f'<td style="width:60%"><span class="bar" style="width:{100 * triage.probabilities[c]:.1f}%;'
        f'background:{CLASS_COLOURS[c]}"></span></td></tr>'
        for c, share in probabilities(triage)
    ]
    return f'<div class="scroll"><table><tbody>{"".join(rows)}</tbody></table></div>'


def _lesions(result: StudyResult) -> str:
    if not result.lesions:
        return ""
    headings, *rows = lesion_rows(result.lesions[:_MOST_LESIONS])
    left_out = len(result.lesions) - len(rows)
    more = f"<p>{left_out} further lesions are in result.json.</p>" if left_out else ""
    note = f"<p class=soft>{escape(LESION_NOTE)}</p>"
    return f"<h2>Lesions</h2>{table(headings, rows, numbers=(0, 4, 5, 6))}{note}{more}"


def _projections(findings: Findings) -> str:
    lungs, labels, affine = findings.lungs, findings.labels, findings.grid.affine
    pictures = (
        figure(coronal(lungs, labels, affine), "From the front: patient's right on the left, head up"),
        figure(sagittal(lungs, labels, affine), "From the patient's left: front on the left, head up"),
    )
    return (
        "<h2>Where the lesions lie</h2><p class=soft>Lungs grey, ground-glass opacity yellow, consolidation "
        f'pink; all slices on top of each other.</p><div class="pictures">{"".join(pictures)}</div>'
    )


def _involvement(result: StudyResult) -> str:
    if result.involvement is None:
        return ""
    involvement = result.involvement
    regions = [("both lungs", involvement.total)]
    for side, zones in involvement.zones.items():
        regions.append((f"{side.value} lung", involvement.sides[side]))
        regions += [(f"{side.value} lung, {zone.value} third", region) for zone, region in zones.items()]
    rows = [
        (
            name,
            f"{region.lung_ml:.0f}",
            f"{region.ground_glass_opacity_ml:.1f}",
            f"{region.consolidation_ml:.1f}",
            f"{region.percent:.1f} %",
        )
        for name, region in regions
    ]
    headings = ("Region", "Lung (ml)", "Ground-glass (ml)", "Consolidation (ml)", "Involved")
    note = "<p class=soft>Thirds are of each lung's height; they are not lobes.</p>"
    return f"<h2>Involvement of the lungs</h2>{table(headings, rows, numbers=(1, 2, 3, 4))}{note}"


def _source(result: StudyResult) -> str:
    parts = ["<h2>Source</h2>"]
    pairs = [("Study", result.pseudonym), ("Kind", result.source), ("Read on", result.created)]
    geometry = result.geometry
    if geometry is not None:
        columns, rows, slices = geometry.shape
        thickness = geometry.slice_thickness_mm
        pairs += [
            ("Volume", f"{columns} columns, {rows} rows, {slices} slices"),
            ("Spacing", " x ".join(f"{value:.2f}" for value in geometry.spacing_mm) + " mm"),
            ("Slice thickness", "not stated" if thickness is None else f"{thickness:g} mm"),
            ("Axes of the source", geometry.orientation),
            ("Gantry tilt", f"{geometry.gantry_tilt_degrees:.1f} degrees"),
            ("Missing slices", str(geometry.missing_slices)),
        ]
    pairs += [("Files", ", ".join(f"{count} {name}" for name, count in result.files.items()))]
    parts.append(facts(pairs))
    if result.series:
        series = [
            (
                "chosen" if one.chosen else "set aside",
                one.modality,
                str(one.instances),
                "" if one.score is None else f"{one.score:g}",
                " ".join(reason.sentence for reason in one.reasons),
            )
            for one in result.series
        ]
        headings = ("Series", "Modality", "Images", "Score", "Reasons")
        parts.append(f"<h2>Series</h2>{table(headings, series, numbers=(2, 3))}")
    return "".join(parts)


def _model(result: StudyResult) -> str:
    pairs = []
    if result.model is not None:
        model = result.model
        pairs = [
            ("Model", f"{model.name} {model.version}"),
            ("Trained on", model.trained_on),
            ("Notice", model.notice),
            ("SHA-256 of the weights", model.sha256),
        ]
    pairs.append(("Software", ", ".join(f"{name} {version}" for name, version in result.software.items())))
    return f"<h2>Model and software</h2>{facts(pairs)}"
