"""Which files of the input are DICOM, and which patient, study and series each belongs to.

Headers first: no pixel is read here. Every file is either an instance of a study or counted under a reason
code, whatever its content. The order of files, folders and arguments has no influence on the outcome.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers
from covid_ct_mask_net.app.common_elements import CommonElements
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.identifiers import pseudonym
from covid_ct_mask_net.results import Reason

# Groups kept of objects that are not CT images: identification, patient and relationship (PS3.6), with
# which a report on the study can be written; no images, no frames, no acquisition.
_KEPT_GROUPS = frozenset({0x0008, 0x0010, 0x0020})

HeaderReader = Callable[[Path, Limits], Dataset]
"""``headers.read``, or what does the same in another process."""


@dataclass(frozen=True, eq=False)
class Instance:
    """One accepted file.

    ``header`` is the full header of CT images; of other objects it keeps what identifies them. ``size`` and
    ``modified`` (ns) are the file's when the header was read, so that a later change is noticed.
    """

    path: Path
    sop_instance_uid: str
    header: Dataset
    size: int
    modified: int


@dataclass(frozen=True, eq=False)
class Series:
    """Instances of one series of one study, ordered by SOP Instance UID.

    ``conflict`` says why the series must not be used, ``notes`` what was put right.
    """

    series_instance_uid: str
    modality: str
    instances: tuple[Instance, ...]
    notes: tuple[Reason, ...] = ()
    conflict: Reason | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """One study of one patient; ``refusal`` says why it must not be assessed at all.

    ``refused`` counts, by code, the files that say they belong to it and are not used.
    """

    study_instance_uid: str
    series: tuple[Series, ...]
    refusal: Reason | None = None
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def pseudonym(self) -> str:
        """Stands for the study in file names and logs."""
        return pseudonym(self.study_instance_uid)


@dataclass(frozen=True)
class RefusedFile:
    """A file that is not used; the sentence names neither file nor patient, the path may.

    ``study_instance_uid`` is that of its header, or None where it was not read that far.
    """

    path: Path
    code: str
    sentence: str
    study_instance_uid: str | None = None


@dataclass(frozen=True, eq=False)
class Intake:
    """All studies of the input, ordered by Study Instance UID, and what was refused.

    ``accepted`` counts files that belong to a study, ``modalities`` the same by modality.
    """

    studies: tuple[Study, ...]
    refused_files: tuple[RefusedFile, ...] = ()
    accepted: int = 0
    modalities: Mapping[str, int] = field(default_factory=dict)

    @property
    def refused(self) -> Mapping[str, int]:
        """Number of refused files by reason code, in the order of the codes."""
        return dict(sorted(Counter(file.code for file in self.refused_files).items()))


def scan(
    inputs: Sequence[Path],
    limits: Limits | None = None,
    progress: Callable[[], object] | None = None,
    read_header: HeaderReader = headers.read,
) -> Intake:
    """Read the headers of all files under the inputs and put them in order.

    Parameters
    ----------
    inputs : sequence of Path
        Folders, searched in depth without following links, and files.
    limits : Limits, optional
        Bounds on the input.
    progress : callable, optional
        Called after each file.
    read_header : callable, optional
        Reads the header of one file; in this process if not given.

    Returns
    -------
    Intake
        Possibly without any study: see ``require_studies``.

    Raises
    ------
    UsageError
        ``INPUT_MISSING`` if an input is not there or cannot be read.
    """
    limits = limits or Limits()
    require_inputs(inputs)
    files, unreadable = _files(inputs)
    common = CommonElements()

    def read(path: Path) -> Instance | RefusedFile:
        outcome = _read(path, limits, read_header)
        if isinstance(outcome, Instance):
            common.share(outcome.header)
        if progress is not None:
            progress()
        return outcome

    # pydicom's parser holds the interpreter lock: more threads would only wait; these overlap the disk.
    with headers.quiet_pydicom(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(read, sorted(files)))
    instances = [outcome for outcome in outcomes if isinstance(outcome, Instance)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, RefusedFile)]
    refused += [_unlisted(folder) for folder in unreadable]
    return Intake(
        studies=_studies(instances, refused, limits),
        refused_files=tuple(sorted(refused, key=lambda file: (file.code, file.path))),
        accepted=len(instances),
        modalities=dict(sorted(Counter(_modality(instance) for instance in instances).items())),
    )


def require_inputs(inputs: Iterable[Path]) -> None:
    """Raise ``INPUT_MISSING`` (`UsageError`) if an input is not there or cannot be read."""
    for path in inputs:
        if not os.access(path, os.R_OK):
            raise UsageError(
                "INPUT_MISSING", f"The input {str(path)!r} is not there or cannot be read; check the path."
            )


def require_studies(intake: Intake) -> None:
    """Raise if the input holds nothing that belongs to a study.

    Raises
    ------
    NotAssessableError
        ``NO_FILES`` for an empty input, ``NO_DICOM`` if every file was refused; the sentence counts them.
    """
    if intake.studies:
        return
    if not intake.refused_files:
        raise NotAssessableError("NO_FILES", "The input holds no files; give a folder with DICOM files.")
    kinds = ", ".join(f"{count} {code}" for code, count in intake.refused.items())
    first = intake.refused_files[0].sentence
    raise NotAssessableError(
        "NO_DICOM",
        f"None of {len(intake.refused_files)} files could be used ({kinds}); a folder with DICOM files of a "
        f"chest CT is expected. The first: {first}",
    )


def _files(inputs: Iterable[Path]) -> tuple[set[Path], set[Path]]:
    """Return each entry below the inputs once, however it was reached, and folders that cannot be listed."""
    found: set[Path] = set()
    unreadable: set[Path] = set()
    for path in inputs:
        resolved = path.resolve()
        found.update(walk(resolved, unreadable.add) if resolved.is_dir() else [resolved])
    return found, unreadable


def walk(folder: Path, unreadable: Callable[[Path], object] | None = None) -> Iterator[Path]:
    """Yield what lies below a folder and is no folder; links are not followed.

    Parameters
    ----------
    folder : Path
    unreadable : callable, optional
        Told of each folder that cannot be listed.
    """

    def told(error: OSError) -> None:
        if unreadable is not None:
            unreadable(Path(error.filename or folder))

    for parent, folders, names in os.walk(folder, onerror=told, followlinks=False):
        yield from (Path(parent) / name for name in names)
        # Unlike Path.is_symlink, this one says no where nothing can be learned of an entry.
        yield from (link for name in folders if os.path.islink(link := Path(parent) / name))  # noqa: PTH114


def _unlisted(folder: Path) -> RefusedFile:
    return RefusedFile(
        folder,
        "UNREADABLE",
        "A folder cannot be read, so what lies in it was not looked at; check who may read it.",
    )


def _read(path: Path, limits: Limits, read_header: HeaderReader) -> Instance | RefusedFile:
    try:
        status = path.lstat()
    except OSError:
        return RefusedFile(
            path, "UNREADABLE", "The file cannot be read; check that it is there and readable."
        )
    try:
        header = read_header(path, limits)
    except headers.FileRefusedError as refusal:
        return RefusedFile(path, refusal.code, refusal.sentence, refusal.study_instance_uid)
    if not headers.is_ct_image(header):
        header = _abridged(header)
    return Instance(path, str(header.SOPInstanceUID), header, status.st_size, status.st_mtime_ns)


def _abridged(header: Dataset) -> Dataset:
    """Return the elements of a header that say whose and what an object is, without sequences."""
    kept = Dataset()
    for tag in [tag for tag in header.keys() if tag.group in _KEPT_GROUPS]:  # noqa: SIM118
        # What nobody can read says nothing about the object.
        element = headers.readable_element(header, tag)
        if element is not None and element.VR != "SQ":
            kept.add(element)
    return kept


def _patient(header: Dataset) -> str:
    """Return what tells patients apart: the Patient ID or, where that is empty, the name."""
    return "".join(headers.text(header, "PatientID")) or "^".join(headers.text(header, "PatientName"))


def _modality(instance: Instance) -> str:
    modality = "".join(headers.text(instance.header, "Modality"))
    # It goes into results and logs: free text in its place does not.
    return modality if re.fullmatch(r"[A-Z0-9_]{1,16}", modality) else "unknown"


def _studies(
    instances: Iterable[Instance], refused: Iterable[RefusedFile], limits: Limits
) -> tuple[Study, ...]:
    by_study: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_study[str(instance.header.StudyInstanceUID)].append(instance)
    counts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    for file in refused:
        counts[file.study_instance_uid][file.code] += 1
    return tuple(
        replace(_study(uid, by_study[uid], limits), refused=dict(sorted(counts[uid].items())))
        for uid in sorted(by_study)
    )


def _study(uid: str, instances: list[Instance], limits: Limits) -> Study:
    refusal = _refusal(instances, limits)
    if refusal is not None:
        return Study(uid, (), refusal)
    by_series: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_series[str(instance.header.SeriesInstanceUID)].append(instance)
    return Study(uid, tuple(_series(series_uid, by_series[series_uid]) for series_uid in sorted(by_series)))


def _refusal(instances: list[Instance], limits: Limits) -> Reason | None:
    patients = {_patient(instance.header) for instance in instances}
    if len(patients) > 1:
        # Whose study it is cannot be known, and a result would name one of them.
        return Reason(
            "MIXED_PATIENTS",
            f"The files of this study name {len(patients)} different patients; the study is not assessed. "
            "Correct the patient identification at its source.",
        )
    size = sum(instance.size for instance in instances)
    if len(instances) > limits.study_files or size > limits.study_bytes:
        return Reason(
            "STUDY_SIZE",
            f"The study has {len(instances)} files and {size} bytes; at most {limits.study_files} files "
            f"(study_files) and {limits.study_bytes} bytes (study_bytes) are accepted.",
        )
    return None


def _series(uid: str, instances: list[Instance]) -> Series:
    by_instance: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_instance[instance.sop_instance_uid].append(instance)
    conflict = None
    notes: tuple[Reason, ...] = ()
    copies = {key: same for key, same in by_instance.items() if len(same) > 1}
    if any(len({_digest(instance.path) for instance in same}) > 1 for same in copies.values()):
        conflict = Reason(
            "CONFLICTING_INSTANCES",
            "Files with the same SOP Instance UID differ; which one is right cannot be known.",
        )
    elif copies:
        surplus = sum(len(same) - 1 for same in copies.values())
        notes = (
            Reason("DUPLICATE_INSTANCES", f"{surplus} files are exact copies of others and were left out."),
        )
    unique = tuple(min(by_instance[key], key=lambda same: same.path) for key in sorted(by_instance))
    modalities = sorted({_modality(instance) for instance in unique})
    return Series(uid, "/".join(modalities), unique, notes, conflict)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        # A copy that vanished cannot be compared, so it counts as different.
        return str(path).encode(errors="replace")
