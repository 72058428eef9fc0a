"""Files that ``torch.save`` wrote in 2020, read as data: tensors, plain values and one known class.

The original repository's checkpoints hold a pickled object of its own ``AnchorGenerator``, which
``weights_only=True`` refuses. Here nothing of what a file names is imported or called: tensors become
`StoredTensor`, the generator becomes a bare holder of attributes, everything else is refused. Both formats of
that year are known: the zip archive (PyTorch 1.6 and later) and the stream of pickles before it.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from covid_ct_mask_net.errors import UntrustedModelError

_ZIP_SIGNATURE = b"PK\x03\x04"
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
# The object description of a published file takes about 0.1 MB; the tensors lie beside it.
_LARGEST_DESCRIPTION = 64 * 2**20
_STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_ANCHOR_MODULES = ("models.mask_net.rpn", "models.mask_net.rpn_segmentation")
# What unpickling a damaged file can end in; none of it says more than that the file is damaged.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError,
    ValueError, OverflowError, RuntimeError, MemoryError, OSError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a file describes it; its values are read by `LegacyFile.tensor`.

    Attributes
    ----------
    storage
        Name of the storage that holds the values.
    dtype
        Type of the values.
    length
        Number of values in the storage.
    offset, shape, stride
        Which of them belong to the tensor, counted in values.
    """

    storage: str
    dtype: torch.dtype
    length: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LegacyFile:
    """Content of a file, with `StoredTensor` in place of tensors.

    Attributes
    ----------
    name
        File name, for sentences.
    content
        What was saved; `is_anchor_generator` tells the one object of a class.
    """

    name: str
    content: Any
    _read_storage: Callable[[str, int], bytes]

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Return the values of a tensor.

        Raises
        ------
        UntrustedModelError
            ``WEIGHTS_UNREADABLE`` if the file does not hold them all.
        """
        size = stored.dtype.itemsize
        wanted = math.prod(stored.shape)
        reach = sum((n - 1) * step for n, step in zip(stored.shape, stored.stride, strict=True))
        if wanted == 0:
            return torch.empty(stored.shape, dtype=stored.dtype)
        if wanted > stored.length or stored.offset + reach >= stored.length:
            raise _unreadable(self.name)
        try:
            data = self._read_storage(stored.storage, stored.length * size)
        except _DAMAGE as error:
            raise _unreadable(self.name) from error
        if len(data) != stored.length * size:
            raise _unreadable(self.name)
        values = torch.frombuffer(bytearray(data), dtype=stored.dtype)
        return values.as_strided(stored.shape, stored.stride, stored.offset).clone()


def read_legacy_file(path: Path) -> LegacyFile:
    """Read what ``torch.save`` wrote, without importing or calling anything that the file names.

    Raises
    ------
    UntrustedModelError
        ``WEIGHTS_MISSING``, ``WEIGHTS_UNREADABLE`` if the file is damaged or of another kind, or
        ``WEIGHTS_UNSAFE`` if it asks for more than tensors, plain values and the anchor generator.
    """
    if not path.is_file():
        raise UntrustedModelError("WEIGHTS_MISSING", f"There is no file {path}; give a checkpoint to import.")
    with path.open("rb") as file:
        is_archive = file.read(len(_ZIP_SIGNATURE)) == _ZIP_SIGNATURE
    try:
        return _read_archive(path) if is_archive else _read_stream(path)
    except _DAMAGE as error:
        raise _unreadable(path.name) from error


def is_anchor_generator(value: object) -> bool:
    """Tell whether a value stands for the original's anchor generator."""
    return isinstance(value, _AnchorGenerator)


class _AnchorGenerator:
    """Stands for the original's class: holds attributes, does nothing."""


class _Unpickler(pickle.Unpickler):
    """Builds plain containers and `StoredTensor`; refuses every other name.

    All callables that a file can reach are made anew for each file, so that it cannot leave anything behind
    by setting attributes on them.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._name = name
        # By storage: (type, number of values).
        self.storages: dict[str, tuple[torch.dtype, int]] = {}
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "set"): set,
            ("__builtin__", "set"): set,
            ("torch", "Size"): lambda values=(): tuple(values),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _stored_tensor(*parts[:4]),
            ("torch._utils", "_rebuild_parameter"): lambda *parts: parts[0],
        }
        generator = type("AnchorGenerator", (_AnchorGenerator,), {})
        self._known |= {(module, "AnchorGenerator"): generator for module in _ANCHOR_MODULES}

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) in self._known:
            return self._known[module, name]
        if module in ("torch", "torch.cuda") and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise UntrustedModelError(
            "WEIGHTS_UNSAFE",
            f"{self._name} asks for {f'{module}.{name}'[:80]!r}, but a checkpoint of the original repository "
            "holds tensors, plain values and its AnchorGenerator only; the file was not read further.",
        )

    def persistent_load(self, pid: Any, /) -> Any:
        if pid[0] == "module":
            # The stream format wraps classes of modules with their source code, which is of no use.
            return pid[1]
        if pid[0] != "storage":
            raise pickle.UnpicklingError("unknown persistent object")
        dtype, key, length = pid[1], pid[2], pid[4]
        # The stream format may place a storage inside another: (name, start, length).
        start = pid[5][1] if len(pid) > 5 and pid[5] is not None else 0
        counts = _is_count(length) and _is_count(start)
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str) or not counts:
            raise pickle.UnpicklingError("malformed storage")
        self.storages[key] = (dtype, length)
        return _Storage(key, dtype, length, start)


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    length: int
    start: int


def _stored_tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
    shape, stride = tuple(shape), tuple(stride)
    counts = (offset, *shape, *stride)
    if not isinstance(storage, _Storage) or len(shape) != len(stride) or not all(map(_is_count, counts)):
        raise pickle.UnpicklingError("malformed tensor")
    return StoredTensor(storage.key, storage.dtype, storage.length, storage.start + offset, shape, stride)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read_archive(path: Path) -> LegacyFile:
    with zipfile.ZipFile(path) as archive:
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        description = records["data.pkl"]
        if any(info.compress_type != zipfile.ZIP_STORED for info in records.values()):
            raise _unreadable(path.name)
        if description.file_size > _LARGEST_DESCRIPTION:
            raise _unreadable(path.name)
        if "byteorder" in records and archive.read(records["byteorder"]) != b"little":
            raise _unreadable(path.name)
        content = _Unpickler(io.BytesIO(archive.read(description)), path.name).load()

    def read_storage(key: str, size: int) -> bytes:
        record = records[f"data/{key}"]
        if record.file_size != size:
            raise _unreadable(path.name)
        with zipfile.ZipFile(path) as archive:
            return archive.read(record)

    return LegacyFile(path.name, content, read_storage)


def _read_stream(path: Path) -> LegacyFile:
    with path.open("rb") as file:
        magic, protocol, system = (_Unpickler(file, path.name).load() for _ in range(3))
        if magic != _STREAM_MAGIC or protocol != _STREAM_PROTOCOL or not system["little_endian"]:
            raise _unreadable(path.name)
        unpickler = _Unpickler(file, path.name)
        content = unpickler.load()
        keys = _Unpickler(file, path.name).load()
        positions = _positions(file, keys, unpickler.storages)

    def read_storage(key: str, size: int) -> bytes:
        with path.open("rb") as file:
            file.seek(positions[key])
            return file.read(size)

    return LegacyFile(path.name, content, read_storage)


def _positions(file: BinaryIO, keys: Any, storages: Mapping[str, tuple[torch.dtype, int]]) -> dict[str, int]:
    """Return where in the file each storage begins; each is preceded by its number of values."""
    positions = {}
    for key in keys:
        dtype, length = storages[key]
        (written,) = struct.unpack("<q", file.read(8))
        if written != length:
            raise pickle.UnpicklingError("storage of unexpected length")
        positions[key] = file.tell()
        end = file.seek(length * dtype.itemsize, io.SEEK_CUR)
        # Seeking goes beyond the end without a word.
        if end > os.fstat(file.fileno()).st_size:
            raise pickle.UnpicklingError("storage cut off")
    return positions


def _unreadable(name: str) -> UntrustedModelError:
    return UntrustedModelError(
        "WEIGHTS_UNREADABLE",
        f"{name} is not a complete file of torch.save as the original repository wrote it; "
        "it may be cut off or altered: compare its size with the published one, or fetch it again.",
    )
