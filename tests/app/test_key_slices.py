from __future__ import annotations

from builders.evidence import grid, rectangle
from covid_ct_mask_net.app.key_slices import choose_key_slices, suspicious_slices
from covid_ct_mask_net.results import SliceReport
from covid_ct_mask_net.triage.lesions import LesionRules, link

LINKED = link(
    [rectangle(2, size=(4, 4)), rectangle(3, size=(6, 6)), rectangle(4, size=(4, 4)), rectangle(9, 26, 8)],
    grid(),
    LesionRules(),
)


def test_each_lesion_is_shown_where_it_is_largest() -> None:
    first, second = choose_key_slices(LINKED, range(12), 3)
    assert (first.slice_index, first.lesions) == (3, (1,))
    assert (second.slice_index, second.lesions) == (9, (2,))
    assert first.reason == "lesion 1 is largest here"


def test_slices_that_were_not_read_are_not_shown() -> None:
    assert [key.slice_index for key in choose_key_slices(LINKED, {2, 4}, 3)] == [2]
    assert choose_key_slices(LINKED, (), 3) == ()
    assert len(choose_key_slices(LINKED, range(12), 1)) == 1


def test_without_lesions_the_slices_least_like_control_are_shown_and_no_neighbours() -> None:
    control = (0.9, 0.4, 0.5, 0.6, 0.9, 0.55)
    slices = [SliceReport(k, None, 0.0, (p, (1 - p) / 2, (1 - p) / 2)) for k, p in enumerate(control)]
    indices = [5, 6, 7, 8, 9, 10]
    shown = suspicious_slices(slices, indices, set(indices), 3)
    assert [key.slice_index for key in shown] == [6, 10, 8]
    assert "highest probability of disease (60%)" in shown[0].reason
    assert [key.slice_index for key in suspicious_slices(slices, indices, {5, 8}, 1)] == [8]
    assert suspicious_slices(slices, indices, (), 3) == ()
