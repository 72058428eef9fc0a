"""Slices kept on disk are those that are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import MapTransform
from torch.utils.data import DataLoader

from builders.lesion_data import chest_slice, lesion_mask, make_cncb, make_covidx
from covid_ct_mask_net.errors import OutputError, UsageError
from covid_ct_mask_net.training import disk_cache
from covid_ct_mask_net.training.disk_cache import settings_hash
from covid_ct_mask_net.training.randomness import SeededDataset, flat
from covid_ct_mask_net.training.row_cache import slices_or_rows
from covid_ct_mask_net.training.segmentation import list_batch
from covid_ct_mask_net.training.sources import (
    classification_transforms,
    classified_slices,
    labelled_slices,
    segmentation_transforms,
)


def _volume(root: Path) -> Path:
    hounsfield = np.stack([chest_slice(seed) * 5.0 - 1350 for seed in range(3)], axis=-1).astype(np.int16)
    labels = np.stack([np.maximum(lesion_mask().astype(int) - 1, 0)] * 3, axis=-1).astype(np.uint8)
    for folder, data in (("images", hounsfield), ("masks", labels)):
        (root / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), root / folder / "a.nii.gz")
    return root


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        return type(one) is type(other) and one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    reads: list[int] = []
    plain = disk_cache.DiskCache._pre_transform

    def counted(self: disk_cache.DiskCache, item: Any) -> Any:
        reads.append(1)
        return plain(self, item)

    monkeypatch.setattr(disk_cache.DiskCache, "_pre_transform", counted)
    return reads


@pytest.mark.parametrize("layout", ["cncb", "volumes"])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_items_are_identical_with_and_without(
    layout: str, rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_cncb(tmp_path / "data") if layout == "cncb" else _volume(tmp_path / "data")
    records = labelled_slices(layout, root)

    def dataset(cache_dir: Path | None) -> SeededDataset:
        transform = segmentation_transforms("both", 20, augmentation=0.5, lung_crop=0.5)
        return SeededDataset(records, transform, 3, cache_rate=rate, cache_dir=cache_dir)

    reads = _count_reads(monkeypatch)
    plain = dataset(None)
    for kept in (dataset(tmp_path / "cache"), dataset(tmp_path / "cache")):
        for epoch in (1, 2):
            plain.set_epoch(epoch)
            kept.set_epoch(epoch)
            for index in range(len(records)):
                assert _same(plain[index], kept[index])
    assert len(reads) == len(records), "the second data set, and the second epoch, read from the disk"
    assert len(list((tmp_path / "cache").rglob("*.pt"))) == len(records)


def test_loader_workers_share_the_folder(tmp_path: Path) -> None:
    records = labelled_slices("cncb", make_cncb(tmp_path / "data"))
    transform = segmentation_transforms("both", 20, augmentation=1.0)
    here = SeededDataset(records, transform, 3, cache_rate=0.0)
    kept = SeededDataset(records, transform, 3, cache_rate=0.0, cache_dir=tmp_path / "cache")
    for _ in range(2):
        loaded = [
            item for batch in DataLoader(kept, 1, num_workers=2, collate_fn=list_batch) for item in batch
        ]
        assert all(_same(one, here[index]) for index, one in enumerate(loaded))


def test_another_window_and_changed_files_are_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = labelled_slices("volumes", _volume(tmp_path / "data"))
    reads = _count_reads(monkeypatch)

    def first(**window: float) -> torch.Tensor:
        transform = segmentation_transforms("both", 20, **window)
        item = SeededDataset(records, transform, 0, cache_rate=0.0, cache_dir=tmp_path / "cache")[0]
        image: torch.Tensor = item["image"]
        return image

    lung = first()
    assert not torch.equal(lung, first(window_level=40, window_width=400))
    assert torch.equal(lung, first(window_level=-600, window_width=1500))
    assert len(reads) == 2
    mask = tmp_path / "data" / "masks" / "a.nii.gz"
    os.utime(mask, (1, 1))
    first()
    assert len(reads) == 3
    monkeypatch.setattr(disk_cache, "__version__", "0")
    first()
    assert len(reads) == 4, "another version may read otherwise"


class Scale(MapTransform):
    def __init__(self, factor: Any) -> None:
        super().__init__("image")
        self.factor = factor

    def __call__(self, data: Any) -> Any:
        return data


def test_settings_are_in_the_hash_or_refused(tmp_path: Path) -> None:
    assert settings_hash([Scale(1.0)]) == settings_hash([Scale(1.0)])
    assert settings_hash([Scale(1.0)]) != settings_hash([Scale(2.0)])
    with pytest.raises(UsageError, match=r"What Scale makes .*leave out cache_dir"):
        SeededDataset([], flat([Scale(object())]), 0, cache_dir=tmp_path)


def test_a_damaged_file_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = labelled_slices("cncb", make_cncb(tmp_path / "data"))[:1]
    transform = segmentation_transforms("both", 20)
    dataset = SeededDataset(records, transform, 0, cache_rate=0.0, cache_dir=tmp_path / "cache")
    whole = dataset[0]
    (path,) = (tmp_path / "cache").rglob("*.pt")
    content = path.read_bytes()
    for damaged in (content[:1000], b"", b"no tensors"):
        path.write_bytes(damaged)
        assert _same(dataset[0], whole)
        assert path.stat().st_size == len(content)
    assert caplog.text.count("is damaged and is made anew") == 3


def test_a_folder_that_cannot_be_written_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = labelled_slices("cncb", make_cncb(tmp_path / "data"))
    transform = segmentation_transforms("both", 20)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; name a folder"):
        SeededDataset(records, transform, 0, cache_dir=tmp_path / "file")
    with pytest.raises(OutputError, match="could not be made"):
        SeededDataset(records, transform, 0, cache_dir=tmp_path / "file" / "below")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    dataset = SeededDataset(records, transform, 0, cache_rate=0.0, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"could not be kept in .*cache: No space left"):
        dataset[0]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_slices_for_classification_are_kept_too(tmp_path: Path) -> None:
    records = classified_slices("covidx", make_covidx(tmp_path / "data", per_class=1) / "images")
    kept = slices_or_rows(
        records, classification_transforms(), 1, 0.0, None, cache_dir=tmp_path / "cache", folder="unused"
    )
    assert isinstance(kept, SeededDataset)
    plain = SeededDataset(records, classification_transforms(), 1, cache_rate=0.0)
    for _ in range(2):
        assert all(_same(kept[index], plain[index]) for index in range(len(records)))
    assert len(list((tmp_path / "cache").rglob("*.pt"))) == len(records)
