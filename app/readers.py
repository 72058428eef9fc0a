"""Untrusted files are parsed and decoded in processes of their own, bounded in memory and time.

A file that crashes or hangs its reader is refused; the reader is replaced and the run goes on. Readers live
as long as the run, so that their start is paid once, and end with it, whatever ends it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import queue
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers, pixels
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.intake import Instance
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.reader_process import HEADER, LENGTH, NIFTI, PIXELS, READY, REFUSED, SHAPE
from covid_ct_mask_net.errors import CovidCTMaskNetError, RefusedInputError
from covid_ct_mask_net.nifti_stream import NiftiImage, NiftiLimits, open_nifti

logger = logging.getLogger(__name__)

_PATHS = "COVID_CT_MASK_NET_READER_PATHS"
# -P: a module of the same name in the working folder, perhaps an input, is not imported.
COMMAND = (
    sys.executable, "-P", "-c",
    f"import os, sys; sys.path += os.environ[{_PATHS!r}].split(os.pathsep);"
    "from covid_ct_mask_net.app.reader_process import main; main()",
)  # fmt: skip
_CHUNK = 1 << 20
# A reader has to import its libraries before its first answer.
_START_SECONDS = 60
# What is kept of the messages of a reader, bytes.
_LAST_WORDS = 4096
_LINE = 300
_EXCEPTION_NAME = re.compile(r"[A-Za-z_][\w.]{0,80}(Error|Exception|Interrupt)(?=:|$)")
# Time for a process that closed its answers to end, seconds.
_END_SECONDS = 5


class ReaderStartError(CovidCTMaskNetError):
    """Readers do not start, so that no file can be read (exit 70); no file is to blame."""


class ReaderLostError(Exception):
    """The reader ended or took too long; ``sentence`` says which."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class Readers:
    """A pool of reader processes; use it as a context.

    Parameters
    ----------
    limits : Limits
        Bounds on files, memory and time; with ``isolation`` off files are read in this process.
    count : int, optional
        Processes; as many as there are processors, up to 4, if not given.
    command : sequence of str
        Program of a reader.
    """

    def __init__(self, limits: Limits, count: int | None = None, command: tuple[str, ...] = COMMAND) -> None:
        self.limits = limits
        self._command = command
        self._idle: queue.LifoQueue[_Reader | None] = queue.LifoQueue()
        for _ in range(count or min(4, os.cpu_count() or 1)):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that are idle; none is busy when the run is over."""
        with contextlib.suppress(queue.Empty):
            while True:
                reader = self._idle.get_nowait()
                if reader is not None:
                    reader.end()

    def header(self, path: Path, limits: Limits) -> Dataset:
        """Return the header of a file, as ``headers.read`` does.

        Raises
        ------
        FileRefusedError
            As ``headers.read``, and ``READ_CRASH`` if the file ended its reader.
        ReaderStartError
            ``READER_START`` if there is no reader to ask.
        """
        if not limits.isolation:
            return headers.read(path, limits)
        try:
            content = self._ask({"path": str(path)}, HEADER)
        except ReaderLostError as lost:
            raise FileRefusedError("READ_CRASH", f"The header cannot be read. {lost.sentence}") from lost
        return headers.parse(bytes(content), limits)

    def stored_values(self, instance: Instance, limits: Limits, *, frame: int = 0) -> NDArray:
        """Return the stored values of one frame, as ``pixels.stored_values`` does.

        Raises
        ------
        FileRefusedError
            As ``pixels.stored_values``, and ``PIXEL_DECODE`` if the file ended its reader.
        ReaderStartError
            ``READER_START`` if there is no reader to ask.
        """
        if not limits.isolation:
            return pixels.stored_values(instance, limits, frame=frame)
        request: dict[str, str | int] = {
            "path": str(instance.path),
            "size": instance.size,
            "modified": instance.modified,
            "syntax": str(instance.header.file_meta.TransferSyntaxUID),
            "frame": frame,
            "frames": int(instance.header.get("NumberOfFrames") or 1),
        }
        try:
            content = self._ask(request, PIXELS)
        except ReaderLostError as lost:
            raise FileRefusedError("PIXEL_DECODE", f"The pixels cannot be read. {lost.sentence}") from lost
        rows, columns, signed = SHAPE.unpack_from(content)
        expected = (int(instance.header.Rows), int(instance.header.Columns))
        if (rows, columns) != expected or len(content) != SHAPE.size + 2 * rows * columns:
            raise FileRefusedError(
                "PIXEL_DECODE",
                f"The pixels read are {rows} x {columns}; {expected[0]} x {expected[1]} were announced.",
            )
        dtype = np.int16 if signed else np.uint16
        return np.frombuffer(content, dtype, rows * columns, SHAPE.size).reshape(rows, columns)

    @contextlib.contextmanager
    def nifti(self, path: Path, limits: NiftiLimits) -> Iterator[tuple[NiftiImage, Iterator[bytes]]]:
        """Open a NIfTI file, as ``open_nifti`` does; one reader is kept for it until the context ends.

        Raises
        ------
        RefusedInputError
            As ``open_nifti``, and ``NIFTI_UNREADABLE`` if the file ended its reader.
        ReaderStartError
            ``READER_START`` if there is no reader to ask.
        """
        if not self.limits.isolation:
            with open_nifti(path, limits) as opened:
                yield opened
            return
        try:
            with self._reader() as reader:
                image = _described(bytes(reader.answer({"nifti": str(path)}, NIFTI)))
                limits.check(image)
                yield image, _voxels(reader, image)
        except FileRefusedError as refusal:
            raise RefusedInputError(refusal.code, refusal.sentence) from refusal
        except ReaderLostError as lost:
            raise RefusedInputError("NIFTI_UNREADABLE", f"The file cannot be read. {lost.sentence}") from lost

    def _ask(self, request: dict[str, str | int], kind: bytes) -> memoryview:
        with self._reader() as reader:
            return reader.answer(request, kind)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[_Reader]:
        """Give a reader to one thread; one that is lost is ended, and the next to ask starts another."""
        reader = self._idle.get()
        try:
            if reader is None:
                reader = _Reader(self._command, self.limits)
            yield reader
        except ReaderLostError as lost:
            logger.warning("%s A new one takes its place.", lost.sentence)
            if reader is not None:
                reader.end()
            reader = None
            raise
        finally:
            self._idle.put(reader)


class _Reader:
    """One process and the pipes to it; made when the process says that it is ready."""

    def __init__(self, command: tuple[str, ...], limits: Limits) -> None:
        self._limits = limits
        self._words = bytearray()
        try:
            # The program is this interpreter, started without a shell.
            self._process = subprocess.Popen(  # noqa: S603
                [*command, json.dumps(dataclasses.asdict(limits))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise _not_started(f"{command[0] or 'the interpreter'}: {error.strerror}") from error
        try:
            answer = self._answer(time.monotonic() + _START_SECONDS, f"was not ready in {_START_SECONDS} s")
        except ReaderLostError as lost:
            self.end()
            # No file was read yet: the message is Python's and holds no patient data.
            raise _not_started(self._last_line() or lost.sentence) from lost
        if answer != READY:
            self.end()
            raise _not_started("it answered before it was asked")

    def answer(self, request: dict[str, str | int], kind: bytes) -> memoryview:
        """Return the answer to one request, without its kind.

        Raises
        ------
        FileRefusedError
            If the file is refused.
        ReaderLostError
            If there is no answer in time, or one of another kind.
        """
        answer = self.ask(json.dumps(request).encode())
        if answer[:1] == REFUSED:
            code, sentence, *study = json.loads(bytes(answer[1:]))
            # A reader that was taken over may say anything.
            told = study and isinstance(study[0], str) and headers.is_uid(study[0])
            raise FileRefusedError(code, sentence, study[0] if told else None)
        if answer[:1] != kind:
            raise ReaderLostError("The reader answered something else than it was asked.")
        return answer[1:]

    def ask(self, request: bytes) -> memoryview:
        """Return the answer to one request.

        Raises
        ------
        ReaderLostError
            If there is none in time.
        """
        seconds = self._limits.read_seconds
        deadline = time.monotonic() + seconds
        try:
            self._stdin.write(LENGTH.pack(len(request)) + request)
            self._stdin.flush()
        except OSError as error:
            raise ReaderLostError(f"The reader {self._how_it_ended()} before it was asked.") from error
        return self._answer(deadline, f"took longer than {seconds} s (read_seconds) and was ended")

    def end(self) -> None:
        """Kill the process and close the pipes to it."""
        self._process.kill()
        self._drain()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    @property
    def _stdin(self) -> IO[bytes]:
        return _present(self._process.stdin)

    @property
    def _stdout(self) -> IO[bytes]:
        return _present(self._process.stdout)

    @property
    def _stderr(self) -> IO[bytes]:
        return _present(self._process.stderr)

    def _answer(self, deadline: float, too_late: str) -> memoryview:
        (length,) = LENGTH.unpack(self._receive(LENGTH.size, deadline, too_late))
        # Largest honest answer: a header, or one frame of 16-bit values.
        if length > max(self._limits.header_bytes, 2 * self._limits.maximum_side**2) + 64:
            raise ReaderLostError("The reader answered more than a file may hold.")
        return memoryview(self._receive(length, deadline, too_late))

    def _receive(self, length: int, deadline: float, too_late: str) -> bytearray:
        content = bytearray(length)
        view, filled = memoryview(content), 0
        while filled < length:
            # Messages are taken too: a process whose messages nobody takes stops when the pipe is full.
            pipes = [self._stdout] if self._stderr.closed else [self._stdout, self._stderr]
            ready = select.select(pipes, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise ReaderLostError(f"The reader {too_late}.")
            if self._stdout not in ready:
                self._take_words()
                continue
            count = os.readv(self._stdout.fileno(), [view[filled : filled + _CHUNK]])
            if count == 0:
                raise ReaderLostError(f"The reader {self._how_it_ended()}.")
            filled += count
        return content

    def _take_words(self) -> bool:
        """Keep the end of what the process says; False when it has said all."""
        words = os.read(self._stderr.fileno(), _CHUNK)
        self._words = (self._words + words)[-_LAST_WORDS:]
        if not words:
            self._stderr.close()
        return bool(words)

    def _drain(self) -> None:
        while not self._stderr.closed and select.select([self._stderr], [], [], 0)[0] and self._take_words():
            pass

    def _last_line(self) -> str:
        lines = self._words.decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:_LINE] if lines else ""

    def _how_it_ended(self) -> str:
        """Return what is known of the end, without anything that a file could have put there."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._drain()
        code = self._process.returncode
        if code is None:
            return "closed its answers"
        if code < 0:
            return f"ended unexpectedly ({_signal_name(-code)})"
        # The message after the name may quote the file.
        name = _EXCEPTION_NAME.match(self._last_line())
        return f"ended unexpectedly (exit code {code}{', ' + name.group() if name else ''})"


def _described(content: bytes) -> NiftiImage:
    """Return the header that a reader found, which may be taken over: only numbers come out of it."""
    try:
        values = json.loads(content)
        first, second, third = (int(size) for size in values["shape"])
        dtype = np.dtype(str(values["dtype"]))
        slope, intercept = (
            None if values[key] is None else float(values[key]) for key in ("slope", "intercept")
        )
        affine = np.asarray(values["affine"], dtype=np.float64)
        sound = affine.shape == (4, 4) and min(first, second, third) > 0 and dtype.kind in "iuf"
    except (ValueError, TypeError, KeyError) as error:
        raise ReaderLostError("The reader answered something else than it was asked.") from error
    if not sound or abs(np.linalg.det(affine[:3, :3])) == 0.0 or not np.isfinite(affine).all():
        raise ReaderLostError("The reader answered something else than it was asked.")
    return NiftiImage((first, second, third), dtype.str, slope, intercept, affine)


def _voxels(reader: _Reader, image: NiftiImage) -> Iterator[bytes]:
    left = image.size
    while piece := bytes(reader.answer({"nifti": ""}, NIFTI)):
        left -= len(piece)
        if left < 0:
            raise ReaderLostError("The reader answered more than the file may hold.")
        yield piece
    if left:
        raise ReaderLostError("The reader answered less than the file holds.")


def _environment() -> dict[str, str]:
    """Return the variables of a reader, which finds packages where this process found them.

    They need not be installed for everybody: in a MAP this package lies beside the program and the others in
    the home folder of the image's user, and ``HOME`` is another one by now (see ``process_user``).
    """
    package = Path(__file__).resolve().parents[1]
    found = [str(package.parent)] if (package / "__init__.py").is_file() else []
    found += [path for path in sys.path if Path(path).is_absolute() and Path(path) != Path.cwd()]
    return {
        **os.environ,
        _PATHS: os.pathsep.join(found),
        # Threads of numerical libraries reserve address space, of which a reader has little.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _not_started(reason: str) -> ReaderStartError:
    return ReaderStartError(
        "READER_START",
        f"The process that reads files does not start ({reason.rstrip('.')}). No file can be read until it "
        "does; check the installation.",
    )


def _present(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("The reader was started without this pipe.")
    return pipe


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
