"""Bad NIfTI files through both doors: each ends with a result, and good ones beside it are assessed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import ConfigParser

from builders.chest import make_chest
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.paths import bundle_root

SMALL = {
    "weights": "untrained",
    "detector_settings#image_min_size": 64,
    "detector_settings#rpn_top_testing": 20,
    "device": "cpu",
}
CHEST = make_chest(spacing=(4.0, 4.0, 10.0))
# What each file is, in the words of its name, and what is said of it.
EXPECTED = {
    "good": ("assessed", None),
    "turned": ("assessed", None),
    "four dimensions": ("refused", "NIFTI_DIMENSIONS"),
    "cut off": ("refused", "NIFTI_TRUNCATED"),
    "no place": ("refused", "NIFTI_AFFINE"),
    "not a number": ("not_assessed", "NON_FINITE"),
    "all equal": ("not_assessed", "NO_CONTENT"),
    "windowed": ("not_assessed", "NOT_HOUNSFIELD_RANGE"),
    "no lung": ("not_assessed", "NOT_CHEST"),
    "ten slices": ("not_assessed", "TOO_FEW_SLICES"),
    "a text": ("refused", "NIFTI_TRUNCATED"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("in")

    def save(name: str, hu: np.ndarray, affine: np.ndarray = CHEST.affine) -> None:
        nibabel.Nifti1Image(np.asarray(hu, np.float32), affine).to_filename(folder / f"{name}.nii.gz")

    save("good", CHEST.hu)
    flip = np.diag([-1.0, 1.0, -1.0, 1.0])
    flip[0, 3], flip[2, 3] = CHEST.hu.shape[0] - 1, CHEST.hu.shape[2] - 1
    save("turned", CHEST.hu[::-1, :, ::-1], CHEST.affine @ flip)
    save("four dimensions", np.stack([CHEST.hu, CHEST.hu], axis=3))
    save("cut off", CHEST.hu)
    cut = folder / "cut off.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-5000])
    save("no place", CHEST.hu)
    placed = bytearray(gzip.decompress((folder / "no place.nii.gz").read_bytes()))
    placed[252:256] = bytes(4)  # qform_code and sform_code
    (folder / "no place.nii.gz").write_bytes(gzip.compress(placed))
    save("not a number", np.where(CHEST.hu > 300, np.nan, CHEST.hu))
    save("all equal", np.full_like(CHEST.hu, -1000.0))
    save("windowed", (CHEST.hu.clip(-1350, 150) + 1350) / 1500 * 255)
    save("no lung", np.where(CHEST.lungs > 0, 40.0, CHEST.hu))
    save("ten slices", CHEST.hu[:, :, 10:20])
    (folder / "a text.nii").write_text("not a volume")
    found = {path.name.split(".")[0]: path for path in folder.iterdir()}
    assert set(found) == set(EXPECTED)
    return found


def _results(output: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in output.glob("*/result.json")]


def _check(results: list[dict]) -> None:
    told = [(r["status"], r["reasons"][0]["code"] if r["reasons"] else None) for r in results]
    assert sorted(told, key=str) == sorted(EXPECTED.values(), key=str)
    for result in results:
        assert (result["triage"] is None) == (result["status"] != "assessed")
        # Names of files may be those of patients.
        assert not [name for name in EXPECTED if f"{name}.nii" in json.dumps(result)]
    first, second = (r["triage"]["probabilities"] for r in results if r["status"] == "assessed")
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_the_command_line_goes_on_behind_bad_files(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from covid_ct_mask_net.app.commands import triage

    settings = triage._settings
    monkeypatch.setattr(triage, "_settings", lambda arguments: {**settings(arguments), **SMALL})
    code = main(["triage", str(files["good"].parent), "-o", str(tmp_path / "out"), "--quiet"])
    assert code == ExitCode.REFUSED_INPUT
    _check(_results(tmp_path / "out"))
    told = capfd.readouterr()
    assert "Traceback" not in told.err
    for _, reason in EXPECTED.values():
        assert reason is None or f": {reason}: " in told.err
    listed = json.loads((tmp_path / "out" / "worklist.json").read_text())["studies"]
    assert len(listed) == len(EXPECTED)


def test_the_bundle_goes_on_behind_bad_files(files: dict[str, Path], tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(bundle_root() / "configs" / "inference.yaml"))
    parser.read_meta(str(bundle_root() / "configs" / "metadata.json"))
    parser.update(
        {
            **SMALL,
            "bundle_root": str(bundle_root()),
            "dataset_dir": str(files["good"].parent),
            "output_dir": str(tmp_path / "out"),
            "handlers": [],
        }
    )
    parser.get_parsed_content("evaluator").run()
    _check(_results(tmp_path / "out"))
    assert len(list((tmp_path / "out").glob("*/lesion_mask.nii.gz"))) == 2
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
