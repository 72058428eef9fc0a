"""How a program ends: one exit code and one line for all that is expected, and one for defects."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from covid_ct_mask_net.errors import CovidCTMaskNetError, ExitCode

INTERRUPTED = 130
NO_MEMORY = (
    "The memory of this computer does not suffice for the work; end other programs, allow the process or "
    "container more memory, or let fewer slices be computed at a time (engine_workers in inference.yaml)."
)


def exit_code(work: Callable[[], int], *, debug: bool, advice: str) -> int:
    """Do the work of a program and return its exit code; nothing that the work raises escapes.

    Parameters
    ----------
    work : callable
        Returns the exit code.
    debug : bool
        Whether a defect shows its traceback, which may name paths.
    advice : str
        How to report a defect, as a sentence.
    """
    try:
        return int(work())
    except CovidCTMaskNetError as error:
        sys.stderr.write(f"{error.code}: {error.sentence}\n")
        return int(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; results of studies that were finished are complete.\n")
        return INTERRUPTED
    # Whatever else happens is a defect.
    except Exception as error:
        if lacks_memory(error):
            sys.stderr.write(f"OUT_OF_MEMORY: {NO_MEMORY}\n")
            return int(ExitCode.INTERNAL)
        if debug:
            traceback.print_exc()
        sys.stderr.write(
            f"INTERNAL: The command stopped with {type(error).__name__}; this is a defect of the software. "
            f"{advice}\n"
        )
        return int(ExitCode.INTERNAL)


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an exception, or what it was raised from, is that memory could not be had."""
    cause: BaseException | None = error
    while cause is not None:
        # Torch has no class of its own for the memory of the CPU.
        if isinstance(cause, MemoryError) or "DefaultCPUAllocator" in str(cause):
            return True
        cause = cause.__cause__
    return False
