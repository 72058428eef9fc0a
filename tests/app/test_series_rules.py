"""Series rules: each action, through the choice of the series. Requirement: REQ-SERIES-1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series, make_enhanced_ct, phantom_hu
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.series_selection import Selection, select
from covid_ct_mask_net.app.settings import AppSettings
from covid_ct_mask_net.errors import NotAssessableError

TWENTY = phantom_hu((20, 64, 64))
SHARP, SOFT = 2, 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study with a sharp series, which is chosen without rules, and a soft one."""
    for number, kernel, description in ((SHARP, "B70f", "LUNG 1.0"), (SOFT, "B40f", "MEDIASTINUM ZEBRA")):
        make_ct_series(
            tmp_path / "in" / str(number),
            hu=TWENTY,
            series_number=number,
            kernel=kernel,
            description=description,
        )
    return tmp_path / "in"


def settings(folder: Path, *rules: dict[str, object]) -> AppSettings:
    file = folder.parent / "rules.yaml"
    file.write_text(json.dumps({"rules": rules}))  # JSON is YAML
    return AppSettings.read(None, series_rules=file)


def chosen(folder: Path, *rules: dict[str, object]) -> tuple[int | None, Selection]:
    (study,) = intake.scan([folder]).studies
    selection = select(study, settings(folder, *rules).selection)
    series = selection.chosen
    return None if series is None else int(series.instances[0].header.SeriesNumber), selection


def rule(action: str, name: str = "ours", score: float | None = None, **match: object) -> dict[str, object]:
    return {"name": name, "action": action, "match": match} | ({} if score is None else {"score": score})


def reasons(selection: Selection) -> list[tuple[str, str]]:
    return [(reason.code, reason.sentence) for report in selection.reports for reason in report.reasons]


def test_without_rules_the_sharp_series_is_chosen(folder: Path) -> None:
    number, selection = chosen(folder)
    assert number == SHARP
    assert "SERIES_RULE" not in dict(reasons(selection))


@pytest.mark.parametrize(
    "match",
    [
        {"ConvolutionKernel": {"value": "b40F"}},
        {"ConvolutionKernel": {"value": ["B30f", "B40f"]}},
        {"SeriesDescription": {"regex": "^medias"}},
        {"SeriesNumber": {"min": 3}},
        {"SeriesNumber": {"min": 2.5, "max": 3.5}, "ImageType": {"value": "AXIAL"}},
    ],
)
def test_a_preferred_series_gets_the_points_of_the_rule(folder: Path, match: dict[str, object]) -> None:
    number, selection = chosen(folder, rule("prefer", score=100, **match))
    assert number == SOFT
    assert ("SERIES_RULE", "+100.0: rule ours of the site.") in reasons(selection)
    _, plain = chosen(folder)
    scores = [{r.series_instance_uid: r.score for r in one.reports} for one in (plain, selection)]
    assert sorted(scores[1][uid] - scores[0][uid] for uid in scores[0]) == [0.0, 100.0]  # type: ignore[operator]


def test_an_avoided_series_loses_points(folder: Path) -> None:
    number, selection = chosen(folder, rule("avoid", score=60, ConvolutionKernel={"regex": "^B[67]"}))
    assert number == SOFT
    assert ("SERIES_RULE", "-60.0: rule ours of the site.") in reasons(selection)


def test_a_weak_rule_does_not_overrule_the_score(folder: Path) -> None:
    assert chosen(folder, rule("prefer", score=5, ConvolutionKernel={"value": "B40f"}))[0] == SHARP


def test_an_excluded_series_cannot_be_chosen(folder: Path) -> None:
    number, selection = chosen(folder, rule("exclude", ConvolutionKernel={"value": "B70f"}))
    assert number == SOFT
    assert ("EXCLUDED_BY_RULE", "The rule ours of the site excludes the series.") in reasons(selection)


def test_what_is_required_must_be_there(folder: Path) -> None:
    number, selection = chosen(folder, rule("require", ConvolutionKernel={"value": "B40f"}))
    assert number == SOFT
    codes = [report.reasons[0].code for report in selection.reports]
    assert sorted(codes) == ["CHOSEN", "REQUIRED_BY_RULE"]


def test_where_rules_leave_nothing_the_study_says_so(folder: Path) -> None:
    number, selection = chosen(folder, rule("require", "with-contrast", ContrastBolusAgent={"present": True}))
    assert number is None
    with pytest.raises(NotAssessableError, match="rule with-contrast of the site requires") as caught:
        selection.required()
    assert caught.value.code == "REQUIRED_BY_RULE"


@pytest.mark.parametrize("match", [{"present": True}, {"value": "iohexol"}, {"regex": "^IO"}])
def test_contrast_of_an_enhanced_ct_is_that_of_its_sequence(tmp_path: Path, match: dict[str, object]) -> None:
    agent = Dataset()
    agent.CodeMeaning = "Iohexol"
    for name, agents in (("with", [agent]), ("without", [])):
        make_enhanced_ct(
            tmp_path / name,
            patient_id=name,
            edit=lambda dataset, agents=agents: setattr(dataset, "ContrastBolusAgentSequence", agents),
        )
        number, _ = chosen(tmp_path / name, rule("exclude", ContrastBolusAgent=match))
        assert (number is None) == bool(agents)


def test_an_attribute_that_is_absent_meets_no_condition_but_its_absence(folder: Path) -> None:
    for match in ({"regex": ".*"}, {"value": "X"}):
        assert chosen(folder, rule("exclude", ContrastBolusAgent=match))[0] == SHARP
    assert chosen(folder, rule("exclude", KVP={"max": 1e9}, ReconstructionDiameter={"max": 1e9}))[0] == SHARP
    assert chosen(folder, rule("exclude", ContrastBolusAgent={"present": False}))[0] is None


def test_one_image_is_enough_to_exclude_and_all_are_needed_to_prefer(tmp_path: Path) -> None:
    def first_differs(index: int, image) -> None:  # type: ignore[no-untyped-def]
        image.StationName = "OLD" if index == 7 else "NEW"

    make_ct_series(tmp_path / "in", hu=TWENTY, edit=first_differs)
    folder = tmp_path / "in"
    assert chosen(folder, rule("exclude", StationName={"value": "OLD"}))[0] is None
    _, selection = chosen(folder, rule("prefer", score=9, StationName={"value": "NEW"}))
    assert "SERIES_RULE" not in dict(reasons(selection))
    _, selection = chosen(folder, rule("prefer", score=9, StationName={"value": ["NEW", "OLD"]}))
    assert "SERIES_RULE" in dict(reasons(selection))


def test_reasons_hold_no_value_of_the_images(folder: Path) -> None:
    rules = [
        rule("prefer", "a", 3, SeriesDescription={"regex": "ZEBRA"}),
        rule("exclude", "b", SeriesDescription={"value": "MEDIASTINUM ZEBRA"}),
    ]
    assert "ZEBRA" not in repr(chosen(folder, *rules)[1].reports)


def test_a_pattern_that_hangs_other_engines_costs_nothing(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in", hu=TWENTY, description="a" * 63 + "!")
    assert chosen(tmp_path / "in", rule("exclude", SeriesDescription={"regex": "^(a+)+$"}))[0] is not None


def test_the_result_names_the_rule(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING)
    made = settings(tmp_path / "in", rule("prefer", "thin", 7, SliceThickness={"max": 50}))
    run = TriageRun.start([tmp_path / "in"], tmp_path / "out", settings=made)
    chain = StudyChain.of(oracle_pipeline(), tmp_path / "out", made)
    (job,) = run.jobs()
    result = chain.run(job)
    written = json.loads((tmp_path / "out" / result.pseudonym / "result.json").read_text())
    (series,) = written["series"]
    assert {"code": "SERIES_RULE", "sentence": "+7.0: rule thin of the site."} in series["reasons"]
