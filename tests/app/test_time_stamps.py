from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.report_settings import ReportSettings
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.time_stamps import declared_offset, stamp

MOMENT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def declaring(*offsets: str | None) -> list[Dataset]:
    instances = [Dataset() for _ in offsets]
    for instance, offset in zip(instances, offsets, strict=True):
        if offset is not None:
            instance.TimezoneOffsetFromUTC = offset
    return instances


@pytest.mark.parametrize("offset", ["+0800", "-0330", "+0000", "+1400"])
def test_an_offset_that_all_declare(offset: str) -> None:
    assert declared_offset(declaring(offset, offset)) == offset


@pytest.mark.parametrize(
    "offsets",
    [
        (None, None),
        ("+0800", None),
        ("+0100", "+0200"),
        ("-0000",),
        ("+2500",),
        ("+0860",),
        ("0800",),
        ("+08",),
    ],
)
def test_no_offset_or_several_or_none_that_is_valid(offsets: tuple[str | None, ...]) -> None:
    assert declared_offset(declaring(*offsets)) is None


@pytest.mark.parametrize(
    ("offset", "date", "time", "contribution"),
    [
        ("+0800", "20231115", "061320", "20231115061320+0800"),
        ("-0330", "20231114", "184320", "20231114184320-0330"),
        (None, "20231114", "221320", "20231114221320+0000"),
    ],
)
def test_own_times_are_in_the_declared_offset_and_else_in_utc(
    offset: str | None, date: str, time: str, contribution: str
) -> None:
    dataset = Dataset()
    dataset.ContentDate = dataset.ContentTime = dataset.DateOfSecondaryCapture = ""
    dataset.TimezoneOffsetFromUTC = "+0100"
    item = Dataset()
    item.ContributionDateTime = "2020"
    dataset.ContributingEquipmentSequence = [item]
    stamp(dataset, MOMENT, offset)
    for stem in ("Content", "Series", "InstanceCreation"):
        assert (dataset[f"{stem}Date"].value, dataset[f"{stem}Time"].value) == (date, time)
    assert (dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture) == (date, time)
    assert str(item.ContributionDateTime) == contribution
    assert "PresentationCreationDate" not in dataset
    assert dataset.get("TimezoneOffsetFromUTC") == offset


@pytest.mark.parametrize(("offset", "time"), [("+0800", "061320"), (None, "221320")])
def test_the_time_of_the_study_does_not_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: str | None, time: str
) -> None:
    """What a reader takes for the time of the study is the same in the images and in all results."""

    def declare(_: int, dataset: Dataset) -> None:
        dataset.StudyDate, dataset.StudyTime = "20231114", "093000"
        if offset is not None:
            dataset.TimezoneOffsetFromUTC = offset

    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING, edit=declare)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    (job,) = TriageRun.start([tmp_path / "in"], tmp_path / "out").jobs()
    StudyChain(oracle_pipeline(), tmp_path / "out", settings=ReportSettings(pdf=True)).run(job)
    results = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").glob("*/*.dcm"))]
    assert {str(one.Modality) for one in results} == {"SR", "SEG", "OT", "PR", "KO", "DOC"}
    for one in results:
        assert (one.StudyDate, one.StudyTime) == ("20231114", "093000")
        assert one.get("TimezoneOffsetFromUTC") == offset
        assert one.SeriesTime == one.InstanceCreationTime == time
