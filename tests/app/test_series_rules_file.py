"""Files of series rules: every mistake named with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from covid_ct_mask_net.app.series_rules import Action
from covid_ct_mask_net.app.series_rules_file import NUMBER_ATTRIBUTES, TEXT_ATTRIBUTES, read_series_rules
from covid_ct_mask_net.errors import UsageError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
RULE = "rules:\n- {name: a, action: exclude, match: {SeriesNumber: {min: 1}}}\n"


def refused(tmp_path: Path, text: str) -> str:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_series_rules(file)
    assert caught.value.code == "SERIES_RULES"
    assert caught.value.sentence.count(". ") == 0, "one sentence"
    return caught.value.sentence


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    example = text[text.index("```yaml") + len("```yaml") :]
    file = tmp_path / "rules.yaml"
    file.write_text(example[: example.index("```")])
    rules = read_series_rules(file)
    assert {rule.action for rule in rules} == set(Action)
    assert all((rule.points > 0) == (rule.action is Action.PREFER) for rule in rules)
    assert all((rule.points < 0) == (rule.action is Action.AVOID) for rule in rules)


def test_the_documentation_names_every_attribute() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{keyword}`" in text for keyword in (*TEXT_ATTRIBUTES, *NUMBER_ATTRIBUTES))


def test_no_rules_are_none(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("rules: []\n")
    assert read_series_rules(file) == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("rules:", "rule: 1\nrules:"), r"at the top: there is no rule here; there are rules"),
        (("rules:", "rule:"), r"at the top: .*"),
        (("name: a, ", ""), r"at rules\[0\]: what is expected has name and action and match"),
        (("name: a", "name: Müller"), r"at rules\[0\]\.name: found 'Müller', expected .*small letters"),
        (("exclude", "drop"), r"rules\[0\]\.action: found 'drop', expected prefer or avoid or exclude"),
        (("exclude", "prefer"), r"rules\[0\]: the action prefer needs a score"),
        (("exclude", "exclude, score: 5"), r"rules\[0\]: the action exclude takes no score"),
        (("exclude", "prefer, score: -5"), r"rules\[0\]\.score: found -5, expected exclusiveMinimum 0"),
        (("exclude", "prefer, score: .nan"), r"rules\[0\]\.score: a finite number"),
        (("SeriesNumber", "PatientName"), r"no PatientName here; there are AcquisitionType"),
        (("min: 1", "min: thin"), r"match\.SeriesNumber\.min: found 'thin', expected number"),
        (("min: 1", "min: true"), r"match\.SeriesNumber\.min: found True, expected number"),
        (("min: 1", "min: .inf"), r"match\.SeriesNumber: finite numbers"),
        (("min: 1", "min: 3, max: 2"), r"match\.SeriesNumber: min is 3, which is above max: 2"),
        (("min: 1", "regex: a"), r"match\.SeriesNumber: there is no regex here; there are min, max, present"),
        (("min: 1", "present: true, max: 5"), r"match\.SeriesNumber: present is expected alone"),
        (("SeriesNumber: {min: 1}", ""), r"rules\[0\]\.match: at least one condition"),
        (
            ("SeriesNumber: {min: 1}", "StationName: {regex: (}"),
            r"StationName: RE2 does not take .*missing \)",
        ),
        (("SeriesNumber: {min: 1}", "StationName: {regex: '(?=a)'}"), r"RE2 does not take"),
        (("SeriesNumber: {min: 1}", "StationName: {regex: a, value: b}"), r"one of regex, value, present"),
        (("SeriesNumber: {min: 1}", "StationName: {value: 5}"), r"found 5, expected string or array"),
        (("SeriesNumber: {min: 1}", f"StationName: {{regex: {'a' * 201}}}"), r"expected maxLength 200"),
        (
            ("min: 1}}}", "min: 1}}}\n- {name: a, action: exclude, match: {KVP: {min: 1}}}"),
            r"rules\[1\]\.name",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    assert change[0] in RULE
    sentence = refused(tmp_path, RULE.replace(*change))
    assert re.search(told, sentence), sentence


@pytest.mark.parametrize(
    "text", ["rules", "- a", "{", "rules: 5", "", "x" * 70000, "rules: !!python/name:os.system"]
)
def test_what_is_no_file_of_rules_is_refused(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text)


def test_a_file_that_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        read_series_rules(tmp_path / "none.yaml")
