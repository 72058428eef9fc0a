"""The published figures are checked against one another: which fit, and which contradict themselves."""

from __future__ import annotations

import pytest

from covid_ct_mask_net.training.metrics.classification import figures
from covid_ct_mask_net.training.tables import published
from covid_ct_mask_net.training.tables.published import Variant


def test_confusion_matrices_give_the_printed_figures() -> None:
    merged = figures(published.README_CONFUSION["merge"])
    assert (round(merged.accuracy, 4), round(merged.weighted_f1, 4)) == (0.9633, 0.9634)
    both = figures(published.README_CONFUSION["both"])
    assert (round(both.accuracy, 4), round(both.weighted_f1, 4)) == (0.9564, 0.9565)
    first = figures(published.README_FIRST_CONFUSION)
    assert round(first.accuracy, 4) == published.TABLE_4["s_bn"].accuracy
    assert [round(float(value), 4) for value in first.sensitivity] == [0.9210, 0.9162, 0.9080]


def test_sizes_add_up_to_the_list() -> None:
    assert sum(published.TEST_CLASSES) == published.TEST_SLICES
    for matrix in published.README_CONFUSION.values():
        assert tuple(map(sum, matrix)) == published.TEST_CLASSES
    missing = published.TEST_SLICES - sum(map(sum, published.README_FIRST_CONFUSION))
    assert missing == 9


@pytest.mark.parametrize("mode", ["s", "full"])
def test_overall_accuracy_follows_from_class_sensitivities(mode: str) -> None:
    row = published.TABLE_4[mode]
    assert published.overall_of(row.sensitivity) == pytest.approx(row.accuracy, abs=6e-5)


def test_the_control_sensitivity_of_table_4_is_a_misprint() -> None:
    row = published.TABLE_4["s_bn"]
    assert published.overall_of(row.sensitivity) == pytest.approx(0.9122, abs=1e-4)
    assert published.overall_of((0.9210, *row.sensitivity[1:])) == pytest.approx(row.accuracy, abs=1e-4)
    assert published.overall_of((None, 0.9, 0.9)) is None


def test_the_third_figure_of_table_9_is_the_weighted_f1() -> None:
    negative, covid = published.ICTCF_TEST.values()
    for mode, expected in (("s", 0.831), ("s_bn", 0.923), ("full", 0.887)):
        first, second = published.TABLE_9[mode].sensitivity
        assert first is not None
        assert second is not None
        matrix = [[first * negative, (1 - first) * negative], [(1 - second) * covid, second * covid]]
        assert figures(matrix).weighted_f1 == pytest.approx(expected, abs=6e-4)
        # Nearer to the printed figure than the accuracy is, for the rows where they can be told apart.
        printed = published.TABLE_9[mode].weighted_f1
        assert printed is not None
        assert abs(expected - printed) < 0.012


def test_the_readme_of_the_light_models_contradicts_itself() -> None:
    light = published.README_LIGHT[Variant("resnet34", 1, "merge", "s_bn")]
    assert published.overall_of(light.sensitivity) == pytest.approx(0.9224, abs=1e-4)
    assert light.accuracy == 0.9289


def test_a_figure_is_published_of_one_variant() -> None:
    classes = published.SLICE_CLASSES
    source, lesions = published.LESION_AP["paper"]
    assert source == published.PAPER
    paper = classes[Variant("resnet50", 0, "both", "s_bn")]
    assert (paper.source, paper.result.accuracy) == (published.PAPER, 0.9166)
    merged = classes[Variant("resnet50", 0, "merge", "s_bn")]
    assert merged.source == published.README
    assert merged.result.accuracy == pytest.approx(0.9633, abs=5e-5)
    assert lesions[Variant("resnet50", 0, "both", "heads")] == (0.511, 0.301, 0.298)
    for nowhere in (
        Variant("resnet50", 0, "merge", "full"), Variant("resnet50", 0, "ggo", "s_bn"),
        Variant("resnet18", 1, "both", "s_bn"), Variant("resnet18", 2, "merge", "s_bn"),
    ):  # fmt: skip
        assert nowhere not in classes
        assert nowhere not in lesions
        assert nowhere not in published.BINARY_CLASSES


def test_networks_are_named_for_people() -> None:
    assert Variant("resnet50", 0, "merge", "full").network == "merged lesions"
    assert Variant("resnet18", 1, "both", "s").network == "resnet18 truncated by 1, both lesions"
