"""The DICOM files of result sets, ready to be sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from covid_ct_mask_net.app.headers import DAMAGE, quiet_pydicom
from covid_ct_mask_net.errors import RefusedInputError, UsageError

_RESULT = "result.json"
# What is referred to goes ahead of what refers to it, so that an archive never holds a dangling reference.
_ORDER = ("seg", "sc", "gsps", "kos", "pdf", "sr")


@dataclass(frozen=True)
class ResultFile:
    """One DICOM result of a study.

    Attributes
    ----------
    path
        The file.
    pseudonym
        Name of the result set, without patient data.
    study_instance_uid, sop_class_uid, sop_instance_uid, transfer_syntax_uid
        As the file states them.
    """

    path: Path
    pseudonym: str
    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @property
    def name(self) -> str:
        """File name in its result set."""
        return f"{self.pseudonym}/{self.path.name}"


def result_files(folders: Sequence[Path]) -> tuple[ResultFile, ...]:
    """Return the DICOM files of result sets, urgent studies first.

    Parameters
    ----------
    folders : sequence of Path
        Output folders of ``triage``, or result sets in them.

    Returns
    -------
    tuple of ResultFile
        By study in the order of ``worklist.json``; within a study what is referred to first.

    Raises
    ------
    UsageError
        ``NO_RESULTS`` if a folder is not there or holds no result set with DICOM files.
    RefusedInputError
        ``FOREIGN_FILE`` if a file in a result set cannot be read or is of another study than its
        ``result.json``: nothing is sent then, because it could reach the wrong patient's record.
    """
    files: dict[str, ResultFile] = {}
    for folder in folders:
        found = [file for result_set in _result_sets(folder) for file in _files_of(result_set)]
        if not found:
            raise UsageError(
                "NO_RESULTS",
                f"The folder {str(folder)!r} holds no result set with DICOM files; name the output folder of "
                "a triage of DICOM studies.",
            )
        files |= {file.sop_instance_uid: file for file in found}
    return tuple(files.values())


def by_study(files: Iterable[ResultFile]) -> dict[str, list[ResultFile]]:
    """Return files by Study Instance UID, in the order given."""
    studies: dict[str, list[ResultFile]] = {}
    for file in files:
        studies.setdefault(file.study_instance_uid, []).append(file)
    return studies


def _result_sets(folder: Path) -> list[Path]:
    if (folder / _RESULT).is_file():
        return [folder]
    if not folder.is_dir():
        return []
    # Hidden ones are being written.
    sets = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and (p / _RESULT).is_file())
    place = {folder / name: number for number, name in enumerate(_reading_order(folder / "worklist.json"))}
    return sorted(sets, key=lambda path: place.get(path, len(place)))


def _reading_order(worklist: Path) -> list[str]:
    if not worklist.is_file():
        return []
    studies = json.loads(worklist.read_text(encoding="utf-8"))["studies"]
    return [str(Path(study["result"]).parent) for study in studies]


def _files_of(result_set: Path) -> list[ResultFile]:
    result = json.loads((result_set / _RESULT).read_text(encoding="utf-8"))
    study = result.get("study_instance_uid")
    paths = sorted(result_set.glob("*.dcm"), key=lambda path: (_kind(path), path.name))
    return [_described(path, result_set.name, study) for path in paths]


def _kind(path: Path) -> int:
    stem = path.stem.split("-")[0]
    return _ORDER.index(stem) if stem in _ORDER else len(_ORDER)


def _described(path: Path, pseudonym: str, study: str | None) -> ResultFile:
    name = f"{pseudonym}/{path.name}"
    if path.is_symlink():
        raise RefusedInputError("FOREIGN_FILE", f"{name} is a link; only result files themselves are sent.")
    with quiet_pydicom():
        try:
            header = dcmread(path, stop_before_pixels=True)
            file = ResultFile(
                path=path,
                pseudonym=pseudonym,
                study_instance_uid=str(header.StudyInstanceUID),
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
                transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
            )
        except (OSError, *DAMAGE) as error:
            raise RefusedInputError(
                "FOREIGN_FILE", f"{name} cannot be read as DICOM; run triage again or remove the file."
            ) from error
    if file.study_instance_uid != study:
        raise RefusedInputError(
            "FOREIGN_FILE",
            f"{name} is of another study than the result.json beside it; nothing was sent. Remove the file.",
        )
    return file
