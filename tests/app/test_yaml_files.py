"""YAML files of users: plain values, or one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from covid_ct_mask_net.app.yaml_files import read_mapping
from covid_ct_mask_net.errors import UsageError


def read(tmp_path: Path, content: bytes) -> dict[str, object]:
    file = tmp_path / "file.yaml"
    file.write_bytes(content)
    return read_mapping(file, "file of tests", "TEST_FILE", "the key a")


def test_a_mapping_is_read_and_nothing_is_an_empty_one(tmp_path: Path) -> None:
    assert read(tmp_path, "a: {b: [1, ü]}\n2: c\n".encode()) == {"a": {"b": [1, "ü"]}, "2": "c"}
    assert read(tmp_path, b"# nothing\n") == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- a", "must hold the key a"),
        (b"a: " + b"x" * (1 << 16), "must hold the key a"),
        (b"a: {", "cannot be read as YAML"),
        (b"a: \xff", "cannot be read as YAML"),
        (b"a: !!python/object/apply:os.system [ls]", "cannot be read as YAML"),
        (b"[" * 5000, "cannot be read as YAML"),
    ],
)
def test_anything_else_is_one_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        read(tmp_path, content)
    assert caught.value.code == "TEST_FILE"
    assert "file of tests" in caught.value.sentence
