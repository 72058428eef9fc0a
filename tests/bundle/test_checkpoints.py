"""Weights on disk: what goes in comes out, and nothing else is trusted."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.networks import CARD, random_slices, small_model, small_s, small_trunk
from covid_ct_mask_net import UNTRAINED_NOTICE
from covid_ct_mask_net.checkpoints import (
    MANIFEST_NAME,
    Model,
    file_sha256,
    load_classifier,
    load_model,
    load_segmentation,
    read_manifest,
    save_checkpoint,
    untrained_model,
)
from covid_ct_mask_net.errors import OutputError, UntrustedModelError
from covid_ct_mask_net.networks.slice_model import Shared, SliceModel


@pytest.fixture(scope="module")
def model() -> Model:
    return small_model()


@pytest.fixture
def saved(model: Model, tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save_checkpoint(path, CARD, model.detector, model.classifier)
    return path


def _refusal(path: Path, **options: Any) -> UntrustedModelError:
    with pytest.raises(UntrustedModelError) as caught:
        load_model(path, **options)
    assert caught.value.sentence.endswith(".")
    assert str(path.parent) not in caught.value.sentence or caught.value.code == "WEIGHTS_MISSING"
    return caught.value


def _rewrite(path: Path, change: Callable[[Any], Any]) -> Path:
    content = torch.load(path, weights_only=True)
    changed = change(content)
    torch.save(content if changed is None else changed, path)
    return path


@torch.no_grad()
def test_round_trip_gives_the_same_answers(model: Model, saved: Path) -> None:
    loaded = load_model(saved)
    assert model.detector is not None
    assert model.classifier is not None
    assert loaded.detector is not None
    assert loaded.classifier is not None
    assert loaded.detector.settings == model.detector.settings
    assert loaded.classifier.settings == model.classifier.settings
    assert not loaded.classifier.training
    assert not loaded.detector.training
    for ours, theirs in ((model.detector, loaded.detector), (model.classifier, loaded.classifier)):
        state = theirs.state_dict()
        assert all(torch.equal(tensor, state[key]) for key, tensor in ours.state_dict().items())
    slices = random_slices((64, 64), (70, 90))
    assert torch.equal(model.classifier(slices), loaded.classifier(slices))
    assert SliceModel(loaded.detector, loaded.classifier, 0.5).shared is Shared.REGIONS


def test_card_and_hash_are_reported(saved: Path) -> None:
    report = load_model(saved).report
    assert (report.name, report.version, report.trained_on, report.notice) == (
        CARD.name, CARD.version, CARD.trained_on, CARD.notice,
    )  # fmt: skip
    assert report.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_equal_tensors_are_stored_once(model: Model, saved: Path, tmp_path: Path) -> None:
    assert model.classifier is not None
    save_checkpoint(tmp_path / "detector.pt", CARD, model.detector, None)
    save_checkpoint(tmp_path / "classifier.pt", CARD, None, model.classifier)
    own = 4 * sum(p.numel() for p in model.classifier.s.parameters())
    detector_size = (tmp_path / "detector.pt").stat().st_size
    assert own < saved.stat().st_size - detector_size < own + 250_000, "S and the names of the weights only"
    assert saved.stat().st_size < 0.6 * (detector_size + (tmp_path / "classifier.pt").stat().st_size)


def test_loaded_networks_do_not_share_memory(saved: Path) -> None:
    loaded = load_model(saved)
    assert loaded.detector is not None
    assert loaded.classifier is not None
    first, second = loaded.detector.backbone.body.conv1.weight, loaded.classifier.backbone.body.conv1.weight
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr(), "training one must not change the other"


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.nn.Linear(3, 3).weight.std() > 0, "other networks start from random weights as before"


def test_each_network_is_loaded_by_its_own_function(model: Model, saved: Path, tmp_path: Path) -> None:
    assert load_classifier(saved)(torch.rand(2, 1, 64, 64)).shape == (2, 3)
    assert len(load_segmentation(saved)(torch.rand(2, 1, 64, 64))) == 2
    save_checkpoint(tmp_path / "detector.pt", CARD, model.detector, None)
    save_checkpoint(tmp_path / "classifier.pt", CARD, None, model.classifier)
    with pytest.raises(UntrustedModelError, match=r"detector\.pt holds no classifier"):
        load_classifier(tmp_path / "detector.pt")
    with pytest.raises(UntrustedModelError, match=r"classifier\.pt holds no lesion detector"):
        load_segmentation(tmp_path / "classifier.pt")
    with pytest.raises(ValueError, match="neither"):
        save_checkpoint(tmp_path / "none.pt", CARD, None, None)


def test_the_manifest_decides(saved: Path) -> None:
    manifest = saved.parent / MANIFEST_NAME
    assert _refusal(saved, manifest_required=True).code == "WEIGHTS_UNLISTED"
    manifest.write_text(f"{'0' * 64}  other.pt\n", encoding="utf-8")
    assert "does not list it" in _refusal(saved).sentence
    manifest.write_text(f"{file_sha256(saved)}  {saved.name}\n{'0' * 64}  other.pt\n", encoding="utf-8")
    assert read_manifest(manifest) == {saved.name: file_sha256(saved), "other.pt": "0" * 64}
    assert load_model(saved, manifest_required=True).classifier is not None
    with saved.open("r+b") as file:
        file.seek(saved.stat().st_size // 2)
        file.write(b"altered")
    refusal = _refusal(saved)
    assert refusal.code == "WEIGHTS_UNLISTED"
    assert refusal.exit_code == 5


def test_missing_file(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "none.pt").code == "WEIGHTS_MISSING"
    assert _refusal(tmp_path).code == "WEIGHTS_MISSING"


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a checkpoint at all"),
        lambda path: path.write_bytes(pickle.dumps({"format": "other"})),
        lambda path: torch.save({"format": "other"}, path),
        lambda path: torch.save([1, 2], path),
        lambda path: path.write_bytes(b"\x80\x02" + bytes(range(40, 200))),
    ],
    ids=["cut", "empty", "text", "pickle", "other format", "list", "garbage"],
)
def test_unreadable_file(saved: Path, damage: Callable[[Path], Any]) -> None:
    damage(saved)
    assert _refusal(saved).code == "WEIGHTS_UNREADABLE"


class _Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("archive", [True, False])
def test_nothing_in_a_file_is_run(saved: Path, tmp_path: Path, archive: bool) -> None:
    witness = tmp_path / "was-run"
    content = torch.load(saved, weights_only=True)
    content["extra"] = _Malicious(witness)
    torch.save(content, saved, _use_new_zipfile_serialization=archive)
    assert _refusal(saved).code == "WEIGHTS_UNREADABLE"
    assert not witness.exists()
    torch.load(saved, weights_only=False)
    assert witness.exists(), "the file would have done it"


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["classifier"]["state"].pop("s.fc1.bias"),
        lambda c: c["classifier"]["state"].update(surplus=torch.zeros(1)),
        lambda c: c["classifier"]["state"].update({"s.fc1.bias": torch.zeros(3)}),
        lambda c: c["classifier"]["settings"].update(regions=17),
        lambda c: c["detector"]["settings"].update(backbone="resnet34"),
        lambda c: c["detector"]["settings"].update(backbone="vgg"),
        lambda c: c["detector"]["settings"].update(novelty=1),
        lambda c: c["detector"]["settings"].update(anchor_sizes="x"),
        lambda c: c["detector"].pop("settings"),
        lambda c: c["detector"].update(state=3),
        lambda c: c.update(detector=None),
        lambda c: c.update(card={"name": "only"}),
        lambda c: c.pop("card"),
    ],
)
def test_weights_that_do_not_fit(saved: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    def keep(content: dict[str, Any]) -> None:
        change(content)

    assert _refusal(_rewrite(saved, keep)).code == "WEIGHTS_MISMATCH"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(saved: Path, value: float) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["classifier"]["state"]["s.fc2.weight"][3, 2] = value

    assert _refusal(_rewrite(saved, spoil)).code == "WEIGHTS_NON_FINITE"


def test_a_failed_write_leaves_the_last_checkpoint(
    model: Model, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def fail(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(OutputError) as caught:
            save_checkpoint(saved, CARD, model.detector, None)
    assert caught.value.code == "WEIGHTS_UNWRITTEN"
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    with pytest.raises(OutputError):
        save_checkpoint(saved.parent / "none" / "model.pt", CARD, model.detector, None)


def test_a_checkpoint_is_on_disk_ahead_of_its_name_and_each_writer_has_a_file_of_its_own(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    flush, replace = os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        events.append(("flush", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        flush(descriptor)

    def replaced(path: Path, target: Path) -> Path:
        events.append(("rename", path.name))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", replaced)
    for _ in range(2):
        save_checkpoint(tmp_path / "model.pt", CARD, model.detector, None)
    assert [event for event, _ in events] == ["flush", "rename", "flush"] * 2
    names = [name for _, name in events]
    assert names[0] == names[1] != names[3] == names[4]
    assert names[2] == names[5] == tmp_path.name
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_networks_loaded_in_inference_mode_are_as_any_others(saved: Path) -> None:
    """Tensors made in that mode count no changes, and what the networks share could not be told."""
    with torch.inference_mode():
        for model in (load_model(saved), untrained_model(small_trunk(), small_s(), seed=4)):
            assert model.detector is not None
            assert model.classifier is not None
            assert SliceModel(model.detector, model.classifier, 0.5).shared is Shared.REGIONS
            assert not any(p.is_inference() for p in model.detector.state_dict().values())


def test_untrained_networks_are_seeded_and_say_so() -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    first, second = (untrained_model(small_trunk(), small_s(), seed=4) for _ in range(2))
    assert torch.equal(torch.rand(3), expected), "the caller's random numbers stay as they were"
    assert first.report == second.report
    assert first.report.notice == UNTRAINED_NOTICE
    assert "seed 4" in first.report.trained_on
    assert untrained_model(small_trunk(), small_s(), seed=5).report.sha256 != first.report.sha256
    assert first.detector is not None
    assert first.classifier is not None
    assert SliceModel(first.detector, first.classifier, 0.5).shared is Shared.REGIONS
