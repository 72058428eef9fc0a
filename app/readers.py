"""Untrusted files are parsed and decoded in processes of their own, bounded in memory and time.

A file that crashes or hangs its reader is refused; the reader is replaced and the run goes on. Readers live
as long as the run, so that their start is paid once, and end with it, whatever ends it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers, pixels
from covid_ct_mask_net.app.headers import FileRefusedError
from covid_ct_mask_net.app.intake import Instance
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.reader_process import HEADER, LENGTH, PIXELS, REFUSED, SHAPE

# -P: a module of the same name in the working folder, perhaps an input, is not imported.
COMMAND = (sys.executable, "-P", "-m", "covid_ct_mask_net.app.reader_process")
_CHUNK = 1 << 20
# A reader has to import its libraries before its first answer.
_START_SECONDS = 60


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
        """
        if not limits.isolation:
            return pixels.stored_values(instance, limits, frame=frame)
        request: dict[str, str | int] = {
            "path": str(instance.path),
            "size": instance.size,
            "modified": instance.modified,
            "syntax": str(instance.header.file_meta.TransferSyntaxUID),
            "frame": frame,
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

    def _ask(self, request: dict[str, str | int], kind: bytes) -> memoryview:
        reader = self._idle.get()
        try:
            if reader is None:
                reader = _Reader(self._command, self.limits)
            answer = reader.ask(json.dumps(request).encode())
        except ReaderLostError:
            if reader is not None:
                reader.end()
            reader = None
            raise
        finally:
            self._idle.put(reader)
        if answer[:1] == REFUSED:
            code, sentence = json.loads(bytes(answer[1:]))
            raise FileRefusedError(code, sentence)
        if answer[:1] != kind:
            raise ReaderLostError("The reader answered something else than it was asked.")
        return answer[1:]


class _Reader:
    """One process and the pipes to it."""

    def __init__(self, command: tuple[str, ...], limits: Limits) -> None:
        self._limits = limits
        self._first = True
        # Threads of numerical libraries reserve address space, of which a reader has little.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        package = Path(__file__).resolve().parents[1]
        if (package / "__init__.py").is_file():
            # A package that is not installed, as in a MAP: the reader finds it where this process did.
            environment["PYTHONPATH"] = str(package.parent)
        # The program is this interpreter, started without a shell.
        self._process = subprocess.Popen(  # noqa: S603
            [*command, json.dumps(dataclasses.asdict(limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    def ask(self, request: bytes) -> memoryview:
        stdin = self._process.stdin
        if stdin is None:
            raise ReaderLostError("The reader has no input.")
        seconds = self._limits.read_seconds + (_START_SECONDS if self._first else 0)
        deadline = time.monotonic() + seconds
        try:
            stdin.write(LENGTH.pack(len(request)) + request)
            stdin.flush()
        except OSError as error:
            raise ReaderLostError("The reader ended before it was asked.") from error
        (length,) = LENGTH.unpack(self._receive(LENGTH.size, deadline))
        # Largest honest answer: a header, or one frame of 16-bit values.
        if length > max(self._limits.header_bytes, 2 * self._limits.maximum_side**2) + 64:
            raise ReaderLostError("The reader answered more than a file may hold.")
        content = self._receive(length, deadline)
        self._first = False
        return memoryview(content)

    def _receive(self, length: int, deadline: float) -> bytearray:
        stdout = self._process.stdout
        if stdout is None:
            raise ReaderLostError("The reader has no output.")
        content = bytearray(length)
        view, filled = memoryview(content), 0
        while filled < length:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                raise ReaderLostError(
                    f"The reader took longer than {self._limits.read_seconds} s (read_seconds) and was ended."
                )
            count = os.readv(stdout.fileno(), [view[filled : filled + _CHUNK]])
            if count == 0:
                raise ReaderLostError("The reader ended unexpectedly.")
            filled += count
        return content

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()
