"""Graphs kept on disk under what they depend on; where that cannot be, in memory."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops
from torch import nn

from covid_ct_mask_net.engines import cache
from covid_ct_mask_net.engines.cache import GraphCache, cache_folder, network_key
from covid_ct_mask_net.engines.runtime import CORE


class _Builder:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> ov.Model:
        self.calls += 1
        x = ops.parameter([1, 2], np.float32)
        return ov.Model([ops.add(x, ops.constant(np.asarray([[0.1, 3.0]], np.float32)))], [x], "sum")


def _unwanted() -> ov.Model:
    pytest.fail("the graph is on disk")


def _answer(model: ov.Model) -> list[float]:
    return CORE.compile_model(model, "CPU")([np.ones((1, 2), np.float32)])[0][0].tolist()


def test_a_graph_is_built_once_and_read_back_exactly(tmp_path: Path) -> None:
    build = _Builder()
    first = GraphCache(tmp_path / "new").graph("key", build)
    second = GraphCache(tmp_path / "new").graph("key", build)
    assert build.calls == 1
    assert _answer(first) == _answer(second)
    GraphCache(tmp_path / "new").graph("other", build)
    assert build.calls == 2
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "key.bin", "key.sha256", "key.xml", "other.bin", "other.sha256", "other.xml",
    ]  # fmt: skip


def test_a_damaged_graph_is_built_again(tmp_path: Path) -> None:
    build = _Builder()
    GraphCache(tmp_path).graph("key", build)
    (tmp_path / "key.xml").write_text("<net", encoding="utf-8")
    assert _answer(GraphCache(tmp_path).graph("key", build)) == pytest.approx([1.1, 4.0])
    assert build.calls == 2
    GraphCache(tmp_path).graph("key", build)
    assert build.calls == 2, "what was built again was kept"


@pytest.mark.parametrize("name", ["key.bin", "key.xml", "key.sha256"])
def test_one_byte_that_is_not_as_it_was_written_is_found(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenVINO reads weights without a check: the network would compute other numbers, unseen."""
    build = _Builder()
    GraphCache(tmp_path).graph("key", build)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert _answer(GraphCache(tmp_path).graph("key", build)) == pytest.approx([1.1, 4.0])
    assert build.calls == 2
    assert "not as it was written" in caplog.text
    caplog.clear()
    assert _answer(GraphCache(tmp_path).graph("key", build)) == pytest.approx([1.1, 4.0])
    assert build.calls == 2, "what was built again was kept"
    assert not caplog.text


@pytest.mark.parametrize("name", ["key.bin", "key.xml", "key.sha256"])
def test_half_a_graph_is_built_again(name: str, tmp_path: Path) -> None:
    build = _Builder()
    GraphCache(tmp_path).graph("key", build)
    (tmp_path / name).unlink()
    GraphCache(tmp_path).graph("key", build)
    assert build.calls == 2
    assert (tmp_path / name).is_file()


def test_a_graph_is_on_disk_ahead_of_its_name_and_its_hashes_come_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    flush, replace = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        events.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        flush(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        events.append(f"rename {path.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", replaced)
    GraphCache(tmp_path / "made").graph("key", _Builder())
    names = ["key.bin", "key.xml", "key.sha256"]
    assert events == [*(f"flush {n}" for n in names), *(f"rename {n}" for n in names), "flush made"]


def test_what_killed_writers_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    for name, age in (("dead", 7200), ("alive", 60)):
        partial = tmp_path / f".partial-{name}"
        partial.mkdir()
        (partial / "key.bin").write_bytes(b"half")
        os.utime(partial, (time.time() - age,) * 2)
    GraphCache(tmp_path).graph("key", _Builder())
    assert [path.name for path in tmp_path.glob(".partial-*")] == [".partial-alive"]


DAY = 24 * 3600


def _aged(folder: Path, stem: str, days: float) -> None:
    for path in folder.glob(f"{stem}*"):
        os.utime(path, (time.time() - days * DAY,) * 2, follow_symlinks=False)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _graph_files(*keys: str) -> set[str]:
    return {f"{key}{suffix}" for key in keys for suffix in (".bin", ".sha256", ".xml")}


def test_a_graph_that_nobody_used_for_long_goes_when_another_is_stored(tmp_path: Path) -> None:
    keys = {name: name * 64 for name in "abcdef"}
    for key in keys.values():
        GraphCache(tmp_path).graph(key, _Builder())
    for name, days in (("a", 31), ("b", 29), ("c", 40), ("d", 40), ("e", 40)):
        _aged(tmp_path, keys[name], days)
    # Left half by a process that was killed while it forgot; and by a damaged disk.
    (tmp_path / f"{keys['e']}.bin").unlink()
    (tmp_path / f"{keys['f']}.xml").unlink()
    read = GraphCache(tmp_path).graph(keys["c"], _unwanted)
    assert _names(tmp_path) >= _graph_files(*(keys[name] for name in "abcd")), "reading removes nothing"
    GraphCache(tmp_path).graph("0" * 64, _Builder())
    kept = _graph_files("0" * 64, keys["b"], keys["c"], keys["f"]) - {f"{keys['f']}.xml"}
    assert _names(tmp_path) == kept
    _aged(tmp_path, keys["c"], 40)
    GraphCache(tmp_path).graph("1" * 64, _Builder())
    assert f"{keys['c']}.bin" not in _names(tmp_path)
    assert _answer(read) == pytest.approx([1.1, 4.0]), "who has read a graph keeps it"


def test_of_many_graphs_those_used_last_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for minutes, name in enumerate("cab", start=1):
        GraphCache(tmp_path).graph(name * 64, _Builder())
        _aged(tmp_path, name * 64, minutes / (24 * 60))
    size = sum((tmp_path / ("a" * 64)).with_suffix(suffix).stat().st_size for suffix in (".bin", ".xml"))
    monkeypatch.setattr(cache, "_KEPT_BYTES", 2 * size)
    GraphCache(tmp_path).graph("0" * 64, _Builder())
    assert _names(tmp_path) == _graph_files("0" * 64, "c" * 64)
    monkeypatch.setattr(cache, "_KEPT_BYTES", 0)
    GraphCache(tmp_path).graph("1" * 64, _Builder())
    assert _names(tmp_path) == _graph_files("1" * 64), "the one just stored stays"


def test_what_is_not_ours_stays_in_the_folder_however_old(tmp_path: Path) -> None:
    GraphCache(tmp_path).graph("a" * 64, _Builder())
    for suffix in (".bin", ".xml", ".sha256"):
        content = (tmp_path / f"{'a' * 64}{suffix}").read_bytes()
        (tmp_path / f"model{suffix}").write_bytes(content.replace(b"a" * 64, b"model"))
        (tmp_path / f"{'b' * 64}{suffix}").write_bytes(content)
    (tmp_path / f"{'c' * 64}.bin").write_bytes(b"blob")
    (tmp_path / f"{'d' * 64}.sha256").write_bytes(b"\xff\xfe")
    (tmp_path / f"{'e' * 64}.sha256").mkdir()
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    others = _names(tmp_path) - _graph_files("a" * 64)
    _aged(tmp_path, "", 400)
    GraphCache(tmp_path).graph("0" * 64, _Builder())
    assert _names(tmp_path) == others | _graph_files("0" * 64)


def test_a_graph_that_cannot_be_removed_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GraphCache(tmp_path).graph("a" * 64, _Builder())
    _aged(tmp_path, "a", 40)
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.stem == "a" * 64:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    assert _answer(GraphCache(tmp_path).graph("0" * 64, _Builder())) == pytest.approx([1.1, 4.0])
    assert _names(tmp_path) == _graph_files("a" * 64, "0" * 64)


def test_those_who_forget_each_other_s_graphs_meanwhile_build_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_KEPT_BYTES", 0)

    def work(turn: int) -> list[float]:
        return _answer(GraphCache(tmp_path).graph("abc"[turn % 3] * 64, _Builder()))

    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(work, range(24)):
            assert answer == pytest.approx([1.1, 4.0])


def test_without_a_place_graphs_are_built_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    build = _Builder()
    for folder in (None, tmp_path / "file" / "folder"):
        assert _answer(GraphCache(folder).graph("key", build)) == pytest.approx([1.1, 4.0])
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


def test_the_key_follows_the_packages_and_the_code_that_graphs_are_made_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = nn.Linear(2, 2)
    keys = {network_key(layer)}
    for package in ("openvino", "nncf", "numpy", "scipy", "torch"):
        with monkeypatch.context() as patch:
            real = metadata.version
            patch.setattr(metadata, "version", lambda name, p=package, r=real: "0" if name == p else r(name))
            cache._versions.cache_clear()
            keys.add(network_key(layer))
    cache._versions.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_code_sha256", lambda: "other")
        keys.add(network_key(layer))
    assert len(keys) == 7


def test_a_package_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_PACKAGES", ("no-such-package",))
    cache._versions.cache_clear()
    assert cache._versions() == ("no-such-package missing",)
    cache._versions.cache_clear()


def test_the_code_that_graphs_follow_from_is_all_that_the_compiler_uses() -> None:
    """A module that programs.py takes numbers from changes the key when it changes."""
    folder = Path(cache.__file__).parent
    used = set(re.findall(r"covid_ct_mask_net\.engines\.(\w+) import", (folder / "programs.py").read_text()))
    assert used | {"graph", "programs"} == {*cache.GRAPH_CODE, "base", "cache", "runtime"}
    assert all((folder / f"{name}.py").is_file() for name in cache.GRAPH_CODE)
