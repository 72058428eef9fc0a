"""The DICOM files of result sets, ready to be sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread

from covid_ct_mask_net.app.headers import DAMAGE, quiet_pydicom
from covid_ct_mask_net.app.result_sets import PSEUDONYM, RESULT, entries_of
from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.worklist import reading_order

# What is referred to goes ahead of what refers to it, so that an archive never holds a dangling reference.
_ORDER = ("seg", "sc", "gsps", "kos", "pdf", "sr")


@dataclass(frozen=True)
class ResultFile:
    """One DICOM result of a study.

    Attributes
    ----------
    path
        The file.
    home
        Folder where it is recorded that the file was sent: the output folder of the result set.
    pseudonym
        Of the study, from its result.
    study_instance_uid, sop_class_uid, sop_instance_uid, transfer_syntax_uid
        As the file states them.
    """

    path: Path
    home: Path
    pseudonym: str
    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @property
    def name(self) -> str:
        """File name, with the folder of its result set."""
        return f"{self.path.parent.name}/{self.path.name}"


def result_files(folders: Sequence[Path]) -> tuple[ResultFile, ...]:
    """Return the DICOM files of result sets, urgent studies first.

    Parameters
    ----------
    folders : sequence of Path
        Output folders of ``triage``, or result sets in them.

    Returns
    -------
    tuple of ResultFile
        By study in reading order, as their results in the folder have it; within a study what is
        referred to first.

    Raises
    ------
    UsageError
        ``NO_RESULTS`` if a folder is not there or holds no result set with DICOM files.
    RefusedInputError
        ``FOREIGN_FILE`` if a file in a result set, or its ``result.json``, cannot be read or is of another
        study: nothing is sent then, because it could reach the wrong patient's record.
    """
    files: dict[str, ResultFile] = {}
    for folder in folders:
        found = _found(folder)
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


def _found(folder: Path) -> list[ResultFile]:
    if (folder / RESULT).is_file():
        result_set = folder.resolve()
        # One that was taken out of its output folder keeps the record itself.
        home = result_set.parent if (result_set.parent / "audit.jsonl").is_file() else result_set
        return _files_of(result_set, home)
    if not folder.is_dir():
        return []
    # Hidden ones are being written.
    sets = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and (p / RESULT).is_file())
    files = {result_set.name: _files_of(result_set, folder) for result_set in sets}
    # Not from worklist.json: a run that was cut off has left results that it does not name.
    ordered = [entry.pseudonym for entry in reading_order(entries_of(folder))]
    names = dict.fromkeys([*(name for name in ordered if name in files), *files])
    return [file for name in names for file in files[name]]


def _files_of(result_set: Path, home: Path) -> list[ResultFile]:
    try:
        result = json.loads((result_set / RESULT).read_text(encoding="utf-8"))
        study, pseudonym = result["study_instance_uid"], str(result["pseudonym"])
        known = PSEUDONYM.fullmatch(pseudonym) is not None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        known = False
    if not known:
        raise RefusedInputError(
            "FOREIGN_FILE",
            f"{result_set.name}/{RESULT} cannot be read as a result of triage; nothing was sent. Run triage "
            "again or remove the folder.",
        )
    paths = sorted(result_set.glob("*.dcm"), key=lambda path: (_kind(path), path.name))
    return [_described(path, home, pseudonym, study) for path in paths]


def _kind(path: Path) -> int:
    stem = path.stem.split("-")[0]
    return _ORDER.index(stem) if stem in _ORDER else len(_ORDER)


def _described(path: Path, home: Path, pseudonym: str, study: str | None) -> ResultFile:
    name = f"{path.parent.name}/{path.name}"
    if path.is_symlink():
        raise RefusedInputError("FOREIGN_FILE", f"{name} is a link; only result files themselves are sent.")
    with quiet_pydicom():
        try:
            header = dcmread(path, stop_before_pixels=True)
            file = ResultFile(
                path=path,
                home=home,
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
