"""Patient data that no output may show: one token in every attribute that can hold text."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from builders.dicom import Edit, make_ct_series
from builders.oracle import SPACING, chest_with_lesions

TOKEN = "ZZPHI"  # noqa: S105

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
