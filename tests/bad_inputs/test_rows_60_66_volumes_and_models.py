"""Rows 60 to 66 of the catalogue of bad inputs: NIfTI files, pictures, devices, weights and models.

Requirements: REQ-REFUSE-1, REQ-REFUSE-2, REQ-LIMITS-1, REQ-GATE-1, REQ-TRUST-1, REQ-SAME-1.
"""

from __future__ import annotations

import dataclasses
import gzip
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from builders.bombs import nifti_bomb
from builders.bundles import small_bundle
from builders.command_line import ASSESSED, NOT_ASSESSED, Build, CommandLine, Expected
from builders.oracle import SPACING, Oracle, chest_with_lesions, oracle_pipeline
from builders.planted import TOKEN, make_study
from covid_ct_mask_net import pipeline
from covid_ct_mask_net.errors import ExitCode
from covid_ct_mask_net.pipeline import VolumePipeline

REFUSED = ExitCode.REFUSED_INPUT
AFFINE = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
# Names of files may be those of patients.
NAME = f"{TOKEN}-volume.nii.gz"


def volume(dtype: type = np.int16, *, affine: np.ndarray = AFFINE, hu: np.ndarray | None = None) -> Build:
    def build(folder: Path) -> None:
        values = chest_with_lesions().transpose(2, 1, 0) if hu is None else hu
        nibabel.Nifti1Image(values.astype(dtype), affine, dtype=dtype).to_filename(folder / NAME)

    return build


def blanked(*places: int) -> np.ndarray:
    """The voxels of a good volume, zero on these slices."""
    hu = chest_with_lesions().transpose(2, 1, 0).copy()
    hu[:, :, list(places)] = 0.0
    return hu


def half_and_air() -> np.ndarray:
    """Half of a good volume, and one slice beyond on which nobody lies."""
    hu = chest_with_lesions().transpose(2, 1, 0)[:, :, :21].copy()
    hu[:, :, 20] = -1000.0 + np.random.default_rng(0).normal(0.0, 30.0, hu.shape[:2])
    return hu


def oblique(degrees: float) -> np.ndarray:
    """The volume turned about the axis from left to right."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    return turn @ AFFINE


def tilted(degrees: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[1, 2] = SPACING[0] * np.tan(np.radians(degrees))
    return affine


def sagittal(folder: Path) -> None:
    """The good volume with its slices stored from left to right."""
    affine = AFFINE[:, [1, 2, 0, 3]]
    volume(affine=affine, hu=chest_with_lesions().transpose(1, 0, 2))(folder)


def sign_of_zero(content: bytearray) -> None:
    """Placed by the quaternion alone, whose sign is left out."""
    struct.pack_into("<2h", content, 252, 1, 0)
    struct.pack_into("<f", content, 76, 0.0)


def changed(edit: Callable[[bytearray], object], name: str = NAME) -> Build:
    """A good volume whose unpacked bytes are changed."""

    def build(folder: Path) -> None:
        volume()(folder)
        content = bytearray(gzip.decompress((folder / NAME).read_bytes()))
        edit(content)
        (folder / NAME).unlink()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    return build


def put(form: str, place: int, *values: float) -> Build:
    return changed(lambda content: struct.pack_into(f"<{form}", content, place, *values))


def packed(edit: Callable[[bytes], bytes]) -> Build:
    """A good volume whose packed bytes are changed."""

    def build(folder: Path) -> None:
        volume()(folder)
        (folder / NAME).write_bytes(edit((folder / NAME).read_bytes()))

    return build


def misnamed(folder: Path) -> None:
    volume()(folder)
    (folder / NAME).rename(folder / f"{TOKEN}.nii")


def big_endian(folder: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    values = chest_with_lesions().transpose(2, 1, 0).astype(">i2")
    header.set_data_dtype(np.dtype(">i2"))
    image = nibabel.Nifti1Image(values, AFFINE, header)
    image.to_filename(folder / NAME)


def structured(dtype: list[tuple[str, str]]) -> Build:
    def build(folder: Path) -> None:
        values = np.zeros((96, 96, 40), dtype=dtype)
        nibabel.Nifti1Image(values, AFFINE).to_filename(folder / NAME)

    return build


def bomb(folder: Path) -> None:
    """210 MB in 204 kB: a valid header, and zeros."""
    nifti_bomb(folder / NAME, AFFINE)
    assert (folder / NAME).stat().st_size < 210_000


ROWS: dict[str, tuple[Build, Expected]] = {
    "60-good": (volume(), Expected(ASSESSED)),
    "60-big-endian": (big_endian, Expected(ASSESSED)),
    "60-int64": (volume(np.int64), Expected(ASSESSED)),
    "60-float64": (volume(np.float64), Expected(ASSESSED)),
    "60-magic": (put("4s", 344, b"ni1\0"), Expected(REFUSED, "NIFTI_MAGIC")),  # type: ignore[arg-type]
    "60-four-dimensions": (
        volume(hu=np.stack([chest_with_lesions().transpose(2, 1, 0)] * 2, axis=3)),
        Expected(REFUSED, "NIFTI_DIMENSIONS"),
    ),
    "60-two-dimensions": (volume(hu=chest_with_lesions()[20].T), Expected(REFUSED, "NIFTI_DIMENSIONS")),
    "60-huge-dimensions": (put("4h", 40, 3, 32767, 32767, 32767), Expected(REFUSED, "NIFTI_SIZE")),
    "60-zero-pixdim": (put("3f", 80, 0, 0, 0), Expected(REFUSED, "NIFTI_SPACING")),
    "60-conflict": (put("2h3f", 252, 1, 2, 0, 0, 0), Expected(REFUSED, "NIFTI_AFFINE_CONFLICT")),
    "60-singular": (put("8f", 280, *[0.0] * 8), Expected(REFUSED, "NIFTI_AFFINE")),
    "60-no-place": (put("2h", 252, 0, 0), Expected(REFUSED, "NIFTI_AFFINE")),
    "60-micrometres": (put("B", 123, 3), Expected(REFUSED, "NIFTI_UNITS")),
    "60-metres": (put("B", 123, 1), Expected(REFUSED, "NIFTI_UNITS")),
    "60-no-unit": (put("B", 123, 0), Expected(ASSESSED)),
    "60-sign-of-zero": (changed(sign_of_zero), Expected(ASSESSED)),
    "60-too-large-for-a-chest": (
        volume(affine=np.diag([3.0, 3.0, 3.0, 1.0]) @ AFFINE),
        Expected(NOT_ASSESSED, "NOT_CHEST"),
    ),
    "33-nifti-tilt": (volume(affine=tilted(15.0)), Expected(ASSESSED, warnings=["GANTRY_TILT"])),
    "33-nifti-steep-tilt": (volume(affine=tilted(34.0)), Expected(NOT_ASSESSED, "GANTRY_TILT")),
    "34-nifti-oblique": (volume(affine=oblique(44.0)), Expected(NOT_ASSESSED, "NOT_AXIAL")),
    "34-nifti-stored-sagittal": (sagittal, Expected(ASSESSED)),
    "36-nifti-sheared": (
        volume(affine=AFFINE @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        Expected(NOT_ASSESSED, "ORIENTATION_INCONSISTENT"),
    ),
    "37-nifti-not-square": (
        volume(affine=np.diag([-3.2, -3.9, 5.0, 1.0])),
        Expected(NOT_ASSESSED, "NON_SQUARE_PIXELS"),
    ),
    "37-nifti-coronal-slices-far-apart": (
        volume(
            affine=np.diag([-3.5, -10.0, 3.5, 1.0])[:, [0, 2, 1, 3]],
            hu=chest_with_lesions().transpose(2, 0, 1),
        ),
        Expected(NOT_ASSESSED, "NON_SQUARE_PIXELS"),
    ),
    "47-nifti-air-beyond-the-cut": (
        volume(hu=half_and_air()),
        Expected(NOT_ASSESSED, "LUNG_TRUNCATED"),
    ),
    "60-rgb": (structured([("R", "u1"), ("G", "u1"), ("B", "u1")]), Expected(REFUSED, "NIFTI_DATATYPE")),
    "60-complex": (volume(np.complex64), Expected(REFUSED, "NIFTI_DATATYPE")),
    "45-not-finite": (
        volume(np.float32, hu=np.where(chest_with_lesions() > 300, np.nan, 0).transpose(2, 1, 0)),
        Expected(NOT_ASSESSED, "NON_FINITE"),
    ),
    "74-nifti-two-blank": (volume(hu=blanked(20, 21)), Expected(ASSESSED, warnings=["PIXEL_CONSTANT"])),
    "74-nifti-blank-ends": (volume(hu=blanked(0, 39)), Expected(ASSESSED, warnings=["PIXEL_CONSTANT"])),
    "74-nifti-many-blank": (
        volume(hu=blanked(*range(18, 23))),
        Expected(NOT_ASSESSED, "PIXEL_CONSTANT"),
    ),
    # The lungs end where the images do, however many slices lie beyond.
    "74-nifti-half-blank": (volume(hu=blanked(*range(20, 40))), Expected(NOT_ASSESSED, "LUNG_TRUNCATED")),
    "61-bomb": (bomb, Expected(REFUSED, "NIFTI_SIZE")),
    "61-truncated": (packed(lambda content: content[:-4000]), Expected(REFUSED, "NIFTI_TRUNCATED")),
    "61-trailing": (packed(lambda data: data + gzip.compress(b"more")), Expected(REFUSED, "NIFTI_SIZE")),
    "61-trailing-junk": (packed(lambda content: content + b"\1" * 99), Expected(REFUSED, "NIFTI_GZIP")),
    "61-damaged": (
        packed(lambda content: content[:9000] + bytes(400) + content[9400:]),
        Expected(REFUSED, "NIFTI_GZIP"),
    ),
    "61-not-packed": (changed(lambda _: None, f"{TOKEN}.nii"), Expected(ASSESSED)),
    "61-name-lies": (misnamed, Expected(REFUSED, "NIFTI_GZIP")),
}


@pytest.mark.parametrize(("build", "expected"), ROWS.values(), ids=ROWS)
def test_row(triage: CommandLine, build: Build, expected: Expected) -> None:
    build(triage.inputs)
    outcome = triage()
    assert (outcome.code, outcome.reasons()) == (
        int(expected.code),
        [] if expected.reason is None else [expected.reason],
    ), outcome.stderr
    statuses = {ASSESSED: "assessed", NOT_ASSESSED: "not_assessed", REFUSED: "refused"}
    assert outcome.result["status"] == statuses[expected.code]
    if expected.code is ASSESSED:
        assert outcome.result["triage"]["predicted_class"] == "COVID-19"


def test_row_70_limits_of_slices_hold_for_nifti(triage: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "load_pipeline", lambda _, settings: oracle_pipeline(settings=settings))
    volume()(triage.inputs)
    assert triage("--set", "limits.minimum_slices=41").reasons() == ["TOO_FEW_SLICES"]
    assert triage("--set", "limits.maximum_slices=39").reasons() == ["NIFTI_SIZE"]
    # 96 x 96 pixels: the limit is one of slices alone.
    assert triage("--set", "limits.maximum_slices=40").code == ExitCode.DONE


PICTURES = {
    "gray16": ("I;16", {}),
    "rgba": ("RGBA", {}),
    "palette": ("P", {}),
    "cmyk": ("CMYK", {"format": "TIFF"}),
    "animated": ("L", {"save_all": True, "append_images": [Image.new("L", (64, 64))]}),
}


@pytest.mark.parametrize(("mode", "options"), PICTURES.values(), ids=PICTURES)
def test_row_62_pictures_are_no_ct(triage: CommandLine, mode: str, options: dict) -> None:
    """Pictures have no Hounsfield units and no place: they are refused, and no decoder sees them."""
    kind = {"format": "PNG", **options}
    Image.new(mode, (64, 64)).save(triage.inputs / "slice.png", **kind)
    triage.expect(Expected(NOT_ASSESSED, "NO_DICOM", {"NOT_DICOM": 1}))


def test_row_62_a_picture_of_huge_dimensions(triage: CommandLine) -> None:
    """A header of 60,000 x 60,000 pixels, which no decoder gets to see."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 16, 6, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (triage.inputs / "slice.png").write_bytes(png + bytes(600))
    triage.expect(Expected(NOT_ASSESSED, "NO_DICOM", {"NOT_DICOM": 1}))


def test_row_63_a_gpu_that_is_not_there_is_no_silent_cpu(triage: CommandLine, real_pipeline: None) -> None:
    make_study(triage.inputs)
    wanted = f"cuda:{torch.cuda.device_count()}"
    outcome = triage("--device", wanted)
    assert outcome.code == ExitCode.USAGE
    assert f"DEVICE: The device {wanted} was asked for" in outcome.stderr


class Small(Oracle):
    """A GPU with room for so many slices."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.batches: list[int] = []

    def forward(self, slices, scales=None):
        self.batches.append(len(slices))
        if len(slices) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(slices, scales)


def use(monkeypatch: pytest.MonkeyPatch, oracle: VolumePipeline, network: Oracle) -> None:
    changed = dataclasses.replace(oracle, network=network.eval())
    monkeypatch.setattr(pipeline, "load_pipeline", lambda *_: changed)


def test_row_63_too_little_memory_halves_the_batch(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch, oracle: VolumePipeline
) -> None:
    make_study(triage.inputs)
    plenty = triage().result
    small = Small(room=3)
    use(monkeypatch, oracle, small)
    assert triage().result["slices"] == plenty["slices"]
    assert {8, 4, 2} <= set(small.batches)


def test_row_63_too_little_memory_for_one_slice(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch, oracle: VolumePipeline
) -> None:
    make_study(triage.inputs)
    use(monkeypatch, oracle, Small(room=0))
    outcome = triage()
    assert (outcome.code, outcome.reasons()) == (ExitCode.INTERNAL, ["OUT_OF_MEMORY"])


@pytest.fixture
def real_pipeline(monkeypatch: pytest.MonkeyPatch, triage: CommandLine) -> None:
    from covid_ct_mask_net.pipeline import load_pipeline

    monkeypatch.setattr(pipeline, "load_pipeline", LOAD or load_pipeline)


# As it is before the fixture replaces it.
LOAD = pipeline.load_pipeline


def altered(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)


WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "WEIGHTS_MISSING"),
    "altered": (altered, "WEIGHTS_UNLISTED"),
    "unlisted": (lambda weights: (weights.parent / "MANIFEST.sha256").write_text(""), "WEIGHTS_UNLISTED"),
    "no manifest": (lambda weights: (weights.parent / "MANIFEST.sha256").unlink(), "WEIGHTS_UNLISTED"),
}


@pytest.mark.parametrize(("spoil", "code"), WEIGHTS.values(), ids=WEIGHTS)
def test_row_64_weights_that_are_not_trusted(
    triage: CommandLine, real_pipeline: None, tmp_path: Path, spoil: Callable[[Path], object], code: str
) -> None:
    """What the manifest does not vouch for is not opened; NaN and other shapes: test_checkpoints.py."""
    make_study(triage.inputs)
    bundle = small_bundle(tmp_path / "bundle")
    spoil(bundle / "models" / "model.pt")
    outcome = triage("--bundle", str(bundle))
    assert outcome.code == ExitCode.UNTRUSTED_MODEL
    assert re.search(rf"^{code}: .+\.$", outcome.stderr, re.MULTILINE), outcome.stderr
    assert not outcome.results
    audit = (outcome.output / "audit.jsonl").read_text()
    assert '"Security Alert"' in audit
    assert f'"reason": "{code}"' in audit


def test_row_64_other_architecture_is_no_partial_load(
    triage: CommandLine, real_pipeline: None, tmp_path: Path
) -> None:
    make_study(triage.inputs)
    bundle = small_bundle(tmp_path / "bundle")
    config = bundle / "configs" / "inference.yaml"
    config.write_text(config.read_text().replace("rpn_top_testing: ", "rpn_top_testing: 1"))
    outcome = triage("--bundle", str(bundle))
    assert outcome.code == ExitCode.UNTRUSTED_MODEL
    assert "WEIGHTS_MISMATCH" in outcome.stderr


def test_row_65_untrained_weights_are_named_everywhere(triage: CommandLine) -> None:
    make_study(triage.inputs)
    outcome = triage()
    assert "no diagnostic value" in outcome.result["model"]["notice"]
    folder = outcome.output / outcome.result["pseudonym"]
    assert "no diagnostic value" in str(pydicom.dcmread(folder / "sr.dcm"))
    assert "no diagnostic value" in (folder / "report.html").read_text()
    assert "no diagnostic value" in outcome.stdout


class Odd(Oracle):
    """A model that answers oddly."""

    def __init__(self, logits: tuple[float, ...] | None = None, *, detections: bool = True) -> None:
        super().__init__()
        self.logits = logits
        self.detections = detections

    def forward(self, slices, scales=None):
        found = super().forward(slices, scales)
        if not self.detections:
            found = [
                dataclasses.replace(
                    one, **{key: getattr(one, key)[:0] for key in ("boxes", "labels", "scores", "masks")}
                )
                for one in found
            ]
        if self.logits is not None:
            found = [dataclasses.replace(one, logits=torch.tensor(self.logits)) for one in found]
        return found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_row_66_answers_that_are_no_numbers(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch, oracle: VolumePipeline, value: float
) -> None:
    make_study(triage.inputs)
    use(monkeypatch, oracle, Odd((0.0, value, 0.0)))
    triage.expect(Expected(NOT_ASSESSED, "MODEL_NON_FINITE"))


def test_row_66_no_detections_and_equal_scores(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch, oracle: VolumePipeline
) -> None:
    make_study(triage.inputs)
    use(monkeypatch, oracle, Odd((1.0, 1.0, 1.0), detections=False))
    first, second = triage().result, triage().result
    assert first["lesions"] == []
    assert first["triage"]["probabilities"] == pytest.approx([1 / 3] * 3)
    assert first["triage"] == second["triage"]
