from __future__ import annotations

import re
from xml.etree import ElementTree

from builders.results import assessed
from covid_ct_mask_net.app.evidence_plot import CLASS_COLOURS, evidence_plot
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES


def test_a_drawing_with_a_curve_a_class_and_a_legend() -> None:
    drawing = evidence_plot(assessed().slices)
    ElementTree.fromstring(drawing)  # noqa: S314 - our own text
    assert "position z" in drawing
    for name in SLICE_CLASS_NAMES:
        assert f">{name}<" in drawing
    for colour in CLASS_COLOURS.values():
        assert drawing.count(colour) >= 2  # curve and legend


def test_every_point_lies_in_the_drawing() -> None:
    for slices in (assessed().slices, assessed().slices[:1]):
        drawing = evidence_plot(slices)
        width, height = (float(n) for n in re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing).groups())
        for points in re.findall(r'points="([^"]+)"', drawing):
            for x, y in (pair.split(",") for pair in points.split()):
                assert 0 <= float(x) <= width
                assert 0 <= float(y) <= height
