"""What every engine is: a `SliceModel` that says how it computes."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager
from enum import StrEnum

import torch

from covid_ct_mask_net.engines.cores import usable_cores
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.slice_model import SliceModel
from covid_ct_mask_net.results import EngineReport

# What the engines of a CPU import, in the versions that were checked (requirements.txt).
CPU_PACKAGES = ("openvino", "numba")
INT8_PACKAGES = ("nncf",)
EXTRA = "engines"
FAST_NOTE = "its numbers are not those of float32; use it with weights whose head S was trained for it"


class EngineName(StrEnum):
    """Engines that can be asked for; ``auto`` takes torch on a GPU and exact on a CPU."""

    AUTO = "auto"
    TORCH = "torch"
    EXACT = "exact"
    FAST = "fast"


class Precision(StrEnum):
    """Number format of the convolutions; ``auto`` is the best one that the device has."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


class Engine(SliceModel):
    """Both networks over slices, computed in one of several ways; same answer, other speed.

    An engine is called like `SliceModel` and holds its networks under the same names. Its ``report`` says how
    it computes.
    """

    report: EngineReport

    def warm(self) -> None:
        """Do ahead of the first slice what it would wait for; results do not depend on it."""


def missing_packages(packages: tuple[str, ...]) -> list[str]:
    """Return which of these packages are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def require_packages(engine: str, packages: tuple[str, ...]) -> None:
    """Refuse an engine whose packages are not installed.

    Raises
    ------
    UsageError
        ``ENGINE_MISSING``; names the packages and what to install.
    """
    missing = missing_packages(packages)
    if missing:
        raise UsageError(
            "ENGINE_MISSING",
            f"Engine {engine} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'covid-ct-mask-net[{EXTRA}]', or choose engine torch.",
        )


def worker_count(requested: int, batch: int = 0) -> int:
    """Return how many slices are computed at a time: as asked, or one a core for 0.

    Parameters
    ----------
    requested : int
    batch : int
        Slices that are handed over together, 0 if that is not known: further workers would be idle.

    Raises
    ------
    UsageError
        For a negative number.
    """
    if requested < 0:
        raise UsageError("SETTING", f"workers is {requested}, but must be 0 (one a core) or more.")
    if requested:
        return requested
    return min(usable_cores(), batch) if batch > 0 else usable_cores()


def whole_float32() -> AbstractContextManager[None]:
    """Return what keeps cuDNN from computing convolutions in TF32, as it does if nobody says otherwise.

    TF32 has ten bits of a number instead of 23.
    """
    cudnn = torch.backends.cudnn
    # What is not named here would be set to its default.
    kept: AbstractContextManager[None] = cudnn.flags(
        enabled=cudnn.enabled,
        benchmark=cudnn.benchmark,
        deterministic=cudnn.deterministic,
        allow_tf32=False,
    )
    return kept


def has_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16 in hardware."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
