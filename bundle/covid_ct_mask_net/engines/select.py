"""The engine of a name: what a configuration or the command line asks for."""

from __future__ import annotations

from typing import TypeVar

import torch

from covid_ct_mask_net.engines.base import (
    CPU_PACKAGES,
    INT8_PACKAGES,
    Engine,
    EngineName,
    Precision,
    has_bfloat16,
    missing_packages,
    require_packages,
    worker_count,
)
from covid_ct_mask_net.engines.batched import BatchedEngine
from covid_ct_mask_net.engines.torch_engine import TorchEngine
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector

_Choice = TypeVar("_Choice", EngineName, Precision)


def build_engine(
    detector: LesionDetector,
    classifier: CovidCTMaskNet,
    min_score: float,
    *,
    name: str = EngineName.AUTO,
    device: torch.device | str = "cpu",
    precision: str = Precision.AUTO,
    workers: int = 0,
    cache: str | None = None,
    batch: int = 0,
) -> Engine:
    """Return both networks as an engine.

    Parameters
    ----------
    detector, classifier
        The networks, in test mode.
    min_score : float
        Detections below are not outlined.
    name : str
        ``auto``, ``torch``, ``exact`` or ``fast``. Auto is torch on a GPU and exact on a CPU; where the
        packages of exact are not installed it is torch, and the report says so.
    device : torch.device or str
        On a GPU exact and fast are `BatchedEngine`, on a CPU `CompiledEngine`.
    precision : str
        Of ``fast``: ``bfloat16``, ``int8`` (on a CPU), or ``auto`` for bfloat16 where the processor has it.
    workers : int
        Slices computed at a time on a CPU; 0 for one a core that this process may use. The result does not
        depend on it.
    cache : str, optional
        Folder for compiled graphs, ``"none"`` for no cache; the user's cache folder if not given.
    batch : int
        Slices that the engine will be given together, 0 if that is not known; bounds the workers of a CPU.

    Raises
    ------
    UsageError
        ``ENGINE`` for an unknown name or precision or one that does not fit the device, ``ENGINE_MISSING`` if
        packages are missing.
    """
    engine = _member(EngineName, name, "engine")
    chosen = _member(Precision, precision, "precision")
    device = torch.device(device)
    note = ""
    if engine is EngineName.AUTO:
        engine, note = _automatic(device)
    if engine is EngineName.TORCH:
        return TorchEngine(detector, classifier, min_score, device, note)
    if engine is EngineName.EXACT and chosen not in (Precision.AUTO, Precision.FLOAT32):
        raise UsageError(
            "ENGINE", f"Engine exact computes in float32, but {chosen.value} was asked for; choose fast."
        )
    if device.type != "cpu":
        if engine is EngineName.FAST and chosen not in (Precision.AUTO, Precision.BFLOAT16):
            raise UsageError(
                "ENGINE",
                f"Engine fast computes in bfloat16 on {device.type}, but {chosen.value} was asked for; "
                "choose bfloat16, or the device cpu.",
            )
        return BatchedEngine(detector, classifier, min_score, name=engine, device=device)
    require_packages(engine.value, CPU_PACKAGES)
    return _compiled(detector, classifier, min_score, engine, chosen, worker_count(workers, batch), cache)


def _compiled(
    detector: LesionDetector,
    classifier: CovidCTMaskNet,
    min_score: float,
    engine: EngineName,
    precision: Precision,
    workers: int,
    cache: str | None,
) -> Engine:
    # OpenVINO and numba are optional for the bundle and take half a second to import.
    from covid_ct_mask_net.engines.cache import GraphCache, cache_folder
    from covid_ct_mask_net.engines.compiled import CompiledEngine

    rest = Precision.FLOAT32
    if engine is EngineName.EXACT:
        precision = Precision.FLOAT32
    else:
        rest = Precision.BFLOAT16 if has_bfloat16() else Precision.FLOAT32
        precision = _fast_precision(precision)
    return CompiledEngine(
        detector, classifier, min_score, name=engine, precision=precision, rest=rest,
        workers=workers, cache=GraphCache(cache_folder(cache)),
    )  # fmt: skip


def _automatic(device: torch.device) -> tuple[EngineName, str]:
    if device.type != "cpu":
        return EngineName.TORCH, ""
    missing = missing_packages(CPU_PACKAGES)
    if not missing:
        return EngineName.EXACT, ""
    return EngineName.TORCH, f"engine exact is not available: {' and '.join(missing)} not installed"


def _fast_precision(precision: Precision) -> Precision:
    if precision is Precision.FLOAT32:
        raise UsageError("ENGINE", "Engine fast does not compute in float32; choose bfloat16, int8 or exact.")
    if precision is Precision.BFLOAT16 and not has_bfloat16():
        raise UsageError("ENGINE", "This processor does not multiply bfloat16; choose int8 or exact.")
    if precision is Precision.AUTO:
        precision = Precision.BFLOAT16 if has_bfloat16() else Precision.INT8
    if precision is Precision.INT8:
        require_packages("fast in int8", INT8_PACKAGES)
    return precision


def _member(kind: type[_Choice], value: str, what: str) -> _Choice:
    try:
        return kind(value)
    except ValueError as error:
        allowed = ", ".join(member.value for member in kind)
        raise UsageError("ENGINE", f"The {what} is {value!r}, but must be one of {allowed}.") from error
