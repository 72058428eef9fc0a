"""Settings: every key documented, every mistake named. Requirement: REQ-LIMITS-2."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from covid_ct_mask_net.app.report_settings import SRClass
from covid_ct_mask_net.app.settings import AppSettings, plain_settings
from covid_ct_mask_net.errors import UsageError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def refused(*values: str, path: Path | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        AppSettings.read(path, values)
    return f"{caught.value.code}: {caught.value.sentence}"


def test_a_file_and_values_that_win_over_it(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("limits:\n  study_seconds: 60\n  lossy: true\ngates:\n  minimum_age_years: 16\n")
    settings = AppSettings.read(file, ["limits.study_seconds=90", "geometry.missing_share=0.2"])
    assert (settings.limits.study_seconds, settings.limits.lossy) == (90, True)
    assert settings.gates.minimum_age_years == 16.0
    # The choice of the series and the volume judge by the same tolerances.
    assert settings.selection.geometry is settings.geometry
    assert settings.geometry.missing_share == 0.2


def test_results_are_settings_too() -> None:
    results = AppSettings.read(None, ["results.sr_class=comprehensive", "results.pdf=true"]).results
    assert (results.sr_class, results.pdf, results.segmentation) == (SRClass.COMPREHENSIVE, True, True)


def test_a_confidence_that_is_set_wins_over_the_bundle() -> None:
    assert AppSettings().of_inference() == {}
    settings = AppSettings.read(None, ["gates.minimum_confidence=0.6"])
    assert settings.of_inference() == {"triage#min_confidence": 0.6}
    assert AppSettings.read(None, ["limits.minimum_slices=10"]).of_inference() == {"least_slices": 10}
    assert "probability below 1" in refused("gates.minimum_confidence=1")


def test_nothing_set_is_the_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("# nothing\n")
    assert AppSettings.read(file) == AppSettings.read(None) == AppSettings()


def test_the_listing_is_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(AppSettings().listing())
    assert AppSettings.read(file) == AppSettings()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("limits.study_second=5", r"no setting study_second; there are .*study_seconds"),
        ("limit.study_seconds=5", r"no section 'limit' of settings; there are limits, gates"),
        ("study_seconds=5", r"section\.key=value is expected"),
        ("limits.study_seconds", r"section\.key=value is expected"),
        ("limits.study_seconds=soon", r"must be a whole number"),
        ("limits.study_seconds=1.5", r"must be a whole number"),
        ("limits.study_seconds=-1", r"not negative"),
        ("limits.study_seconds=[1]", r"must be a whole number"),
        ("limits.study_seconds=true", r"must be a whole number"),
        ("limits.lossy=1", r"must be true or false"),
        ("limits.minimum_side=5000", r"limits\.minimum_side is 5000, which is above limits\.maximum_side"),
        ("gates.minimum_age_years=.nan", r"must be a number that is not negative"),
        ("gates.minimum_age_years=.inf", r"must be a number that is not negative"),
        ("geometry.tilt_degrees=40", r"above geometry\.maximum_tilt_degrees"),
        ("selection.geometry=1", r"no setting geometry"),
        ("results.sr_class=basic", r"must be one of comprehensive-3d, comprehensive"),
        ("results.sr_class=[1]", r"must be one of comprehensive-3d, comprehensive"),
        ("results.key_images=9", r"0 to 3"),
        ("limits.study_seconds={a: b", r"must be a whole number"),
        ("limits.study_seconds=!!python/object/apply:os.system ['true']", r"must be a whole number"),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(value: str, told: str) -> None:
    said = refused(value)
    assert said.startswith("SETTING: ")
    assert re.search(told, said), said


@pytest.mark.parametrize(
    "content",
    [
        b"limits: {",
        b"- a\n- b",
        b"\xff\xfe",
        b"limits: !!python/object/apply:os.system ['touch pwned']",
        b"a: &a [*a]",
        b"x" * 70_000,
        b"[" * 60_000,
    ],
    ids=["broken", "a list", "not text", "code", "itself", "too long", "deep"],
)
def test_a_file_that_is_no_settings(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    assert refused(path=file).startswith(("SETTINGS_UNREADABLE: ", "SETTING: "))
    assert not (tmp_path / "pwned").exists()


def test_a_section_must_hold_keys(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("limits: 5\n")
    assert "holds no keys" in refused(path=file)
    assert "holds no keys" in refused("limits.voxels=5", path=file)
    assert refused(path=tmp_path / "gone.yaml").startswith("SETTINGS_UNREADABLE")


def test_points_of_the_score_may_be_negative() -> None:
    assert AppSettings.read(None, ["selection.defect_points=-5"]).selection.defect_points == -5.0


def test_steps_of_slice_thickness_are_settings_that_rise() -> None:
    rules = AppSettings.read(None, ["selection.thin_mm=1.5", "selection.medium_points=12"]).selection
    assert rules.steps == ((1.5, 30.0), (5.0, 12.0), (10.0, 5.0))
    assert "above selection.medium_mm" in refused("selection.thin_mm=6")


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| `([^`]+)` \| .{10,}", PAGE.read_text(), re.MULTILINE)
    documented = {f"{section}.{key}": yaml.safe_load(value) for section, key, value in rows}
    settings = AppSettings()
    expected = {
        f"{part.name}.{key}": value
        for part in dataclasses.fields(settings)
        for key, value in plain_settings(getattr(settings, part.name)).items()
    }
    assert documented == expected
