"""Graphs kept on disk under what they depend on; where that cannot be, in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from torch import nn

from covid_ct_mask_net.engines import cache
from covid_ct_mask_net.engines.cache import GraphCache, cache_folder, network_key


class _Builder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> ov.Model:
        self.calls += 1
        x = ops.parameter([1, 2], np.float32)
        return ov.Model([ops.add(x, ops.constant(np.asarray([[0.1, 3.0]], np.float32)))], [x], "sum")


def _answer(model: ov.Model) -> list[float]:
    return ov.Core().compile_model(model, "CPU")([np.ones((1, 2), np.float32)])[0][0].tolist()


def test_a_graph_is_built_once_and_read_back_exactly(tmp_path: Path) -> None:
    build = _Builder()
    first = GraphCache(tmp_path / "new").graph("key", build, ov.Core())
    second = GraphCache(tmp_path / "new").graph("key", build, ov.Core())
    assert build.calls == 1
    assert _answer(first) == _answer(second)
    GraphCache(tmp_path / "new").graph("other", build, ov.Core())
    assert build.calls == 2
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "key.bin", "key.xml", "other.bin", "other.xml",
    ]  # fmt: skip


def test_a_damaged_graph_is_built_again(tmp_path: Path) -> None:
    build = _Builder()
    GraphCache(tmp_path).graph("key", build, ov.Core())
    (tmp_path / "key.xml").write_text("<net", encoding="utf-8")
    assert _answer(GraphCache(tmp_path).graph("key", build, ov.Core())) == pytest.approx([1.1, 4.0])
    assert build.calls == 2
    GraphCache(tmp_path).graph("key", build, ov.Core())
    assert build.calls == 2, "what was built again was kept"


def test_without_a_place_graphs_are_built_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    build = _Builder()
    for folder in (None, tmp_path / "file" / "folder"):
        assert _answer(GraphCache(folder).graph("key", build, ov.Core())) == pytest.approx([1.1, 4.0])
    assert build.calls == 2


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder("none") is None
    assert cache_folder("/some/where") == Path("/some/where")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("") == tmp_path / "covid-ct-mask-net"
    monkeypatch.setattr(cache.os, "access", lambda *_: False)
    assert cache_folder(None) is None, "read-only"
    monkeypatch.undo()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert cache_folder(None) is None


def test_the_key_follows_weights_and_parts() -> None:
    layer = nn.Linear(2, 2)
    key = network_key(layer, "a")
    assert key == network_key(layer, "a")
    assert key != network_key(layer, "b")
    layer.state_dict()["weight"].add_(1e-3)
    assert key != network_key(layer, "a")
