"""A TorchScript file in the place of a bundle: trusted by its hash, complete, and with the same answers."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ckpt_export

from builders.bundles import list_weights, small_bundle
from builders.nifti import make_ct_volume
from covid_ct_mask_net.app.settings import AppSettings
from covid_ct_mask_net.checkpoints import load_model
from covid_ct_mask_net.errors import UntrustedModelError, UsageError
from covid_ct_mask_net.nifti_file import LoadNiftid
from covid_ct_mask_net.paths import is_torchscript
from covid_ct_mask_net.pipeline import load_pipeline
from covid_ct_mask_net.torchscript import read_configuration


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle") / "small")


def _export(bundle: Path, net_id: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    configs = bundle / "configs"
    ckpt_export(
        net_id=net_id, filepath=str(path), ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(configs / "metadata.json"), config_file=str(configs / "inference.yaml"),
        bundle_root=str(bundle), weights="untrained",
    )  # fmt: skip
    list_weights(path.parent.parent)
    return path


@pytest.fixture(scope="module")
def script(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _export(bundle, "triage_def", tmp_path_factory.mktemp("script") / "models" / "model.ts")


def test_it_holds_the_weights_settings_and_card_of_the_checkpoint(bundle: Path, script: Path) -> None:
    ours, theirs = load_model(script), load_model(bundle / "models" / "model.pt")
    for part in ("detector", "classifier"):
        state, expected = getattr(ours, part).state_dict(), getattr(theirs, part).state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
        assert getattr(ours, part).settings == getattr(theirs, part).settings
    assert ours.report.name == theirs.report.name == "small"
    assert ours.report.notice == theirs.report.notice
    assert ours.report.sha256 != theirs.report.sha256


def test_the_pipeline_of_the_file_is_that_of_the_bundle(bundle: Path, script: Path, tmp_path: Path) -> None:
    make_ct_volume(tmp_path / "ct.nii.gz")
    outcomes = []
    for root in (bundle, script):
        pipeline = load_pipeline(root)
        data = LoadNiftid(keys="volume")({"volume": str(tmp_path / "ct.nii.gz"), "source_key": "ct"})
        outcomes.append(pipeline.assess(pipeline.infer(pipeline.prepare(data))))
    ours, theirs = (outcome["outcome"].triage for outcome in outcomes)
    assert ours == theirs
    masks = [np.asarray(outcome["lesion_mask"]) for outcome in outcomes]
    np.testing.assert_array_equal(*masks)


def test_it_carries_metadata_and_configuration(script: Path, tmp_path: Path) -> None:
    assert is_torchscript(script)
    metadata, config = read_configuration(script)
    assert metadata["name"] == "COVID-CT-Mask-Net"
    assert "volume_transforms" in config
    with zipfile.ZipFile(script) as source, zipfile.ZipFile(tmp_path / "bare.ts", "w") as target:
        for name in source.namelist():
            if "/extra/" not in name:
                target.writestr(name, source.read(name))
    with pytest.raises(UntrustedModelError, match=r"bare\.ts does not carry metadata\.json") as caught:
        read_configuration(tmp_path / "bare.ts")
    assert caught.value.code == "BUNDLE_MISSING"


def test_a_file_of_an_earlier_version_says_which_setting_of_the_application_it_cannot_follow(
    script: Path, tmp_path: Path
) -> None:
    old = tmp_path / "models" / "old.ts"
    old.parent.mkdir()
    with zipfile.ZipFile(script) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("/extra/inference.json"):
                config = json.loads(content)
                least = config.pop("least_slices")
                content = json.dumps(config).replace('"@least_slices"', str(least)).encode()
            target.writestr(name, content)
    list_weights(tmp_path)
    assert load_pipeline(old, AppSettings().of_inference()).model.name == "small"
    with pytest.raises(UsageError, match=r"'least_slices' .*limits\.minimum_slices would have no") as caught:
        load_pipeline(old, AppSettings.read(None, ["limits.minimum_slices=10"]).of_inference())
    assert caught.value.code == "SETTING"


def test_it_must_be_listed(script: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.ts"
    shutil.copy(script, copy)
    with pytest.raises(UntrustedModelError) as caught:
        load_pipeline(copy)
    assert caught.value.code == "WEIGHTS_UNLISTED"


def test_an_export_of_one_network_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    path = _export(bundle, "network_def", tmp_path / "models" / "classifier.ts")
    with pytest.raises(UntrustedModelError, match="ckpt_export triage_def") as caught:
        load_pipeline(path)
    assert caught.value.code == "WEIGHTS_UNREADABLE"


def test_what_is_no_torchscript(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.ts").write_text("text", encoding="utf-8")
    assert not is_torchscript(tmp_path / "text.ts")
    assert not is_torchscript(tmp_path)
    assert not is_torchscript(bundle / "models" / "model.pt"), "a checkpoint is a zip too"
