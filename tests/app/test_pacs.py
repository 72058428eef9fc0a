"""A study from a real archive and back: images in by C-STORE, results out, found and fetched by DICOMweb."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from builders import pacs
from builders.pacs import Pacs, running_pacs
from builders.result_set import made


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    with running_pacs(tmp_path_factory.mktemp("pacs")) as running:
        running.push(made().folder.parents[1] / "in")
        yield running


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The result set of the phantom in a folder of its own, where ``sent.json`` may be written."""
    return Path(shutil.copytree(made().folder, tmp_path / "out" / made().folder.name)).parent


def objects() -> dict[str, pydicom.FileDataset]:
    files = [pydicom.dcmread(path) for path in made().folder.glob("*.dcm")]
    return {str(one.SOPInstanceUID): one for one in files}


def check_archive(archive: Pacs, folder: Path) -> None:
    """All results are found in the study of the images, once each, and equal what was sent."""
    study = made().result.study_instance_uid
    assert study is not None
    found = archive.pull(study, folder)
    images = set(found.pop("CT"))
    assert images == set(made().images)
    assert sorted(uid for uids in found.values() for uid in uids) == sorted(objects())
    for uid, sent in objects().items():
        back = pydicom.dcmread(folder / f"{uid}.dcm")
        assert back == sent, sent.Modality
        assert back.StudyInstanceUID == study
        if "PixelData" in sent:
            assert (back.pixel_array == sent.pixel_array).all()


@pytest.mark.parametrize("way", [["--to", pacs.DICOM], ["--stow", pacs.WEB]], ids=["c-store", "stow-rs"])
def test_results_are_in_the_archive_as_they_were_written(
    archive: Pacs, results: Path, tmp_path: Path, way: list[str]
) -> None:
    for _ in range(2):
        # The second time everything is replaced, nothing doubled.
        done = archive.send(str(results), *way)
        assert done.returncode == 0, done.stderr
        assert f"{len(objects())} of {len(objects())} files are at" in done.stdout
    check_archive(archive, tmp_path / "back")


def test_the_archive_commits_to_keep_them(archive: Pacs, results: Path) -> None:
    done = archive.send(str(results), "--to", pacs.DICOM, "--commit", "--listen", pacs.ANSWERS)
    assert done.returncode == 0, done.stderr
    sent = json.loads((results / "sent.json").read_text())
    assert [file["delivery"] for file in sent["files"]] == ["committed"] * len(objects())


def test_a_peer_that_does_not_know_the_title_is_reported_at_once(archive: Pacs, results: Path) -> None:
    done = archive.send(str(results), "--to", f"OTHER@127.0.0.1:{pacs.DICOM_PORT}")
    assert done.returncode == 6
    assert "PEER_REFUSED" in done.stderr
    assert "does not know its AE title" in done.stderr
