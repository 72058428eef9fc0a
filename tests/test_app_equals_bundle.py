"""One study, two doors: the application reads its DICOM series, the bundle the NIfTI made from it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from builders.dicom import make_ct_series
from builders.oracle import SPACING, chest_with_lesions
from covid_ct_mask_net.app import intake, series_selection, volume
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.pipeline import load_pipeline

# Small slices and few proposals: this is about equality, not about lesions.
SMALL = {
    "weights": "untrained",
    "detector_settings#image_min_size": 128,
    "detector_settings#rpn_top_testing": 50,
}


def app_result(source: Path, output: Path, settings: dict[str, object]) -> dict:
    run = TriageRun.start([source], output)
    chain = StudyChain(load_pipeline(bundle_root(), settings), output)
    for job in run.jobs():
        chain.run(job)
        run.finished(job)
    run.conclude()
    (path,) = output.glob("*/result.json")
    return json.loads(path.read_text())


def bundle_result(source: Path, folder: Path, settings: dict[str, object]) -> dict:
    study = intake.scan([source]).studies[0]
    series = series_selection.select(study, series_selection.SelectionRules()).required()
    nifti = folder / "ct.nii.gz"
    volume.save_nifti(volume.load(series), nifti)
    overrides = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    command = [
        sys.executable, "-m", "monai.bundle", "run",
        "--config_file", str(bundle_root() / "configs" / "inference.yaml"),
        "--dataset_dir", str(nifti), "--output_dir", str(folder / "eval"), *overrides,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (folder / "eval").glob("*/result.json")
    assert (path.parent / "lesion_mask.nii.gz").is_file()
    return json.loads(path.read_text())


def numbers(tree: object, name: str = "") -> dict[str, float | None]:
    """Return the numbers of nested dictionaries by the names that lead to them."""
    if not isinstance(tree, dict):
        assert tree is None or isinstance(tree, float)
        return {name: tree}
    return {path: n for key, part in tree.items() for path, n in numbers(part, f"{name}/{key}").items()}


def assert_equal(app: dict, bundle: dict) -> None:
    assert app["status"] == bundle["status"] == "assessed"
    assert [s["source_index"] for s in app["slices"]] == [s["source_index"] for s in bundle["slices"]]
    np.testing.assert_allclose(
        [s["probabilities"] for s in app["slices"]], [s["probabilities"] for s in bundle["slices"]], atol=1e-6
    )
    np.testing.assert_allclose(app["triage"]["probabilities"], bundle["triage"]["probabilities"], atol=1e-6)
    assert app["triage"]["priority"] == bundle["triage"]["priority"]
    # NIfTI places voxels by float32: a volume on the edge of rounding may differ by one of its last digit.
    ours, theirs = numbers(app["involvement"]), numbers(bundle["involvement"])
    assert ours == pytest.approx(theirs, rel=0, abs=1.01e-3)
    assert len(app["lesions"]) == len(bundle["lesions"])
    assert app["model"] == bundle["model"]


def test_both_doors_give_the_same_probabilities(tmp_path: Path) -> None:
    make_ct_series(tmp_path / "in", hu=chest_with_lesions(), spacing=SPACING, shuffle=True)
    app = app_result(tmp_path / "in", tmp_path / "out", SMALL)
    assert_equal(app, bundle_result(tmp_path / "in", tmp_path, SMALL))


@pytest.mark.slow
@pytest.mark.parametrize("patient", ["cmb-crc-01068", "lung-dx-a0001", "lung-dx-a0002"])
def test_both_doors_on_real_ct(shared_data: Path, tmp_path: Path, patient: str) -> None:
    source = shared_data / "chest-ct-dicom" / patient
    app = app_result(source, tmp_path / "out", {})
    assert_equal(app, bundle_result(source, tmp_path, {}))
