"""Old files are read as data: whatever they ask for is refused before it happens."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.original import SIZES, write_original
from covid_ct_mask_net.errors import UntrustedModelError
from covid_ct_mask_net.training.legacy_files import StoredTensor, is_anchor_generator, read_legacy_file

STATE = OrderedDict(
    [
        ("whole", torch.arange(12.0).reshape(3, 4)),
        ("transposed", torch.arange(12.0).reshape(3, 4).T),
        ("half", torch.arange(4.0).half()),
        ("count", torch.tensor(7)),
        ("empty", torch.zeros(0, 4)),
    ]
)


class _Attack:
    """Pickled, it would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def _refusal(path: Path) -> UntrustedModelError:
    with pytest.raises(UntrustedModelError) as caught:
        read_legacy_file(path)
    assert caught.value.sentence.endswith(".")
    return caught.value


def _rezip(path: Path, change: dict[str, bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    for ending, data in change.items():
        name = next(one for one in records if one.endswith(ending))
        if data is None:
            del records[name]
        else:
            records[name] = data
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("module", ["models.mask_net.rpn", "models.mask_net.rpn_segmentation"])
def test_both_formats_give_every_tensor_and_the_anchors(archive: bool, module: str, tmp_path: Path) -> None:
    path = write_original(tmp_path / "old.pth", STATE, archive=archive, module=module)
    file = read_legacy_file(path)
    for name, expected in STATE.items():
        stored = file.content["model_weights"][name]
        assert isinstance(stored, StoredTensor)
        assert torch.equal(file.tensor(stored), expected)
        assert file.tensor(stored).dtype == expected.dtype
    generator = file.content["anchor_generator"]
    assert is_anchor_generator(generator)
    assert generator.sizes == (SIZES,) * 5
    assert (file.content["epoch"], file.content["model_name"]) == ("100", None)
    assert not is_anchor_generator(file.content["epoch"])


def test_parameters_are_tensors_like_others(tmp_path: Path) -> None:
    state = OrderedDict(weight=torch.nn.Parameter(torch.ones(2)))
    file = read_legacy_file(write_original(tmp_path / "old.pth", state))
    assert file.tensor(file.content["model_weights"]["weight"]).tolist() == [1, 1]


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "stream"])
def test_a_call_in_a_file_is_refused_and_not_made(archive: bool, tmp_path: Path) -> None:
    marker = tmp_path / "was-here"
    path = write_original(tmp_path / "old.pth", STATE, archive=archive, model_name=_Attack(marker))
    error = _refusal(path)
    assert error.code == "WEIGHTS_UNSAFE"
    assert "mkdir" in error.sentence
    assert not marker.exists()
    # It would have been made by an unpickler that knows no limits.
    pickle.loads(pickle.dumps(_Attack(marker)))  # noqa: S301
    assert marker.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "builtins.getattr", "os.system", "torch.load", "torch.nn.Module", "torch._utils.x"],
)
def test_no_other_name_is_known(name: str, tmp_path: Path) -> None:
    module, attribute = name.rsplit(".", 1)
    path = write_original(tmp_path / "old.pth", STATE)
    _rezip(path, {"data.pkl": f"c{module}\n{attribute}\n.".encode()})
    assert _refusal(path).code == "WEIGHTS_UNSAFE"


def test_a_file_leaves_nothing_behind_for_the_next_one(tmp_path: Path) -> None:
    """The stand-in class is made anew for each file: state set on it by one is not seen by another."""
    first = read_legacy_file(write_original(tmp_path / "first.pth", STATE))
    second = read_legacy_file(write_original(tmp_path / "second.pth", STATE))
    ours, theirs = (type(file.content["anchor_generator"]) for file in (first, second))
    assert ours is not theirs


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "stream"])
def test_files_that_were_cut_off_are_refused(archive: bool, tmp_path: Path) -> None:
    path = write_original(tmp_path / "old.pth", STATE, archive=archive)
    whole = path.read_bytes()
    for size in (0, len(whole) // 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert _refusal(path).code == "WEIGHTS_UNREADABLE"


def test_values_that_are_missing_are_noticed_when_they_are_read(tmp_path: Path) -> None:
    path = _rezip(write_original(tmp_path / "old.pth", STATE), {"data/0": b"\0" * 8})
    file = read_legacy_file(path)
    with pytest.raises(UntrustedModelError) as caught:
        file.tensor(file.content["model_weights"]["whole"])
    assert caught.value.code == "WEIGHTS_UNREADABLE"
    wrong = StoredTensor("0", torch.float32, length=12, offset=8, shape=(3, 4), stride=(4, 1))
    with pytest.raises(UntrustedModelError):
        file.tensor(wrong)


def test_other_files_are_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none.pth").code == "WEIGHTS_MISSING"
    other = tmp_path / "other.pth"
    other.write_bytes(pickle.dumps({"model_weights": {}}))
    assert _refusal(other).code == "WEIGHTS_UNREADABLE"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    assert _refusal(other).code == "WEIGHTS_UNREADABLE"


def test_compressed_and_big_endian_archives_are_refused(tmp_path: Path) -> None:
    """Compressed records could grow without bound; torch never writes them."""
    path = _rezip(write_original(tmp_path / "old.pth", STATE), {}, zipfile.ZIP_DEFLATED)
    assert _refusal(path).code == "WEIGHTS_UNREADABLE"
    path = _rezip(write_original(tmp_path / "old.pth", STATE), {"byteorder": b"big"})
    assert _refusal(path).code == "WEIGHTS_UNREADABLE"


def test_malformed_descriptions_are_refused(tmp_path: Path) -> None:
    path = write_original(tmp_path / "old.pth", STATE)
    description = io.BytesIO()
    pickler = pickle.Pickler(description, protocol=2)
    pickler.persistent_id = lambda value: ("storage", 1, 2, 3, 4) if value == "x" else None  # type: ignore[method-assign]
    pickler.dump({"model_weights": "x"})
    _rezip(path, {"data.pkl": description.getvalue()})
    assert _refusal(path).code == "WEIGHTS_UNREADABLE"
