"""The process that reads untrusted files: started by ``readers``, never by hand.

It takes requests from standard input and answers on standard output, both as a length (8 bytes) and so many
bytes. Answers are bytes and numbers, never objects: what comes out of a process that a hostile file took over
can be wrong, but cannot run code in the process that asked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from covid_ct_mask_net.app import headers, pixels
from covid_ct_mask_net.app.intake import Instance
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.errors import RefusedInputError

LENGTH = struct.Struct(">Q")
# Answers begin with one of these.
HEADER, PIXELS, NIFTI, REFUSED = b"H", b"P", b"N", b"R"
# The first message, unasked: all is imported and the limits hold.
READY = b"S"
# Rows, columns and whether the values are signed, ahead of the 16-bit values.
SHAPE = struct.Struct(">II?")
# Open files beyond those of the interpreter.
_FILES = 64


def main() -> None:
    """Serve requests until there are no more."""
    limits = Limits(**json.loads(sys.argv[1]))
    _restrict(limits)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    send(answers, READY)
    volume = NiftiAnswers(limits)
    with headers.quiet_pydicom():
        while (request := receive(requests)) is not None:
            _allow_cpu_time(limits)
            asked = json.loads(request)
            send(answers, volume.answer(asked) if "nifti" in asked else answer(asked, limits))


def answer(request: dict[str, str | int], limits: Limits) -> bytes:
    """Return the answer to one request: the header of a file or, with ``frame``, the pixels of a frame."""
    path = Path(str(request["path"]))
    try:
        if "frame" not in request:
            return HEADER + headers.read_bytes(path, limits)
        stub = Dataset()
        stub.file_meta = FileMetaDataset()
        stub.file_meta.TransferSyntaxUID = UID(str(request["syntax"]))
        stub.NumberOfFrames = int(request["frames"])
        instance = Instance(path, "", stub, int(request["size"]), int(request["modified"]))
        stored = pixels.stored_values(instance, limits, frame=int(request["frame"]))
        return PIXELS + SHAPE.pack(*stored.shape, stored.dtype.kind == "i") + stored.tobytes()
    except headers.FileRefusedError as refusal:
        return REFUSED + json.dumps([refusal.code, refusal.sentence, refusal.study_instance_uid]).encode()
    except MemoryError:
        return _too_large(limits)


def _too_large(limits: Limits) -> bytes:
    sentence = f"Reading the file takes more than {limits.read_memory_bytes} bytes (read_memory_bytes)."
    return REFUSED + json.dumps(["READ_MEMORY", sentence]).encode()


class NiftiAnswers:
    """A NIfTI file in several answers: what its header says, then its voxels piece by piece, then nothing.

    Parameters
    ----------
    limits : Limits
        Bounds on the file.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._opened = contextlib.ExitStack()
        self._pieces: Iterator[bytes] = iter(())

    def answer(self, request: dict[str, str | int]) -> bytes:
        """Return the answer to a request: its ``nifti`` names a file, or is empty to ask for more of it."""
        # Not for processes that are asked for DICOM only.
        from covid_ct_mask_net.nifti_stream import open_nifti

        try:
            if not request["nifti"]:
                return NIFTI + next(self._pieces, b"")
            # What was not read to its end is let go.
            self._opened.close()
            opened = open_nifti(Path(str(request["nifti"])), self._limits.nifti)
            image, self._pieces = self._opened.enter_context(opened)
            described = {**dataclasses.asdict(image), "affine": image.affine.tolist()}
            return NIFTI + json.dumps(described).encode()
        except RefusedInputError as refusal:
            return REFUSED + json.dumps([refusal.code, refusal.sentence]).encode()
        except MemoryError:
            return _too_large(self._limits)


def receive(stream: BinaryIO) -> bytes | None:
    """Return the next message, or None at the end of the stream."""
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    return stream.read(LENGTH.unpack(length)[0])


def send(stream: BinaryIO, message: bytes) -> None:
    """Write a message."""
    stream.write(LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def _restrict(limits: Limits) -> None:
    """Give up what reading does not need: memory beyond the limit, writing of files, core dumps."""
    for kind, value in (
        (resource.RLIMIT_AS, limits.read_memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _FILES),
    ):
        hard = resource.getrlimit(kind)[1]
        bounded = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bounded, bounded))


def _allow_cpu_time(limits: Limits) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + limits.read_seconds + 1
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))
