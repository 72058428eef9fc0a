"""Evidence of the slices along z, from the feet to the head, as an SVG drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from covid_ct_mask_net.labels import LesionClass, SliceClass
from covid_ct_mask_net.results import SliceReport

# Okabe and Ito's palette: apart for every kind of colour vision, on white and on black.
CLASS_COLOURS = {
    SliceClass.CONTROL: "#009e73",
    SliceClass.COMMON_PNEUMONIA: "#0072b2",
    SliceClass.COVID_19: "#d55e00",
}
_AREA_COLOURS = {LesionClass.GROUND_GLASS_OPACITY: "#c9a400", LesionClass.CONSOLIDATION: "#cc79a7"}
_WIDTH, _HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP = 48, 12, 30
_BOTTOM_OF_CLASSES, _TOP_OF_AREAS, _BOTTOM = 190, 214, 280


def evidence_plot(slices: Sequence[SliceReport]) -> str:
    """Return the drawing: class probabilities above, lesion areas below, inferior on the left.

    Parameters
    ----------
    slices : sequence of SliceReport
        At least one.
    """
    ordered = sorted(slices, key=lambda s: s.position_mm)
    first, last = ordered[0].position_mm, ordered[-1].position_mm
    inner = _WIDTH - _LEFT - _RIGHT

    def x(position: float) -> float:
        return _LEFT + inner * ((position - first) / (last - first) if last > first else 0.5)

    parts = [_axes(first, last), *(_curve(ordered, c, x) for c in SliceClass), *_areas(ordered, x)]
    legend = [(c.label, CLASS_COLOURS[c]) for c in SliceClass]
    legend += [(c.label, _AREA_COLOURS[c]) for c in LesionClass]
    left = float(_LEFT)
    for label, colour in legend:
        parts.append(f'<rect x="{left:.0f}" y="8" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{left + 14:.0f}" y="17">{escape(label)}</text>')
        left += 34 + 7.3 * len(label)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="system-ui,sans-serif" '
        'font-size="12" fill="currentColor"><title>Class probabilities and lesion areas of the slices by '
        f"position z</title>{''.join(parts)}</svg>"
    )


def _axes(first: float, last: float) -> str:
    lines = []
    for share, label in ((0.0, "0"), (0.5, "50 %"), (1.0, "100 %")):
        y = _BOTTOM_OF_CLASSES - share * (_BOTTOM_OF_CLASSES - _TOP)
        lines.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity=".2"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
        )
    lines.append(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_BOTTOM}" y2="{_BOTTOM}" stroke="currentColor" '
        'stroke-opacity=".4"/>'
        f'<text x="{_LEFT}" y="{_BOTTOM + 16}">{first:.0f} mm (inferior)</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_BOTTOM + 16}" text-anchor="end">{last:.0f} mm (superior)</text>'
        f'<text x="{_WIDTH / 2}" y="{_BOTTOM + 34}" text-anchor="middle">position z</text>'
    )
    return "".join(lines)


def _curve(slices: Sequence[SliceReport], slice_class: SliceClass, x: Callable[[float], float]) -> str:
    height = _BOTTOM_OF_CLASSES - _TOP
    points = " ".join(
        f"{x(s.position_mm):.1f},{_BOTTOM_OF_CLASSES - height * s.probabilities[slice_class]:.1f}"
        for s in slices
    )
    return f'<polyline points="{points}" fill="none" stroke="{CLASS_COLOURS[slice_class]}" stroke-width="2"/>'


def _areas(slices: Sequence[SliceReport], x: Callable[[float], float]) -> list[str]:
    areas = [
        [sum(d.area_mm2 for d in s.detections if d.lesion_class is c) for c in LesionClass] for s in slices
    ]
    most = max((sum(pair) for pair in areas), default=0.0)
    if not most:
        return [f'<text x="{_LEFT}" y="{_BOTTOM - 10}" fill-opacity=".7">no lesion</text>']
    width = max(1.0, (_WIDTH - _LEFT - _RIGHT) / max(1, len(slices)) - 1)
    bars = [
        f'<text x="{_LEFT - 6}" y="{_TOP_OF_AREAS + 8}" text-anchor="end">{most / 100:.0f}</text>'
        f'<text x="{_LEFT - 6}" y="{_TOP_OF_AREAS + 22}" text-anchor="end">cm²</text>'
    ]
    for one, pair in zip(slices, areas, strict=True):
        base = float(_BOTTOM)
        for lesion_class, area in zip(LesionClass, pair, strict=True):
            height = (_BOTTOM - _TOP_OF_AREAS) * area / most
            if height:
                base -= height
                left = x(one.position_mm) - width / 2
                bars.append(
                    f'<rect x="{left:.1f}" y="{base:.1f}" width="{width:.1f}" height="{height:.1f}" '
                    f'fill="{_AREA_COLOURS[lesion_class]}"/>'
                )
    return bars
