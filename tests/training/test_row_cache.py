"""Ranked rows on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from builders.lesion_data import make_covidx
from builders.networks import small_model
from covid_ct_mask_net.errors import NotAssessableError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.training.randomness import SeededDataset
from covid_ct_mask_net.training.row_cache import ROWS, RowDataset, cached_rows, slices_or_rows
from covid_ct_mask_net.training.sources import classification_transforms, classified_slices

CPU = torch.device("cpu")


@pytest.fixture
def classifier() -> CovidCTMaskNet:
    found = small_model(seed=2).classifier
    assert found is not None
    return found


@pytest.fixture
def slices(tmp_path: Path) -> SeededDataset:
    records = classified_slices("covidx", make_covidx(tmp_path / "data", per_class=1) / "images")
    return SeededDataset(records, classification_transforms(), seed=1, cache_rate=0.0)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("rows-*.npy"))


def test_rows_are_those_of_the_network(
    classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path
) -> None:
    rows = cached_rows(classifier, slices, tmp_path, CPU, batch_size=2)
    assert len(rows) == 3
    for index in range(3):
        item = rows[index]
        assert torch.equal(item[ROWS], classifier.rows([slices[index]["image"]])[0])
        assert item["slice_class"] == slices.data[index]["slice_class"]
    assert len(_files(tmp_path)) == 1
    assert np.load(_files(tmp_path)[0], allow_pickle=False).shape == (1, 3, 16, 5)


def test_rows_are_computed_once_and_anew_when_anything_changes(
    classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    compute = CovidCTMaskNet.rows
    monkeypatch.setattr(
        CovidCTMaskNet, "rows", lambda self, *images: calls.append(1) or compute(self, *images)
    )

    def count(**changes: Any) -> int:
        calls.clear()
        cached_rows(classifier, slices, tmp_path, CPU, **changes)
        return len(calls)

    assert count() == 1
    assert count() == 0
    assert count(settings={"amp": True}) == 1
    with torch.no_grad():
        classifier.s.fc1.weight.add_(1)
    assert count() == 0, "rows do not depend on S"
    with torch.no_grad():
        classifier.roi_heads.box_predictor.cls_score.bias[1].add_(0.1)
    assert count() == 1
    path = Path(slices.data[0]["image"])
    path.write_bytes(Path(slices.data[1]["image"]).read_bytes())
    assert count() == 1, "another image under the same name"
    assert len(_files(tmp_path)) == 4


def test_rows_of_volumes_are_computed_anew_under_another_window(
    classifier: CovidCTMaskNet, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    voxels = np.random.default_rng(0).integers(-1000, 400, (64, 64, 1)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "images" / "a.nii.gz")
    (tmp_path / "slices.csv").write_text("patient,slice,class_id\na,0,1\n")
    records = classified_slices("volumes", tmp_path)
    rows = [
        cached_rows(classifier, SeededDataset(records, transform, 1, 0.0), tmp_path / "rows", CPU)[0][ROWS]
        for transform in (
            classification_transforms(),
            classification_transforms(window_level=-600, window_width=1500),
            classification_transforms(window_level=40, window_width=400),
        )
    ]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
    assert len(_files(tmp_path / "rows")) == 2


def test_an_interrupted_computation_goes_on(
    classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cached_rows(classifier, slices, tmp_path / "whole", CPU)
    compute, done = CovidCTMaskNet.rows, []

    def rows(self: CovidCTMaskNet, *arguments: Any) -> torch.Tensor:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return compute(self, *arguments)

    monkeypatch.setattr(CovidCTMaskNet, "rows", rows)
    with pytest.raises(KeyboardInterrupt):
        cached_rows(classifier, slices, tmp_path / "parts", CPU, batch_size=1)
    assert not _files(tmp_path / "parts")
    del done[:1]
    parts = cached_rows(classifier, slices, tmp_path / "parts", CPU, batch_size=1)
    assert len(done) == 2, "one slice was left"
    assert torch.equal(parts.rows, whole.rows)


def test_variants_take_turns(classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path) -> None:
    augmented = SeededDataset(slices.data, classification_transforms(augmentation=1.0), 1, cache_rate=0.0)
    rows = cached_rows(classifier, augmented, tmp_path, CPU, variants=2)
    first = rows[0][ROWS]
    rows.set_epoch(2)
    assert not torch.equal(rows[0][ROWS], first)
    rows.set_epoch(3)
    assert torch.equal(rows[0][ROWS], first)


def test_rows_of_another_device_are_others(
    classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a GPU the network stays where it is; the name of the file is what counts.
    monkeypatch.setattr(CovidCTMaskNet, "to", lambda self, _: self)
    for device in (CPU, "cpu", "cuda:1", torch.device("cuda")):
        cached_rows(classifier, slices, tmp_path, device)
    assert len(_files(tmp_path)) == 2


def test_unusable_weights_are_told_by_the_slice(
    classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path
) -> None:
    with torch.no_grad():
        classifier.backbone.body.conv1.weight.fill_(torch.nan)
    with pytest.raises(NotAssessableError, match=r"no numbers for .*\.png"):
        cached_rows(classifier, slices, tmp_path, CPU)
    assert not _files(tmp_path)


def test_slices_are_used_where_the_trunk_changes(
    classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path
) -> None:
    arguments = {"transform": slices.transform, "seed": 1, "cache_rate": 0.0}
    images = slices_or_rows(slices.data, classifier=None, **arguments)  # type: ignore[arg-type]
    assert "image" in images[0]
    rows = slices_or_rows(
        slices.data,
        classifier=classifier,
        folder=tmp_path,
        device=CPU,
        **arguments,  # type: ignore[arg-type]
    )
    assert isinstance(rows, RowDataset)
    empty = slices_or_rows([], classifier=classifier, folder=tmp_path, device=CPU, **arguments)  # type: ignore[arg-type]
    assert len(empty) == 0


def test_sources_make_variants_that_come_together(
    classifier: CovidCTMaskNet, slices: SeededDataset, tmp_path: Path
) -> None:
    sources = {"plain": classifier.rows, "half": lambda images, scales: classifier.rows(images, scales) / 2}
    rows = cached_rows(classifier, slices, tmp_path, CPU, batch_size=2, sources=sources)
    for index in range(3):
        plain, half = rows[index][ROWS]
        assert torch.equal(plain, classifier.rows([slices[index]["image"]])[0])
        assert torch.equal(half, plain / 2)
    cached_rows(classifier, slices, tmp_path, CPU, sources={"plain": classifier.rows})
    assert len(_files(tmp_path)) == 2, "other engines have rows of their own"
