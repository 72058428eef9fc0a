"""Every way the product declines, each with a reason code and the exit code of the command line.

A message is a sentence for the user: what was found, what was expected, where, and what to do. It never
holds patient data (names, ids, dates, free text of DICOM attributes).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """Exit codes of the command line; with several studies the worst one is returned."""

    DONE = 0
    USAGE = 2
    NOTHING_ASSESSABLE = 3
    REFUSED_INPUT = 4
    UNTRUSTED_MODEL = 5
    OUTPUT_FAILED = 6
    INTERNAL = 70


class CovidCTMaskNetError(Exception):
    """Base of all expected failures.

    Parameters
    ----------
    code : str
        Reason code in capitals, for example ``"NO_DICOM"``; stable, for programs.
    sentence : str
        The reason in words, for people.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how an error is made again: it crosses processes, and is copied, with all that it holds."""
        return _remade, (type(self), self.args), dict(self.__dict__)


def _remade(kind: type[CovidCTMaskNetError], arguments: tuple[Any, ...]) -> CovidCTMaskNetError:
    """Return an error without its ``__init__``, which subclasses may give arguments of their own."""
    return kind.__new__(kind, *arguments)


def expected_cause(error: BaseException) -> CovidCTMaskNetError | None:
    """Return the expected failure that lies behind an exception, or None.

    MONAI wraps what a transform or a configuration entry raises into a RuntimeError of its own.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, CovidCTMaskNetError):
        cause = cause.__cause__
    return cause


class UsageError(CovidCTMaskNetError):
    """Wrong arguments, settings or configuration (exit 2)."""

    exit_code = ExitCode.USAGE


class NotAssessableError(CovidCTMaskNetError):
    """Input was read but cannot be given a class (exit 3); an explicit result says so."""

    exit_code = ExitCode.NOTHING_ASSESSABLE


class RefusedInputError(CovidCTMaskNetError):
    """Input breaks a limit or a safety rule and was not processed (exit 4)."""

    exit_code = ExitCode.REFUSED_INPUT


class UntrustedModelError(CovidCTMaskNetError):
    """Weights or bundle are missing, unlisted, altered or do not fit (exit 5)."""

    exit_code = ExitCode.UNTRUSTED_MODEL


class OutputError(CovidCTMaskNetError):
    """Results could not be written; nothing partial is left (exit 6)."""

    exit_code = ExitCode.OUTPUT_FAILED
