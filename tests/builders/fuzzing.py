"""Batches of damaged files, put through the command line and then, file by file, through the readers.

A batch is one run of ``triage`` on a folder: studies under every transfer syntax that is read, some with all
of their slices damaged and some with a few, and NIfTI files. What must hold is checked for the run as a whole
(exit code, results, texts, names, files, processes) and for each file: it is read, or refused with a code and
a sentence.
"""

from __future__ import annotations

import contextlib
import io
import re
import resource
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    RLELossless,
)

from builders.command_line import Outcome, check_safe, read_outcome, run_main
from builders.dicom import make_enhanced_ct, phantom_hu
from builders.mutations import mutated_dicom, mutated_nifti
from builders.oracle import GGO_HU
from builders.planted import TOKEN, make_study, planted, values
from covid_ct_mask_net import pipeline
from covid_ct_mask_net.app import headers
from covid_ct_mask_net.app.frames import frames_of_instance
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.intake import Instance
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.readers import Readers
from covid_ct_mask_net.errors import NotAssessableError, RefusedInputError
from covid_ct_mask_net.pipeline import VolumePipeline

SYNTAXES = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
    RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless,
    JPEG2000, JPEGBaseline8Bit, JPEGExtended12Bit,
)  # fmt: skip
SPACING_MM = (9.0, 5.25, 5.25)
SLICES = 22
# A hang costs seconds and not half a minute; lossy images are read, so that their decoder is met too.
LIMITS = Limits(read_seconds=10, lossy=True)
_OPTIONS = ("--set", "limits.read_seconds=10", "--lossy", "--quiet", "--log=json")
# The share of a study's slices that are damaged: all of them, or so few that the rest is assessed.
_MOSTLY, _SPARSE = 0.75, 2


def small_chest() -> np.ndarray:
    """A chest that passes the gates in 22 slices of 64 x 64, with one opacity."""
    hu = phantom_hu((SLICES, 64, 64))
    hu[5:8, 34:40, 16:22] = GGO_HU
    return hu


@cache
def dicom_seeds() -> dict[str, tuple[bytes, ...]]:
    """Return the files of one good study by transfer syntax, of enhanced CT and of an MR."""
    import tempfile

    found: dict[str, tuple[bytes, ...]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, syntax in enumerate(SYNTAXES):
            files = make_study(
                folder / str(number),
                hu=small_chest(),
                spacing=SPACING_MM,
                patient_id=f"{TOKEN}{number}",
                slope=16.0 if syntax == JPEGBaseline8Bit else 1.0,
                transfer_syntax=syntax,
            )
            found[UID(syntax).keyword] = tuple(file.read_bytes() for file in files)
        found["EnhancedCT"] = tuple(
            make_enhanced_ct(
                folder / f"enhanced-{number}",
                hu=small_chest(),
                spacing=SPACING_MM,
                patient_id=f"{TOKEN}ENHANCED{number}",
                edit=lambda dataset: planted()(0, dataset),
            ).read_bytes()
            for number in range(6)
        )
        others = make_study(
            folder / "others",
            hu=small_chest()[:8],
            patient_id=f"{TOKEN}OTHER",
            modality="MR",
            edit=values(SOPClassUID=MRImageStorage),
        )
        found["MR"] = tuple(file.read_bytes() for file in others)
    return found


@cache
def nifti_seeds() -> tuple[bytes, ...]:
    """Return a good volume as int16 and as float32, in either order of bytes, not packed."""
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    hu = small_chest().transpose(2, 1, 0)
    found = []
    for dtype in ("<i2", ">i2", "<f4"):
        header = nibabel.Nifti1Header(endianness=dtype[0])
        header.set_data_dtype(np.dtype(dtype))
        found.append(nibabel.Nifti1Image(hu.astype(dtype), affine, header).to_bytes())
    return tuple(found)


@dataclass(frozen=True)
class Batch:
    """Damaged files by name, with what was done to each, and the good ones beside them."""

    damaged: dict[str, str]
    contents: dict[str, bytes]

    def write(self, folder: Path) -> None:
        for name, content in self.contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def make_batch(seed: int, number: int, *, studies: Sequence[str] | None = None, volumes: int = 40) -> Batch:
    """Return a batch; equal numbers, equal bytes.

    Parameters
    ----------
    seed, number : int
        Of the run and of the batch.
    studies : sequence of str, optional
        Transfer syntaxes, by keyword, of its studies; all if not given.
    volumes : int
        NIfTI files.
    """
    rng = np.random.default_rng((seed, number))
    damaged: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    for syntax in studies or dicom_seeds():
        files = dicom_seeds()[syntax]
        if rng.random() < _MOSTLY:
            chosen = set(range(len(files)))
        else:
            chosen = set(rng.choice(len(files), _SPARSE, replace=False).tolist())
        for k, content in enumerate(files):
            name = f"{syntax}/{k:03d}.dcm"
            contents[name] = content
            if k in chosen:
                damaged[name], contents[name] = mutated_dicom(content, rng)
    for k in range(volumes):
        packed = bool(rng.random() < 0.5)
        name = f"volumes/{TOKEN}{k:03d}.nii" + (".gz" if packed else "")
        content = nifti_seeds()[int(rng.integers(len(nifti_seeds())))]
        damaged[name], contents[name] = mutated_nifti(content, rng, packed=packed)
    return Batch(damaged, contents)


@dataclass
class Report:
    """What became of the files so far."""

    files: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    studies: Counter[str] = field(default_factory=Counter)
    contained: list[str] = field(default_factory=list)


class Bench:
    """Puts batches through the real command line, with the oracle in place of the networks."""

    def __init__(self, folder: Path, oracle: VolumePipeline) -> None:
        self.folder = folder
        self.report = Report()
        self._oracle = oracle

    def warm_up(self, readers: Readers, studies: Sequence[str] | None = None) -> Outcome:
        """Put good files through: what the first run of a process leaves open is no leak."""
        contents = {
            f"{name}/{k:03d}.dcm": content
            for name in studies or dicom_seeds()
            for k, content in enumerate(dicom_seeds()[name])
        }
        contents |= {f"volumes/{TOKEN}{k}.nii": content for k, content in enumerate(nifti_seeds())}
        batch = Batch({}, contents)
        inputs = self.folder / f"{TOKEN}IN"
        batch.write(inputs)
        outcome = self._triage(inputs, self.folder / "out")
        assert {end_of_file(inputs / name, readers)[0] for name in contents} == {"read"}
        return outcome

    def put_through(self, batch: Batch, readers: Readers) -> Outcome:
        """Run ``triage`` on a batch, then read file by file; ``AssertionError`` where a rule is broken."""
        inputs, output = self.folder / f"{TOKEN}IN", self.folder / "out"
        for folder in (inputs, output):
            shutil.rmtree(folder, ignore_errors=True)
        batch.write(inputs)
        before = _surroundings(inputs), held_by_process()
        outcome = self._triage(inputs, output)
        assert _surroundings(inputs) == before[0], "an input was changed"
        # A thread of the run closes its pipe a moment later, on a busy machine some seconds.
        deadline = time.monotonic() + 20
        while held_by_process() != before[1] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert held_by_process() == before[1], f"{held_by_process()} held, {before[1]} before"
        self._check_results(outcome, batch)
        for name, what in batch.damaged.items():
            end, sentence = end_of_file(inputs / name, readers)
            self.report.files += 1
            self.report.outcomes[end] += 1
            assert end == "read" or re.fullmatch(r"[A-Z0-9_]+", end), (name, end)
            assert end == "read" or len(sentence.split()) >= 4, (name, sentence)
            assert TOKEN not in sentence, (name, sentence)
            if "reader" in sentence:
                self.report.contained.append(f"{name} ({what}): {end}: {sentence}")
        return outcome

    def _triage(self, inputs: Path, output: Path) -> Outcome:
        said, warned = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(warned),
        ):
            patch.setattr(pipeline, "load_pipeline", lambda *_: self._oracle)
            code = run_main(["triage", str(inputs), "-o", str(output), *_OPTIONS])
        return read_outcome(code, said.getvalue(), warned.getvalue(), output)

    def _check_results(self, outcome: Outcome, batch: Batch) -> None:
        """Each file is accounted for, each study has one result, and none of them is a defect of ours."""
        assert outcome.run, f"the run ended with {outcome.code}: {outcome.stderr[-2000:]}"
        check_safe(outcome)
        files = outcome.run["files"]
        volumes = sum(1 for name in batch.contents if "volumes/" in name)
        assert files["accepted"] + sum(files["refused"].values()) + volumes == len(batch.contents), files
        assert len(outcome.results) == outcome.run["studies"]
        for result in outcome.results:
            self.report.studies[result["status"]] += 1
            assert result["status"] != "failed", (result["reasons"], outcome.stderr[-4000:])
        folders = {path.name for path in outcome.output.iterdir() if path.is_dir()}
        assert folders == {result["pseudonym"] for result in outcome.results}


def end_of_file(path: Path, readers: Readers) -> tuple[str, str]:
    """Return ``read``, or the code and sentence of the refusal, of one file read on its own."""
    try:
        if ".nii" in path.suffixes:
            with readers.nifti(path, readers.limits.nifti) as (_, pieces):
                deque(pieces, maxlen=0)
            return "read", ""
        status = path.lstat()
        with headers.quiet_pydicom():
            header = readers.header(path, readers.limits)
            instance = Instance(path, str(header.SOPInstanceUID), header, status.st_size, status.st_mtime_ns)
            for frame in frames_of_instance(instance)[:2] if headers.is_ct_image(header) else ():
                frame.decode(readers.limits, readers.stored_values)
    except (FileRefusedError, NotAssessableError, RefusedInputError) as refusal:
        return refusal.code, refusal.sentence
    return "read", ""


def held_by_process() -> tuple[int, int]:
    """Return the numbers of open descriptors and of child processes."""
    children = 0
    for task in Path("/proc/self/task").iterdir():
        # A thread may end between the listing and the reading; its children then have another parent.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += len((task / "children").read_text().split())
    return len(list(Path("/proc/self/fd").iterdir())), children


def resident_mb() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


def _surroundings(inputs: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything beside the output folder."""
    found = {}
    for path in _below(inputs.parent, without="out"):
        status = path.lstat()
        found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def _below(folder: Path, without: str) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name != without:
            yield from path.rglob("*") if path.is_dir() else [path]
