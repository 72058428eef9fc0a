"""Which slices are read, in which order, and what they stand for."""

from __future__ import annotations

from itertools import pairwise

import pytest

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.slice_sampling import SliceMode, SlicePlan, coarse_to_fine, slice_weights

LUNG = tuple(range(10, 110))


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100])
def test_every_place_comes_once_and_each_pass_halves_the_gaps(count: int, stride: int) -> None:
    places, first_pass = coarse_to_fine(count, stride)
    assert sorted(places) == list(range(count))
    assert first_pass >= 1
    first = places[:first_pass]
    assert all(b - a == stride for a, b in pairwise(first))
    # Both ends of the lungs lie within one step of what is read first.
    assert first[0] < stride
    assert count - 1 - first[-1] < stride


def test_no_place_is_no_order() -> None:
    assert coarse_to_fine(0, 4) == ((), 0)


@pytest.mark.parametrize("text", ["all", "adaptive", "adaptive=2.5", "every=5", "every=0.8"])
def test_settings_go_there_and_back(text: str) -> None:
    assert SlicePlan.parse(text).text == text


@pytest.mark.parametrize(
    "text", ["", "some", "every", "every=", "every=0", "every=-1", "all=3", "every=x", "5"]
)
def test_other_settings_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        SlicePlan.parse(text)
    assert caught.value.code == "SETTING"


def test_a_plan_without_a_coarse_step_is_refused() -> None:
    with pytest.raises(UsageError, match="coarse_mm 0"):
        SlicePlan.parse("adaptive", coarse_mm=0.0)


def test_all_reads_all() -> None:
    sampling = SlicePlan.parse("all").sample(LUNG, 1.0)
    assert sorted(sampling.order) == list(LUNG)
    assert not sampling.may_stop
    report = sampling.report(LUNG)
    assert (report.mode, report.lung_slices, report.read_slices, report.skipped_slices) == (
        "all",
        100,
        100,
        0,
    )
    assert not report.stopped_early
    assert report.sentence == "All 100 lung slices were read."
    assert set(sampling.weights(LUNG).values()) == {1}
    assert sampling.following(LUNG) == {}


@pytest.mark.parametrize(("spacing", "step"), [(1.0, 8), (1.25, 8), (2.5, 4), (5.0, 2), (8.0, 1), (0.6, 16)])
def test_the_first_pass_is_as_coarse_as_allowed(spacing: float, step: int) -> None:
    sampling = SlicePlan.parse("adaptive").sample(LUNG, spacing)
    first = sampling.order[: sampling.first_pass]
    assert first[1] - first[0] == step
    assert step * spacing <= 10.0 < 2 * step * spacing or step == 1
    assert sampling.may_stop


def test_one_slice_in_each_step() -> None:
    sampling = SlicePlan.parse("every=5").sample(LUNG, 1.25)
    assert sorted(sampling.order) == list(range(10, 110, 4))
    report = sampling.report(sampling.order)
    assert (report.mode, report.step_mm, report.read_slices, report.skipped_slices) == ("every", 5.0, 25, 75)
    assert report.largest_gap_mm == 5.0
    assert not report.stopped_early
    assert "one in each 5 mm, as asked" in report.sentence


def test_a_step_below_the_spacing_leaves_out_nothing() -> None:
    assert len(SlicePlan.parse("every=1").sample(LUNG, 1.0).order) == 100
    assert len(SlicePlan.parse("every=1").sample(LUNG, 0.9999).order) == 100, "rounding of the spacing"


def test_stopping_early_is_said() -> None:
    sampling = SlicePlan(SliceMode.ADAPTIVE).sample(LUNG, 1.0)
    report = sampling.report(sampling.order[: sampling.first_pass])
    assert report.stopped_early
    assert report.read_slices == sampling.first_pass
    assert report.largest_gap_mm == 8.0
    assert "could no longer change class, probabilities or priority" in report.sentence
    assert "estimates" in report.sentence


def test_each_lung_slice_is_stood_for_once() -> None:
    sampling = SlicePlan.parse("adaptive").sample((3, 4, 5, 9, 10, 11, 12), 4.0)
    read = (4, 10)
    assert sampling.weights(read) == {4: 3, 10: 4}
    assert sampling.following(read) == {4: 10}
    assert slice_weights(None, read) == {4: 1, 10: 1}


def test_of_two_equally_near_slices_the_lower_one_counts() -> None:
    assert SlicePlan.parse("adaptive").sample((0, 1, 2), 1.0).weights((0, 2)) == {0: 2, 2: 1}


def test_interpolated_slices_are_not_read_and_their_neighbours_stand_for_them() -> None:
    sampling = SlicePlan.parse("all").sample((3, 4, 5, 6, 7), 4.0, interpolated=(4, 9))
    assert sorted(sampling.order) == [3, 5, 6, 7]
    assert sampling.step_mm == 5.0
    assert sampling.weights(sampling.order) == {3: 2, 5: 1, 6: 1, 7: 1}
    assert sampling.following(sampling.order) == {3: 5, 5: 6, 6: 7}
    report = sampling.report(sampling.order)
    assert (report.lung_slices, report.read_slices, report.skipped_slices) == (5, 4, 1)
    assert (report.largest_gap_mm, report.stopped_early) == (8.0, False)
    assert report.sentence.startswith(
        "4 of 5 lung slices were read, at most 8.0 mm apart: 1 missing from the images are interpolated "
        "and not read. Lesions"
    )


def test_each_reason_to_leave_slices_out_is_said() -> None:
    every = SlicePlan.parse("every=2").sample(LUNG, 1.0, interpolated=(10,))
    assert sorted(every.order)[:2] == [11, 13]
    told = every.report(every.order).sentence
    assert "one in each 2 mm, as asked; 1 missing" in told
    adaptive = SlicePlan.parse("adaptive").sample(LUNG, 1.0, interpolated=(50,))
    assert 50 not in adaptive.order
    told = adaptive.report(adaptive.order[: adaptive.first_pass]).sentence
    assert "could no longer change class, probabilities or priority; 1 missing" in told
    told = adaptive.report(adaptive.order).sentence
    assert "as asked" not in told
