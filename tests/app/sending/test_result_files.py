from __future__ import annotations

import json
import shutil
from pathlib import Path

import pydicom
import pytest

from builders.result_set import made
from covid_ct_mask_net.app.sending.result_files import by_study, result_files
from covid_ct_mask_net.errors import RefusedInputError, UsageError


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output folder with two result sets; the worklist names the second one first."""
    for name in ("a", "b"):
        shutil.copytree(made().folder, tmp_path / name)
    listed = [{"result": "b/result.json"}, {"result": "a/result.json"}]
    (tmp_path / "worklist.json").write_text(json.dumps({"studies": listed}))
    return tmp_path


def test_what_is_referred_to_goes_first() -> None:
    names = [file.path.name for file in result_files([made().folder])]
    assert names == ["seg.dcm", "sc-1.dcm", "sc-2.dcm", "gsps.dcm", "kos.dcm", "pdf.dcm", "sr.dcm"]


def test_studies_in_reading_order_and_each_object_once(output: Path) -> None:
    files = result_files([output])
    # Both sets hold the same objects: they are sent once, from where they come first.
    assert {file.pseudonym for file in files} <= {"a", "b"}
    assert len(files) == len({file.sop_instance_uid for file in files}) == 7
    assert len(by_study(files)) == 1
    (output / "a" / "sr.dcm").unlink()
    assert [f.name for f in result_files([output]) if f.path.name == "sr.dcm"] == ["b/sr.dcm"]


def test_sets_that_are_being_written_are_left_alone(output: Path) -> None:
    shutil.rmtree(output / "a")
    (output / "b").rename(output / ".partial-b")
    with pytest.raises(UsageError, match="holds no result set"):
        result_files([output])


def test_a_file_of_another_study_stops_everything(output: Path) -> None:
    other = pydicom.dcmread(output / "a" / "sr.dcm")
    other.StudyInstanceUID = "1.2.3"
    other.save_as(output / "a" / "sr.dcm")
    with pytest.raises(RefusedInputError, match=r"a/sr\.dcm is of another study"):
        result_files([output])


def test_neither_links_nor_damaged_files_are_sent(output: Path) -> None:
    (output / "a" / "gsps.dcm").write_bytes(b"not DICOM")
    with pytest.raises(RefusedInputError, match="cannot be read as DICOM"):
        result_files([output])
    (output / "a" / "gsps.dcm").unlink()
    (output / "a" / "gsps.dcm").symlink_to(output / "b" / "gsps.dcm")
    with pytest.raises(RefusedInputError, match="is a link"):
        result_files([output])
