"""Patient data that no output may show: one token in every attribute that can hold text."""

from __future__ import annotations

from pathlib import Path

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from builders.dicom import Edit, make_ct_series
from builders.oracle import SPACING, chest_with_lesions
from builders.patient_data import TOKEN

# One attribute of each kind that names a patient, a place, a person or holds free text (PS3.15 table E.1-1).
_TEXTS = (
    "AccessionNumber", "StudyID", "ReferringPhysicianName", "InstitutionName", "StudyDescription",
    "ProtocolName", "PatientComments", "OperatorsName", "StationName", "DeviceSerialNumber",
    "PatientAddress", "OtherPatientNames", "PatientMotherBirthName", "PatientTelephoneNumbers",
    "MilitaryRank", "EthnicGroup", "Occupation", "AdditionalPatientHistory", "ImageComments",
    "PerformingPhysicianName", "PhysiciansOfRecord", "RequestedProcedureDescription",
    "InstitutionAddress", "InstitutionalDepartmentName", "IssuerOfPatientID", "ContrastBolusAgent",
    "RequestingPhysician", "CurrentPatientLocation", "AdmissionID", "SoftwareVersions",
    "AcquisitionComments", "DerivationDescription", "ManufacturerModelName",
)  # fmt: skip


# Whatever holds words (PS3.5 table 6.2-1), dates and numbers aside.
_WORDS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})


def every_text(_: int, dataset: Dataset) -> None:
    """Plant the token in every attribute of the dictionary that holds words and is not there yet.

    Retired ones too; and in those of an item of a sequence.
    """
    item = Dataset()
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in _WORDS and keyword and 0x0008 <= tag >> 16 <= 0x5200 and keyword not in dataset:
            dataset.add_new(tag, vr, TOKEN)
            item.add_new(tag, vr, f"{TOKEN}2")
    dataset.RequestAttributesSequence = [item]


def planted(also: Edit | None = None, *, without: tuple[str, ...] = ("ContrastBolusAgent",)) -> Edit:
    """Return an edit that plants the token, and then makes another change."""

    def edit(k: int, dataset: Dataset) -> None:
        for number, keyword in enumerate(_TEXTS):
            if keyword not in without:
                setattr(dataset, keyword, f"{TOKEN}{number}")
        private = dataset.private_block(0x0029, f"{TOKEN} PRIVATE", create=True)
        private.add_new(0x01, "LO", f"{TOKEN}-private")
        private.add_new(0x02, "UN", f"{TOKEN}-bytes".encode())
        if also is not None:
            also(k, dataset)

    return edit


def make_study(folder: Path, *, edit: Edit | None = None, **defect: object) -> list[Path]:
    """Write a chest CT that is assessed as COVID-19, with the token planted, and one defect."""
    defaults: dict[str, object] = {
        "hu": chest_with_lesions(),
        "spacing": SPACING,
        "patient_id": f"{TOKEN}ID",
        "patient_name": f"{TOKEN}NAME^Ångström",
        "description": f"CHEST {TOKEN}DESC",
        "edit": planted(edit),
    }
    return make_ct_series(folder, **{**defaults, **defect})  # type: ignore[arg-type]


def at(places: int | tuple[int, ...], also: Edit) -> Edit:
    """Return an edit of these slices only."""
    chosen = (places,) if isinstance(places, int) else places

    def edit(k: int, dataset: Dataset) -> None:
        if k in chosen:
            also(k, dataset)

    return edit


def values(**changes: object) -> Edit:
    """Return an edit that sets attributes; ``...`` deletes one."""

    def edit(_: int, dataset: Dataset) -> None:
        for keyword, value in changes.items():
            if value is ...:
                if keyword in dataset:
                    delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return edit
