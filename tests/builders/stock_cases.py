"""Studies on which the stock operators of the App SDK go wrong: what is right, what they give, what we give.

Each side says what it makes of the same files in the same words, so that they can be compared as texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import itk
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLosslessSV1

from builders import stock
from builders.dicom import make_ct_series, make_enhanced_ct, make_localizer, phantom_hu
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.app import intake
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.codes import CLASS_CODES
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.study_job import StudyJob
from covid_ct_mask_net.labels import SLICE_CLASS_NAMES, SliceClass
from covid_ct_mask_net.pipeline import VolumePipeline

HU = phantom_hu()


@dataclass(frozen=True)
class Case:
    """One situation.

    ``make`` writes the files; ``right`` is the true answer; ``stock`` and ``ours`` say what each side gives.
    """

    name: str
    situation: str
    right: str
    make: Callable[[Path], object]
    stock: Callable[[Path], str]
    ours: Callable[[Path], str]


def _failed(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"stops: {type(cause).__name__}"


def _by_stock(look: Callable[[stock.Stock], str]) -> Callable[[Path], str]:
    def observe(folder: Path) -> str:
        try:
            return look(stock.read(folder))
        # Whatever they raise is what an application dies of.
        except Exception as error:
            return _failed(error)

    return observe


def _jobs(folder: Path) -> tuple[StudyChain, list[StudyJob]]:
    out = folder.with_name(f"{folder.name}-ours")
    run = TriageRun.start([folder], out)
    return StudyChain(_pipeline(), out), list(run.jobs())


@cache
def _pipeline() -> VolumePipeline:
    return oracle_pipeline()


def _by_ours(look: Callable[[StudyJob], str]) -> Callable[[Path], str]:
    """Select and load the only study, and say what came of it."""

    def observe(folder: Path) -> str:
        chain, (job,) = _jobs(folder)
        for name, stage in chain.stages[:2]:
            chain.attempt(name, stage, job)
        try:
            return f"declined: {job.error.code}" if job.error is not None else look(job)
        finally:
            if job.readers is not None:
                job.readers.close()

    return observe


# What both sides can say of a volume.
def _range(hu: NDArray) -> str:
    return f"{hu.min():.0f} to {hu.max():.0f} HU"


def _stock_range(seen: stock.Stock) -> str:
    return _range(seen.image.asnumpy())


def _our_range(job: StudyJob) -> str:
    return _range(job.data["volume"].numpy())


def _stock_slices(seen: stock.Stock) -> str:
    return f"{len(seen.image.asnumpy())} slices, {seen.depth_mm:g} mm apart"


def _our_slices(job: StudyJob) -> str:
    assert job.volume is not None
    geometry = job.volume.geometry
    told = "; gap reported" if any(w.code == "SLICE_GAP" for w in job.volume.warnings) else ""
    return f"{geometry.shape[2]} slices, {geometry.spacing_mm[2]:g} mm apart{told}"


def _pixels(wide: float, high: float) -> str:
    return f"pixels {wide:g} mm wide, {high:g} mm high"


def _affine_pixels(affine: NDArray) -> str:
    wide, high = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :2], axis=0)
    return _pixels(round(float(wide), 4), round(float(high), 4))


def itk_pixels(folder: Path) -> str:
    """What ITK, a third party, says of the files."""
    names = itk.GDCMSeriesFileNames.New(Directory=str(folder)).GetInputFileNames()
    wide, high, _ = itk.imread([str(n) for n in names]).GetSpacing()
    return _pixels(round(float(wide), 4), round(float(high), 4))


# Reports of two patients.
def _two_patients(folder: Path) -> None:
    for patient in ("P1", "P2"):
        make_ct_series(folder / patient, hu=chest_with_lesions(), spacing=SPACING, patient_id=patient)


def _patient_of(folder: Path) -> dict[str, str]:
    """Patient IDs by Study Instance UID and by SOP Instance UID."""
    found = {}
    for path in folder.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        found[str(header.StudyInstanceUID)] = found[str(header.SOPInstanceUID)] = str(header.PatientID)
    return found


def _reports(reports: Sequence[tuple[str, set[str]]]) -> str:
    wrong = sum(images != {patient} for patient, images in reports)
    return f"{len(reports)} report(s) for 2 patients, {wrong} on the images of the other one"


def _stock_reports(folder: Path) -> str:
    seen, patients = stock.read(folder), _patient_of(folder)
    report = stock.report(seen.selected, "result", folder.with_name("stock-sr"))
    read = patients[seen.image.metadata()["StudyInstanceUID"]]
    return _reports([(str(report.PatientID), {read})])


def _our_reports(folder: Path) -> str:
    (chain, jobs), patients = _jobs(folder), _patient_of(folder)
    found = []
    for job in jobs:
        result = chain.run(job)
        report = pydicom.dcmread(chain.output / result.pseudonym / "sr.dcm")
        # What the report names as evidence, without its own segmentation, and what was read.
        evidence = [u for u in _referenced(report) if u in patients] + [
            s.sop_instance_uid for s in result.slices if s.sop_instance_uid
        ]
        found.append((str(report.PatientID), {patients[uid] for uid in evidence}))
    return _reports(found)


def _referenced(report: Dataset) -> list[str]:
    return [
        str(instance.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]


def _one_series_uid(folder: Path) -> None:
    for patient in ("P1", "P2"):
        make_ct_series(folder / patient, patient_id=patient, series_uid="1.2.826.0.1.3680043.10.1")


def _patients_of_series(series: Sequence[Sequence[str]]) -> str:
    held = sorted("+".join(sorted(set(one))) or "nobody" for one in series)
    return f"series of {' and of '.join(held)}"


def _stock_patients(folder: Path) -> str:
    studies = stock.load(folder)
    return _patients_of_series(
        [
            [
                str(i.get_native_sop_instance().PatientID)
                for s in study.get_all_series()
                for i in s.get_sop_instances()
            ]
            for study in studies
        ]
    )


def _our_patients(folder: Path) -> str:
    found = intake.scan([folder])
    return _patients_of_series(
        [
            [str(instance.header.PatientID) for instance in series.instances]
            for study in found.studies
            for series in study.series
        ]
    )


# The answer in words.
def _chest(folder: Path) -> None:
    make_ct_series(folder, hu=chest_with_lesions(), spacing=SPACING)


def _stock_class(folder: Path) -> str:
    seen = stock.read(folder)
    # The class of the oracle: logit 6 for COVID-19.
    names = list(SLICE_CLASS_NAMES)
    return ", ".join(stock.classify(seen.image, (0.0, 0.0, 6.0), names, folder.parent)["result"])


def _our_class(folder: Path) -> str:
    chain, (job,) = _jobs(folder)
    result = chain.run(job)
    report = pydicom.dcmread(chain.output / result.pseudonym / "sr.dcm")
    (impression,) = [code for name, code in _coded(report) if name == "Impression"]
    (label,) = [c.label for c in SliceClass if CLASS_CODES[c].value == impression]
    return label


def _coded(item: Dataset) -> list[tuple[str, str]]:
    own = []
    if "ConceptNameCodeSequence" in item and item.get("ValueType") == "CODE":
        own = [(item.ConceptNameCodeSequence[0].CodeMeaning, item.ConceptCodeSequence[0].CodeValue)]
    return own + [pair for child in item.get("ContentSequence", []) for pair in _coded(child)]


def _chinese(folder: Path) -> None:
    make_ct_series(folder, patient_name="王^小明", charset="ISO_IR 192")


def _stock_name(folder: Path) -> str:
    return str(stock.report(stock.read(folder).selected, "result", folder.with_name("stock-sr")).PatientName)


def _our_name(folder: Path) -> str:
    chain, (job,) = _jobs(folder)
    return str(pydicom.dcmread(chain.output / chain.run(job).pseudonym / "sr.dcm").PatientName)


def _bright_first_slice(folder: Path) -> None:
    hu = HU.copy()
    hu[0] = 40.0
    make_ct_series(folder, hu=hu)


def _with_localizer(folder: Path) -> None:
    files = make_ct_series(folder)
    series = pydicom.dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID
    scout = phantom_hu((80, 80, 64)).max(axis=1)[None, ::-1]
    make_localizer(
        folder,
        hu=scout,
        origin=(-80.0, 0.0, 46.0),
        series_uid=series,
        series_number=2,
        edit=lambda _, d: setattr(d, "SOPInstanceUID", "2.25.77"),
    )


def _two_phases(folder: Path) -> None:
    # Positions, series and acquisition number of the second phase are those of the first.
    for phase, hu in enumerate((HU, np.where(HU == 40.0, 160.0, HU))):
        files = make_ct_series(
            folder,
            hu=hu,
            series_uid="2.25.5",
            file_name=f"phase-{phase}-{{:04d}}.dcm",
            edit=lambda k, d, phase=phase: setattr(d, "SOPInstanceUID", f"2.25.{1000 + 100 * phase + k}"),
        )
        # A name that puts now the one, now the other phase of a position first.
        for k, path in enumerate(files):
            path.rename(folder / f"{k:04d}-{(k + phase) % 2}.dcm")


def _stock_phases(seen: stock.Stock) -> str:
    volume = seen.image.asnumpy()
    return _phases(len(volume), bool((volume == 40).any()), bool((volume == 160).any()))


def _our_phases(job: StudyJob) -> str:
    hu = job.data["volume"].numpy()
    return _phases(hu.shape[3], bool((hu == 40).any()), bool((hu == 160).any()))


def _phases(slices: int, early: bool, late: bool) -> str:
    return f"{slices} slices {'of both phases mixed' if early and late else 'of one phase'}"


CASES = (
    Case(
        "wrong-patient", "two patients in the input folder",
        "2 report(s) for 2 patients, 0 on the images of the other one",
        _two_patients, _stock_reports, _our_reports,
    ),
    Case(
        "wrong-label", "the network gives COVID-19 a probability of 0.995",
        "COVID-19",
        _chest, _stock_class, _our_class,
    ),
    Case(
        "mixed-patients", "the series of two patients have the same Series Instance UID",
        "series of P1 and of P2",
        _one_series_uid, _stock_patients, _our_patients,
    ),
    Case(
        "hu-wrap", "no pixel of the first slice is below 0 HU",
        "-1000 to 1500 HU",
        _bright_first_slice, _by_stock(_stock_range), _by_ours(_our_range),
    ),
    Case(
        "swapped-spacing", "Pixel Spacing 0.5 (rows) and 0.9 (columns)",
        "pixels 0.9 mm wide, 0.5 mm high",
        lambda folder: make_ct_series(folder, spacing=(5.0, 0.5, 0.9)),
        _by_stock(lambda seen: _affine_pixels(seen.image.metadata()["affine"])),
        _by_ours(lambda job: _affine_pixels(job.data["volume"].affine.numpy())),
    ),
    Case(
        "localizer", "a localizer of the same matrix in the series",
        "20 slices, 5 mm apart",
        _with_localizer, _by_stock(_stock_slices), _by_ours(_our_slices),
    ),
    Case(
        "empty-series-number", "Series Number is empty, as the standard allows (Type 2)",
        "20 slices, 5 mm apart",
        lambda folder: make_ct_series(folder, edit=lambda _, d: setattr(d, "SeriesNumber", None)),
        _by_stock(_stock_slices), _by_ours(_our_slices),
    ),
    Case(
        "enhanced-ct", "Enhanced CT (multi-frame), rescale in the functional groups",
        "-1000 to 1500 HU",
        make_enhanced_ct, _by_stock(_stock_range), _by_ours(_our_range),
    ),
    Case(
        "character-set", "patient name 王^小明",
        "王^小明",
        _chinese, _stock_name, _our_name,
    ),
    Case(
        "gap", "one of 20 slices is missing",
        "20 slices, 5 mm apart; gap reported",
        lambda folder: make_ct_series(folder, missing_slices=[7]),
        _by_stock(_stock_slices), _by_ours(_our_slices),
    ),
    Case(
        "phases", "two contrast phases in one series and acquisition",
        "declined: AMBIGUOUS_SERIES",
        _two_phases, _by_stock(_stock_phases), _by_ours(_our_phases),
    ),
    Case(
        "no-rescale", "Rescale Slope and Intercept are absent: values are not HU",
        "declined: RESCALE",
        lambda folder: make_ct_series(folder, without=("RescaleSlope", "RescaleIntercept", "RescaleType")),
        _by_stock(_stock_range), _by_ours(_our_range),
    ),
    Case(
        "jpeg-lossless", "JPEG Lossless (1.2.840.10008.1.2.4.70), common in archives",
        "-1000 to 1500 HU",
        lambda folder: make_ct_series(folder, transfer_syntax=JPEGLosslessSV1, signed=False),
        _by_stock(_stock_range), _by_ours(_our_range),
    ),
)  # fmt: skip
