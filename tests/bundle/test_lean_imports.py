"""The quick start: only in processes of our own, and nothing is lost for later."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, json, sys
from covid_ct_mask_net import lean_imports
if {allowed}:
    lean_imports.allow()
with lean_imports.lean_imports():
    import covid_ct_mask_net.pipeline
loaded = [name for name in (*lean_imports.LEFT_OUT, "torch._dynamo") if name in sys.modules]
import torch, torchvision.ops
module = sys.modules["torchvision.ops.roi_align"]
assert module.is_compile_supported("cpu") in (True, False)
assert len(torch._dynamo.__path__) == 1
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item() == 2
import ignite.engine, matplotlib.pyplot, scipy.stats
print(json.dumps([loaded, gc.isenabled(), ignite.engine.Engine.__name__]))
"""


def _started(*, allowed: bool) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(allowed=allowed)],
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_a_program_of_ours_starts_without_them_and_can_import_them_later() -> None:
    assert _started(allowed=True) == '[[], true, "Engine"]'


def test_a_process_of_others_is_left_as_it_is() -> None:
    assert '"ignite"' in _started(allowed=False)


def test_beside_monai_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    from covid_ct_mask_net import lean_imports

    monkeypatch.setattr(lean_imports, "_allowed", True)
    monkeypatch.setitem(sys.modules, "monai", sys.modules.get("monai", sys))
    before = dict(sys.modules)
    with lean_imports.lean_imports():
        assert dict(sys.modules) == before
