"""A quicker start: what MONAI imports for others stays out of a process that triages and ends.

``import monai`` imports everything in its namespace and, for each part, the optional packages that it finds:
MONAI Deploy with Holoscan and CuPy, ignite with distributed tensors, matplotlib, statistics of SciPy. None of
them computes anything of a triage, and together they take half of the time of its start.

MONAI sees once, at its import, whether a package is there. So this is for processes of our own alone
(``allow``), never for one that imports us.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

LEFT_OUT = (
    "monai.deploy",
    "clearml",
    "cucim",
    "cupy",
    "holoscan",
    "ignite",
    "itk",
    "matplotlib",
    "mlflow",
    "pandas",
    "rfc3987_syntax",
    "scipy.signal",
    "scipy.stats",
    "skimage",
    "sklearn",
    "tensorboard",
    "tensorboardX",
)
"""Modules that are not imported; each can be imported afterwards."""

_allowed = False


def allow() -> None:
    """Say that this process is a program of ours."""
    global _allowed
    _allowed = True


@contextmanager
def lean_imports() -> Iterator[None]:
    """Import in this context what a triage needs; without ``allow``, or beside MONAI, nothing is changed."""
    if not _allowed or "monai" in sys.modules:
        yield
        return
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    absent = [name for name in LEFT_OUT if name not in modules]
    # What is None here cannot be imported.
    modules.update(dict.fromkeys(absent))
    stand_ins = _dynamo_stand_ins()
    modules.update(stand_ins)
    # Imports make no garbage, but many objects: nothing to collect.
    gc.disable()
    try:
        yield
    finally:
        for name in absent:
            if name in modules and modules[name] is None:
                del modules[name]
        for name, stand_in in stand_ins.items():
            if modules.get(name) is stand_in:
                del modules[name]
        # Modules stay to the end: later collections need not look through them again.
        gc.freeze()
        gc.enable()


def _dynamo_stand_ins() -> dict[str, ModuleType]:
    """Return what stands for PyTorch's compiler while torchvision takes one function of it.

    The function is called where torchvision's operators are missing or must be deterministic on a GPU; then
    it asks the compiler itself.
    """
    names = ("torch._dynamo", "torch._dynamo.utils")
    if any(name in sys.modules for name in names):
        return {}
    package, utils = (ModuleType(name) for name in names)
    package.__path__ = []
    utils.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    return dict(zip(names, (package, utils), strict=True))


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))
