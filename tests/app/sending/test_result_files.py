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
    """An output folder with two copies of a result set, under names that are not theirs."""
    for name in ("a", "b"):
        shutil.copytree(made().folder, tmp_path / name)
    return tmp_path


def test_what_is_referred_to_goes_first() -> None:
    names = [file.path.name for file in result_files([made().folder])]
    assert names == ["seg.dcm", "sc-1.dcm", "sc-2.dcm", "gsps.dcm", "kos.dcm", "pdf.dcm", "sr.dcm"]


def test_each_object_is_sent_once(output: Path) -> None:
    files = result_files([output])
    # Both sets hold the same objects: they are sent once, from where they come first.
    assert {file.path.parent.name for file in files} <= {"a", "b"}
    # Folders may be named anything; the audit has the pseudonym of the result.
    assert {file.pseudonym for file in files} == {made().result.pseudonym}
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


def renamed(folder: Path, number: int, priority: str) -> Path:
    """A copy of the result set as that of another study."""
    other = folder / f"{number:012x}"
    shutil.copytree(made().folder, other)
    result = json.loads((other / "result.json").read_text())
    result["pseudonym"], result["study_instance_uid"] = other.name, f"1.2.{number}"
    result["triage"]["priority"] = priority
    (other / "result.json").write_text(json.dumps(result))
    for place, path in enumerate(sorted(other.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SOPInstanceUID = f"1.2.{number}", f"1.2.{number}.{place}"
        dataset.save_as(path)
    return other


def test_urgent_studies_of_any_run_go_first(tmp_path: Path) -> None:
    for number, priority in ((1, "routine"), (2, "urgent"), (3, "raised")):
        renamed(tmp_path, number, priority)
    # As a run that was cut off, or one of an earlier version, leaves it.
    (tmp_path / "worklist.json").write_text(json.dumps({"studies": [{"result": f"{1:012x}/result.json"}]}))
    assert list(by_study(result_files([tmp_path]))) == ["1.2.2", "1.2.3", "1.2.1"]
    (tmp_path / "worklist.json").write_text("{")
    assert list(by_study(result_files([tmp_path]))) == ["1.2.2", "1.2.3", "1.2.1"]


@pytest.mark.parametrize("content", ["{", "[]", '{"study_instance_uid": "1.2", "pseudonym": "Doe"}'])
def test_a_damaged_result_stops_everything(output: Path, content: str) -> None:
    (output / "a" / "result.json").write_text(content)
    with pytest.raises(RefusedInputError, match=r"a/result\.json cannot be read as a result"):
        result_files([output])
