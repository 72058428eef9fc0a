"""From evidence to files: triage of the volume, its result, the lesion mask on the grid of the source."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from covid_ct_mask_net.errors import NotAssessableError, OutputError, RefusedInputError, UsageError
from covid_ct_mask_net.evidence import LesionInstance, SliceEvidence
from covid_ct_mask_net.identifiers import pseudonym
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.postprocessing import (
    SaveResultd,
    SourceKeyd,
    TriageVolumed,
    canonical_grid,
    label_map_file,
    list_volumes,
    lps_axis_codes,
    nifti_result,
)
from covid_ct_mask_net.results import ModelReport, Status
from covid_ct_mask_net.transforms import RestoreSourceGridd
from covid_ct_mask_net.transforms.orientation import to_canonical
from covid_ct_mask_net.triage.pooling import Mean
from covid_ct_mask_net.triage.volume_triage import VolumeTriage

MODEL = ModelReport("m", "1", "abc", "nothing", "a test")
# Stored RAS: x and y are flipped on the way to L and P. 5 x 6 mm pixels, 10 mm slices.
AFFINE = np.diag([5.0, 6.0, 10.0, 1.0])
SHAPE = (20, 16, 8)


def _data() -> dict:
    """One consolidation of 4 x 3 pixels on slices 2 and 3, in the patient's right lung."""
    hu = torch.full((1, *SHAPE), -800.0)
    volume = to_canonical(MetaTensor(hu, affine=torch.as_tensor(AFFINE), meta={"filename_or_obj": "x"}))
    lungs = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    lungs[0, :10], lungs[0, 10:] = 1, 2
    mask = np.ones((3, 4), bool)
    evidence = [
        SliceEvidence(
            k, (0.0, 0.0, 3.0),
            (LesionInstance(k, LesionClass.CONSOLIDATION, 0.9, (2.0, 5.0, 6.0, 8.0), (5, 2), mask),)
            if k in (2, 3) else (),
        )
        for k in range(8)
    ]  # fmt: skip
    return {"volume": volume, "lung_mask": lungs, "pred": evidence, "source_key": "key", "warnings": ()}


def test_the_tilt_of_a_volume_is_measured() -> None:
    tilted = AFFINE.copy()
    tilted[1, 2] = 10.0 * np.tan(np.radians(12.0))
    hu = torch.zeros(1, *SHAPE)
    for order in ([0, 1, 2], [2, 0, 1]):
        affine = tilted[:, [*order, 3]]
        stored = MetaTensor(hu.permute(0, *(1 + axis for axis in order)), affine=torch.as_tensor(affine))
        data = {"volume": to_canonical(stored), "declined": NotAssessableError("NOISE", "Noise.")}
        geometry = nifti_result(data, MODEL, "volume").geometry
        assert geometry is not None
        assert geometry.gantry_tilt_degrees == pytest.approx(12.0)


def _triaged() -> dict:
    return TriageVolumed(VolumeTriage(Mean()), MODEL)(_data())


def test_the_source_key_is_the_hash_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii"
    path.write_bytes(b"voxels")
    out = SourceKeyd("volume")({"volume": path})
    assert out["source_key"] == hashlib.sha256(b"voxels").hexdigest()
    assert out["volume"] is path
    with pytest.raises(RefusedInputError) as caught:
        SourceKeyd("volume")({"volume": tmp_path / "gone.nii"})
    assert caught.value.code == "NIFTI_UNREADABLE"


def test_the_lesion_mask_lies_where_the_lesion_was_seen() -> None:
    out = _triaged()
    mask = out["lesion_mask"]
    assert mask.dtype == torch.uint8
    assert torch.equal(mask.affine, out["volume"].affine)
    expected = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    expected[0, 2:6, 5:8, 2:4] = 2
    assert torch.equal(mask.as_tensor(), expected)
    restored = RestoreSourceGridd(keys="lesion_mask")(out)["lesion_mask"]
    # In the stored volume x runs to the right, y to anterior.
    assert torch.equal(restored.as_tensor(), expected.flip(1, 2))
    assert np.array_equal(np.asarray(restored.affine), AFFINE)


def test_declined_volumes_pass_and_a_triage_may_decline() -> None:
    error = NotAssessableError("NOT_CHEST", "No lung.")
    assert TriageVolumed(VolumeTriage(Mean()), MODEL)({"declined": error}) == {"declined": error}
    strict = VolumeTriage(Mean(), min_confidence=0.99)
    assert TriageVolumed(strict, MODEL)(_data())["declined"].code == "LOW_CONFIDENCE"


def test_result_and_mask_are_saved_and_a_second_run_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    saved = []
    for name in ("a", "b"):
        data = RestoreSourceGridd(keys="lesion_mask")(_triaged())
        out = SaveResultd(str(tmp_path / name), MODEL)(data)
        assert out["result"].status is Status.ASSESSED
        (folder,) = (tmp_path / name).iterdir()
        assert folder.name == pseudonym("key")
        saved.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert saved[0] == saved[1]
    assert sorted(saved[0]) == ["lesion_mask.nii.gz", "result.json"]
    document = json.loads(saved[0]["result.json"])
    assert document["geometry"]["shape"] == [20, 16, 8]
    assert document["geometry"]["spacing_mm"] == [5.0, 6.0, 10.0]
    assert document["geometry"]["orientation"] == "RAS"
    assert document["geometry"]["gantry_tilt_degrees"] == 0.0
    # 24 voxels of 0.3 ml.
    assert document["lesions"][0]["volume_ml"] == pytest.approx(7.2)
    assert document["lesions"][0]["side"] == "right"
    image = nibabel.load(next((tmp_path / "a").rglob("*.nii.gz")))
    assert np.count_nonzero(image.get_fdata() == 2) == 24
    assert np.array_equal(image.affine, AFFINE)


def test_a_declined_volume_has_a_result_and_no_mask(tmp_path: Path) -> None:
    """Nor does the mask of an earlier, assessed run stay beside it."""
    data = RestoreSourceGridd(keys="lesion_mask")(_triaged())
    SaveResultd(str(tmp_path), MODEL)(data)
    SaveResultd(str(tmp_path), MODEL)({**data, "declined": RefusedInputError("NIFTI_SIZE", "Too large.")})
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    document = json.loads((folder / "result.json").read_text())
    assert document["status"] == "refused"
    assert document["reasons"] == [{"code": "NIFTI_SIZE", "sentence": "Too large."}]
    assert document["triage"] is None


def test_a_file_without_hash_still_ends_with_a_result() -> None:
    result = nifti_result({"volume": "/a/b.nii", "declined": RefusedInputError("X", "Y.")}, MODEL, "volume")
    assert result.pseudonym == pseudonym("/a/b.nii")
    assert result.geometry is None
    assert "b.nii" not in result.to_json()


def test_an_output_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError):
        SaveResultd(str(tmp_path / "out"), MODEL)(_triaged())


def test_equal_label_maps_make_equal_files() -> None:
    mask = _triaged()["lesion_mask"]
    first = label_map_file(mask)
    assert first == label_map_file(mask)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(first))
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_data_dtype() == np.uint8


def test_the_grid_leads_to_the_source() -> None:
    grid = canonical_grid(_data()["volume"])
    assert grid.to_source([[0.0, 0.0, 0.0]])[0].tolist() == pytest.approx([19.0, 15.0, 0.0])


@pytest.mark.parametrize(
    ("diagonal", "codes"), [((1, 1, 1), "RAS"), ((-1, -1, 1), "LPS"), ((-1, 1, -1), "LAI")]
)
def test_axis_codes(diagonal: tuple[int, int, int], codes: str) -> None:
    assert lps_axis_codes(np.diag([*diagonal, 1.0])) == codes


def test_volumes_are_listed_by_name_folder_or_list(tmp_path: Path) -> None:
    for name in ("b.nii", "a.nii.gz", "sub/c.nii", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.nii").mkdir()
    names = ["a.nii.gz", "b.nii", "sub/c.nii"]
    listed = [{"volume": str(tmp_path / name)} for name in names]
    assert list_volumes(tmp_path) == listed
    assert list_volumes(str(tmp_path)) == listed
    assert list_volumes([str(tmp_path / "b.nii"), str(tmp_path / "sub")]) == listed[1:]
    for source, code in ((tmp_path / "gone", "INPUT_MISSING"), (tmp_path / "folder.nii", "NO_NIFTI")):
        with pytest.raises(UsageError) as caught:
            list_volumes(source)
        assert caught.value.code == code


def test_results_of_earlier_runs_are_no_volumes(tmp_path: Path) -> None:
    """Without a setting results go to ./eval and volumes come from here: a second run read its own masks."""
    eval_ = tmp_path / "eval"
    for name in (
        "ct.nii.gz", "lesion_mask.nii.gz", "sub/lesion_mask.nii.gz", "eval/0123456789ab/lesion_mask.nii.gz",
        "eval/0123456789ab/result.json", "eval/ct.nii.gz", "old/0123456789ab/lesion_mask.nii.gz",
        "old/0123456789ab/result.json", "old/.partial-0123456789ab/lesion_mask.nii.gz",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def listed(source: Path | list[str], output: Path | None = eval_) -> list[str]:
        found = [Path(entry["volume"]) for entry in list_volumes(source, output)]
        return [str(path.relative_to(tmp_path)) for path in found]

    others = ["ct.nii.gz", "lesion_mask.nii.gz", "sub/lesion_mask.nii.gz"]
    assert listed(tmp_path) == others, "a mask without a result beside it is somebody else's"
    assert listed(tmp_path, None) == ["ct.nii.gz", "eval/ct.nii.gz", *others[1:]]
    assert listed(tmp_path, tmp_path) == ["ct.nii.gz", "eval/ct.nii.gz", *others[1:]], "beside its volumes"
    assert listed(eval_) == ["eval/ct.nii.gz"], "named itself"
    mask = "eval/0123456789ab/lesion_mask.nii.gz"
    assert listed([str(tmp_path / mask)]) == [mask], "named itself"
    with pytest.raises(UsageError, match="besides results of earlier runs"):
        list_volumes(tmp_path / "old", eval_)


def test_a_reason_in_place_of_evidence_declines_the_volume() -> None:
    reason = NotAssessableError("MODEL_NON_FINITE", "No number.")
    assessed = TriageVolumed(VolumeTriage(Mean()), MODEL)({**_data(), "pred": reason})
    assert assessed["declined"] is reason
    assert "outcome" not in assessed
