"""NIfTI files: one good volume passes; each defect is refused under its own code before memory is spent."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from builders.dicom import phantom_hu
from covid_ct_mask_net.axial_planes import AxialRules
from covid_ct_mask_net.errors import ExitCode, NotAssessableError, RefusedInputError
from covid_ct_mask_net.nifti_file import LoadNiftid, NiftiLimits, check_nifti
from covid_ct_mask_net.reduction import ReductionRule
from covid_ct_mask_net.transforms.orientation import to_canonical, to_source

HU = phantom_hu((6, 8, 10))
AFFINE = np.array([[-1.5, 0, 0, 30], [0, -2.0, 0, 40], [0, 0, 5.0, -70], [0, 0, 0, 1]])
Edit = Callable[[Any], None]


def _file(path: Path, edit: Edit | None = None) -> Path:
    """Write a volume; ``edit`` changes its header afterwards, without nibabel's corrections."""
    raw = nibabel.Nifti1Image(HU, AFFINE).to_bytes()
    header = nibabel.Nifti1Header(raw[:348], check=False)
    if edit is not None:
        edit(header)
    content = header.binaryblock + raw[348:]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def _set(**fields: object) -> Edit:
    def edit(header: Any) -> None:
        for name, value in fields.items():
            header[name] = value

    return edit


def _dim(*dimensions: int) -> Edit:
    return _set(dim=[len(dimensions), *dimensions, *[1] * (7 - len(dimensions))])


def _pixdim(*spacing: float) -> Edit:
    return _set(pixdim=[1.0, *spacing, 1, 1, 1, 1])


def _code(path: Path, limits: NiftiLimits | None = None) -> str:
    with pytest.raises(RefusedInputError) as caught:
        check_nifti(path, limits)
    assert caught.value.exit_code is ExitCode.REFUSED_INPUT
    assert path.name not in caught.value.sentence, "file names may hold the patient's"
    assert caught.value.sentence.endswith(".")
    return caught.value.code


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64", "int32", "int64"])
def test_good_volumes_of_any_number_type_pass(
    tmp_path: Path, name: str, kind: type, order: str, dtype: str
) -> None:
    hu = np.abs(HU).clip(0, 200).astype(dtype)
    path = tmp_path / name
    # nibabel warns about int64 and wants it named.
    written = kind(hu, AFFINE, dtype=hu.dtype)
    written.to_filename(path)
    if order == ">":
        swapped = kind(hu.astype(hu.dtype.newbyteorder(">")), AFFINE, written.header.as_byteswapped(">"))
        swapped.to_filename(path)
    check_nifti(path)
    loaded = LoadNiftid("volume")({"volume": str(path), "other": 1})
    assert loaded["other"] == 1
    assert loaded["volume"].shape == (1, 6, 8, 10)
    assert np.array_equal(loaded["volume"][0].numpy(), hu.astype("float32"))
    assert np.allclose(loaded["volume"].affine, AFFINE)


def test_a_fourth_dimension_of_one_is_a_volume(tmp_path: Path) -> None:
    path = _file(tmp_path / "ct.nii", _dim(6, 8, 10, 1))
    assert LoadNiftid("volume")({"volume": path})["volume"].shape == (1, 6, 8, 10)


DEFECTS: dict[str, tuple[Edit, str]] = {
    "wrong magic": (_set(magic=b"abc"), "NIFTI_MAGIC"),
    "header of a pair": (_set(magic=b"ni1"), "NIFTI_MAGIC"),
    "wrong header length": (_set(sizeof_hdr=347), "NIFTI_MAGIC"),
    "4-D": (_dim(6, 8, 5, 2), "NIFTI_DIMENSIONS"),
    "5-D vector": (_dim(6, 8, 5, 1, 2), "NIFTI_DIMENSIONS"),
    "2-D": (_dim(48, 10), "NIFTI_DIMENSIONS"),
    "no dimension": (_set(dim=[0] * 8), "NIFTI_DIMENSIONS"),
    "9 dimensions": (_set(dim=[9, *[1] * 7]), "NIFTI_DIMENSIONS"),
    "negative size": (_dim(6, -8, 10), "NIFTI_DIMENSIONS"),
    "empty axis": (_dim(6, 0, 10), "NIFTI_DIMENSIONS"),
    "huge": (_dim(32767, 32767, 32767), "NIFTI_SIZE"),
    "many voxels": (_dim(2000, 2000, 2000), "NIFTI_SIZE"),
    "RGB": (_set(datatype=128, bitpix=24), "NIFTI_DATATYPE"),
    "RGBA": (_set(datatype=2304, bitpix=32), "NIFTI_DATATYPE"),
    "complex": (_set(datatype=32, bitpix=64), "NIFTI_DATATYPE"),
    "128 bit": (_set(datatype=1536, bitpix=128), "NIFTI_DATATYPE"),
    "bits": (_set(datatype=1, bitpix=1), "NIFTI_DATATYPE"),
    "unknown type": (_set(datatype=0), "NIFTI_DATATYPE"),
    "no such type": (_set(datatype=999), "NIFTI_DATATYPE"),
    "bits contradict type": (_set(bitpix=16), "NIFTI_DATATYPE"),
    "infinite slope": (_set(scl_slope=np.inf), "NIFTI_SCALING"),
    "infinite intercept": (_set(scl_slope=1.0, scl_inter=np.inf), "NIFTI_SCALING"),
    "zero spacing": (_pixdim(1.5, 0.0, 5.0), "NIFTI_SPACING"),
    "negative spacing": (_pixdim(1.5, -2.0, 5.0), "NIFTI_SPACING"),
    "spacing is no number": (_pixdim(1.5, np.nan, 5.0), "NIFTI_SPACING"),
    "no orientation": (_set(qform_code=0, sform_code=0), "NIFTI_AFFINE"),
    "singular affine": (_set(srow_z=[0, 0, 0, 0]), "NIFTI_AFFINE"),
    "affine is no number": (_set(srow_x=[np.nan, 0, 0, 0]), "NIFTI_AFFINE"),
    "quaternion is no rotation": (_set(quatern_b=3.0, qform_code=1), "NIFTI_AFFINE"),
    "sform mirrored": (_set(srow_x=[1.5, 0, 0, 30], qform_code=1), "NIFTI_AFFINE_CONFLICT"),
    "sform turned": (
        _set(srow_x=[0, -2.0, 0, 0], srow_y=[1.5, 0, 0, 0], qform_code=1), "NIFTI_AFFINE_CONFLICT",
    ),
    "sform of other spacing": (_set(srow_z=[0, 0, 2.5, 0], qform_code=0), "NIFTI_AFFINE_CONFLICT"),
    "metres": (_set(xyzt_units=1), "NIFTI_UNITS"),
    "micrometres and seconds": (_set(xyzt_units=3 | 8), "NIFTI_UNITS"),
    "unit that nobody knows": (_set(xyzt_units=5), "NIFTI_UNITS"),
    "voxels begin in the header": (_set(vox_offset=16), "NIFTI_SIZE"),
    "voxels begin nowhere": (_set(vox_offset=np.nan), "NIFTI_SIZE"),
    "one slice too few": (_dim(6, 8, 11), "NIFTI_TRUNCATED"),
    "one slice too many": (_dim(6, 8, 9), "NIFTI_SIZE"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_of_the_header_has_its_code(tmp_path: Path, name: str, defect: str) -> None:
    edit, code = DEFECTS[defect]
    assert _code(_file(tmp_path / name, edit)) == code


def test_places_that_differ_by_rounding_or_origin_only_are_no_conflict(tmp_path: Path) -> None:
    check_nifti(_file(tmp_path / "a.nii", _set(srow_z=[0, 0, 5.0001, -300.0], qform_code=1)))


@pytest.mark.parametrize("units", [0, 2, 2 | 8, 16])
def test_millimetres_are_what_is_meant_without_a_unit(tmp_path: Path, units: int) -> None:
    check_nifti(_file(tmp_path / "ct.nii", _set(xyzt_units=units)))


def test_a_refused_unit_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = _file(tmp_path / "ct.nii", _set(xyzt_units=3))
    with pytest.raises(RefusedInputError, match=r"in micrometres .* Convert .* millimetres"):
        check_nifti(path)


@pytest.mark.parametrize("sign", [0.0, 1.0])
def test_a_sign_of_zero_is_one(tmp_path: Path, sign: float) -> None:
    """nifti1.h has it so, and files of some writers have it."""

    def edit(header: Any) -> None:
        header.set_qform(AFFINE, code=1)
        # Of a grid that is right-handed: then the sign is 1.
        assert header["pixdim"][0] == 1.0
        header["pixdim"][0] = sign
        header["sform_code"] = 0

    loaded = LoadNiftid("volume")({"volume": _file(tmp_path / "ct.nii", edit)})["volume"]
    np.testing.assert_allclose(loaded.affine, AFFINE, atol=1e-5)


def _tilted(degrees: float) -> Edit:
    rise = float(np.tan(np.radians(degrees))) * 5.0
    pixdim = [1.0, 1.5, 2.0, float(np.hypot(5.0, rise)), 1, 1, 1, 1]
    return _set(srow_y=[0, -2.0, rise, 40], qform_code=0, pixdim=pixdim)


def test_what_is_not_axial_is_declined_by_its_header(tmp_path: Path) -> None:
    angle = np.radians(44.0)
    rows = {"srow_y": [0, -2 * np.cos(angle), -5 * np.sin(angle), 0]}
    rows |= {"srow_z": [0, -2 * np.sin(angle), 5 * np.cos(angle), 0]}
    cases = {"NOT_AXIAL": _set(qform_code=0, **rows), "GANTRY_TILT": _tilted(34.0)}
    for code, edit in cases.items():
        with pytest.raises(NotAssessableError) as caught:
            LoadNiftid("volume")({"volume": _file(tmp_path / f"{code}.nii", edit)})
        assert caught.value.code == code
    path = tmp_path / "NOT_AXIAL.nii"
    assert LoadNiftid("volume", axial=AxialRules(axial_degrees=45.0))({"volume": path})["warnings"] == ()


def test_a_tilt_is_a_warning_beside_those_that_are_there(tmp_path: Path) -> None:
    data = LoadNiftid("volume")({"volume": _file(tmp_path / "ct.nii", _tilted(15.0)), "warnings": ("one",)})
    assert data["warnings"][0] == "one"
    assert "15.0 degrees" in data["warnings"][1].sentence
    assert len(data["warnings"]) == 2


def test_a_broken_gzip_file_is_refused(tmp_path: Path) -> None:
    good = _file(tmp_path / "good.nii.gz").read_bytes()
    path = tmp_path / "bad.nii.gz"
    cases = {
        "cut": (good[: len(good) // 2], "NIFTI_TRUNCATED"),
        "cut in its last bytes": (good[:-4], "NIFTI_TRUNCATED"),
        "other checksum": (good[:-8] + bytes(4) + good[-4:], "NIFTI_GZIP"),
        "damaged": (good[:20] + bytes(20) + good[40:], "NIFTI_GZIP"),
        "something behind it": (good + b"something else", "NIFTI_GZIP"),
        "a second file behind it": (good + gzip.compress(b"x" * 9), "NIFTI_SIZE"),
    }
    for case, (content, code) in cases.items():
        path.write_bytes(content)
        assert _code(path) == code, case


@pytest.mark.parametrize("length", [0, 1, 347, 351])
def test_a_file_that_ends_within_its_header_is_truncated(tmp_path: Path, length: int) -> None:
    path = _file(tmp_path / "ct.nii")
    path.write_bytes(path.read_bytes()[:length])
    assert _code(path) == "NIFTI_TRUNCATED"


def test_names_that_lie_about_packing_are_refused(tmp_path: Path) -> None:
    packed, plain = _file(tmp_path / "a.nii.gz"), _file(tmp_path / "b.nii")
    assert _code(packed.rename(tmp_path / "c.nii")) == "NIFTI_GZIP"
    assert _code(plain.rename(tmp_path / "d.nii.gz")) == "NIFTI_GZIP"


def test_a_bomb_is_counted_not_unpacked(tmp_path: Path) -> None:
    """200 MB of zeros behind the header of a volume of 2 kB."""
    header = _file(tmp_path / "ct.nii").read_bytes()[:352]
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(header + bytes(200_000_000), 1))
    tracemalloc.start()
    try:
        assert _code(path) == "NIFTI_SIZE"
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_limits_are_settings(tmp_path: Path) -> None:
    path = _file(tmp_path / "ct.nii")
    check_nifti(path, NiftiLimits(side=10, voxels=480))
    # 6 x 8 pixels on 10 slices.
    check_nifti(path, NiftiLimits(side=8, slices=10))
    assert _code(path, NiftiLimits(side=7)) == "NIFTI_SIZE"
    assert _code(path, NiftiLimits(slices=9)) == "NIFTI_SIZE"
    assert _code(path, NiftiLimits(voxels=479)) == "NIFTI_SIZE"
    with pytest.raises(RefusedInputError):
        LoadNiftid("volume", NiftiLimits(side=7))({"volume": path})


def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    assert _code(tmp_path / "gone.nii") == "NIFTI_UNREADABLE"
    (tmp_path / "folder.nii").mkdir()
    assert _code(tmp_path / "folder.nii") == "NIFTI_UNREADABLE"


def test_random_bytes_and_flipped_bits_never_end_in_another_exception(tmp_path: Path) -> None:
    good = bytearray(_file(tmp_path / "ct.nii").read_bytes())
    rng = np.random.default_rng(5)
    path = tmp_path / "fuzz.nii"
    for _ in range(150):
        content = bytearray(good)
        for place in rng.integers(0, 352, size=4):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            assert LoadNiftid("volume")({"volume": path})["volume"].shape == (1, 6, 8, 10)
        except RefusedInputError as refusal:
            assert refusal.code.startswith("NIFTI_")  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize("along", [0, 1, 2], ids=["slices first", "slices in the middle", "slices last"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_large_volumes_are_reduced_in_the_plane_whatever_the_order_of_their_axes(
    tmp_path: Path, along: int, dtype: str
) -> None:
    """Blocks of two by two pixels; odd sides repeat the last one. Slices stay, whichever axis counts them."""
    rng = np.random.default_rng(3)
    hu = rng.integers(-1000, 400, size=(21, 16, 9)).astype(dtype)
    order = [0, 1]
    order.insert(along, 2)
    stored, affine = hu.transpose(order), np.eye(4)
    spacing = np.array([-0.7, -0.7, 1.5])
    affine[:3, :3] = 0.0
    for place, axis in enumerate(order):
        affine[axis, place] = spacing[axis]
    path = tmp_path / "ct.nii.gz"
    nibabel.Nifti1Image(stored, affine, dtype=dtype).to_filename(path)
    limits = NiftiLimits(voxels=1000, reduction=ReductionRule(voxels=1000, side=4))
    data = LoadNiftid("volume", limits)({"volume": path})
    canonical = to_canonical(data["volume"])
    assert canonical.dtype == torch.int16
    assert tuple(canonical.shape) == (1, 11, 8, 9)
    expected = np.pad(hu.astype(np.float64), ((0, 1), (0, 0), (0, 0)), mode="edge")
    expected = expected.reshape(11, 2, 8, 2, 9).mean(axis=(1, 3))
    assert np.abs(canonical[0].numpy() - expected).max() <= 0.51
    (warning,) = data["warnings"]
    assert warning.code == "MATRIX_REDUCED"
    # The way back: labels on the grid of the file.
    labels = (canonical.as_tensor() > 0).to(torch.uint8)
    back = to_source(MetaTensor(labels, affine=canonical.affine, meta=dict(canonical.meta)))
    assert back.shape[1:] == stored.shape
    assert np.allclose(back.affine, affine)
    fine = expected.repeat(2, axis=0).repeat(2, axis=1)[:21] > 0.6
    found = back[0].numpy().transpose(np.argsort(order))
    assert (found.astype(bool) | ~fine).all()


def test_values_that_are_no_numbers_are_not_averaged(tmp_path: Path) -> None:
    hu = np.zeros((16, 16, 4), dtype=np.float32)
    hu[3, 3, 3] = np.nan
    nibabel.Nifti1Image(hu, np.diag([-1.0, -1.0, 2.0, 1.0])).to_filename(tmp_path / "ct.nii")
    limits = NiftiLimits(reduction=ReductionRule(voxels=500, side=4))
    with pytest.raises(NotAssessableError) as caught:
        LoadNiftid("volume", limits)({"volume": tmp_path / "ct.nii"})
    assert caught.value.code == "NON_FINITE"
