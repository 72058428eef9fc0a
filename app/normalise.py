"""Source headers as the writers of DICOM results need them: complete, valid, in Unicode, and copies.

What an archive holds is not always what the standard asks for: Type 2 attributes are absent, codes are in the
wrong case, dates are text, names are in a character set that is not declared. Results must be valid whatever
the source was, so each attribute is taken over if it is right and left empty, with a warning, if it is not.
A value is never cut, guessed or corrected: half a name or a guessed letter could be another patient.
"""

from __future__ import annotations

import codecs
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pydicom.charset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import VR, validate_value

from covid_ct_mask_net.app.headers import DAMAGE, items, quiet_pydicom, quieted
from covid_ct_mask_net.app.iod_lookups import remembered_lookups
from covid_ct_mask_net.errors import OutputError
from covid_ct_mask_net.results import Reason

UNICODE = "ISO_IR 192"
# Of one byte, without code extensions (PS3.3 C.12.1.1.2): what they hold can be written as it came.
_SINGLE_BYTE = frozenset(f"ISO_IR {number}" for number in (100, 101, 109, 110, 126, 127, 138, 144, 148, 166))

# Patient, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2), Type 2 and Type 3. The
# results of a study must not differ from its images in these (PS3.3 A.1.2.1).
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_TYPE_3 = (
    "IssuerOfPatientID",
    "PatientBirthTime",
    "PatientComments",
    "EthnicGroup",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdditionalPatientHistory",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# What the instances are references for: geometry, pixel format, acquisition equipment.
_INSTANCE = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "InstanceNumber",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "TimezoneOffsetFromUTC",
)
_TEXT = {VR.AE, VR.AS, VR.CS, VR.LO, VR.LT, VR.PN, VR.SH, VR.ST, VR.UC, VR.UT}
_SEXES = ("M", "F", "O")


@dataclass(frozen=True, eq=False)
class Sources:
    """Instances that a report is about.

    Attributes
    ----------
    instances
        One dataset an instance, in the order given, each SOP instance once: identifiers, patient, study,
        geometry and pixel format; no pixels. Patient and study are the same in all of them.
    warnings
        What was wrong with the attributes; each names keywords, never values.
    character_set
        That of all the instances, if it is one of one byte, else Unicode.
    """

    instances: tuple[Dataset, ...]
    warnings: tuple[Reason, ...] = ()
    character_set: str = UNICODE

    @property
    def first(self) -> Dataset:
        """Instance that stands for patient and study."""
        return self.instances[0]

    @property
    def by_uid(self) -> dict[str, Dataset]:
        """Instances by SOP Instance UID."""
        return {str(instance.SOPInstanceUID): instance for instance in self.instances}


def normalise(headers: Iterable[Dataset | None], study_instance_uid: str | None) -> Sources:
    """Return valid copies of source headers; the headers themselves are not changed.

    Parameters
    ----------
    headers : iterable of Dataset or None
        Headers of instances of one study, as intake keeps them; None (an interpolated slice) is left out.
    study_instance_uid : str or None
        Study that the result is of.

    Raises
    ------
    OutputError
        ``NO_INSTANCE`` without a header, ``OTHER_STUDY`` if an instance is of another study than the result.
    """
    unique = {str(header.SOPInstanceUID): header for header in headers if header is not None}
    if not unique:
        raise OutputError(
            "NO_INSTANCE", "A DICOM report needs the header of an instance of its study, but none was given."
        )
    if any(str(header.StudyInstanceUID) != study_instance_uid for header in unique.values()):
        raise OutputError(
            "OTHER_STUDY",
            "An instance that the report should refer to is of another study than the result; nothing was "
            "written.",
        )
    with quiet_pydicom():
        shared, warnings = _patient_and_study([unique[uid] for uid in sorted(unique)])
        instances = tuple(_instance(header, shared) for header in unique.values())
        return Sources(instances, warnings, _character_set(unique.values()))


def _character_set(headers: Iterable[Dataset]) -> str:
    declared = {str(header.get("SpecificCharacterSet") or "") for header in headers}
    return declared.pop() if len(declared) == 1 and declared <= _SINGLE_BYTE else UNICODE


def has_patient_and_study(keyword: str) -> bool:
    """Tell whether an attribute belongs to the patient or the study and is taken over into results."""
    return keyword in _TYPE_2 or keyword in _TYPE_3 or keyword == "DeidentificationMethodCodeSequence"


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Give a result the patient and study attributes of a normalised instance, all of them and no others."""
    for element in source:
        if has_patient_and_study(element.keyword):
            target.add(copy.deepcopy(element))


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Keep pydicom and highdicom silent while they write: they quote names in warnings and logs."""
    with quiet_pydicom(), quieted("highdicom"), remembered_lookups():
        yield


def _patient_and_study(headers: Sequence[Dataset]) -> tuple[Dataset, tuple[Reason, ...]]:
    shared = Dataset()
    shared.SpecificCharacterSet = UNICODE
    invalid = []
    for keyword in (*_TYPE_2, *_TYPE_3):
        found, damaged = _first_valid(headers, keyword)
        if found is not None:
            setattr(shared, keyword, found)
        elif keyword in _TYPE_2:
            setattr(shared, keyword, "")
        if damaged:
            invalid.append(keyword)
    _copy_deidentification(headers, shared)
    if not invalid:
        return shared, ()
    sentence = (
        f"The source holds {', '.join(invalid)} in a form that the standard does not allow or in a character "
        "set that is not declared; the results leave it empty. Identify the study by its other attributes."
    )
    return shared, (Reason("ATTRIBUTE_INVALID", sentence),)


def _first_valid(headers: Sequence[Dataset], keyword: str) -> tuple[object, bool]:
    """Return the first valid value; if there is none, None and whether one was there that is not valid."""
    damaged = False
    for header in headers:
        value = _value(header, keyword)
        if isinstance(value, _Invalid):
            damaged = True
        elif value not in (None, "", []):
            return value, False
    return None, damaged


def _copy_deidentification(headers: Sequence[Dataset], shared: Dataset) -> None:
    """Keep how the patient was de-identified: one form of it is required (PS3.3 C.7.1.1, Type 1C)."""
    if shared.get("PatientIdentityRemoved") != "YES":
        return
    sequences = [items(header, "DeidentificationMethodCodeSequence") for header in headers]
    codes = []
    for item in next((sequence for sequence in sequences if sequence), ()):
        code = Dataset()
        for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"):
            value = _value(item, keyword)
            if value and not isinstance(value, _Invalid):
                setattr(code, keyword, value)
        if len(code) == 3:
            codes.append(code)
    if codes:
        shared.DeidentificationMethodCodeSequence = codes
    elif "DeidentificationMethod" not in shared:
        shared.DeidentificationMethod = "not stated by the source"


def _instance(header: Dataset, shared: Dataset) -> Dataset:
    # copy.copy would leave all instances with one and the same dictionary of elements.
    instance = Dataset()
    instance.update(shared)
    for keyword in _IDENTIFIERS:
        setattr(instance, keyword, str(header[keyword].value))
    for keyword in _INSTANCE:
        value = _value(header, keyword)
        if not isinstance(value, _Invalid) and value not in (None, "", []):
            setattr(instance, keyword, value)
    return instance


class _Invalid:
    """Stands for a value that must not be used."""


def _value(header: Dataset, keyword: str) -> object:
    """Return a value of a header as the standard allows it, ``None`` if absent, or ``_Invalid``."""
    try:
        value = header.get(keyword)
        if value is None or value == "":
            return None
        return _checked(value, keyword, header)
    except DAMAGE:
        return _Invalid()


def _checked(value: object, keyword: str, header: Dataset) -> object:
    vr = dictionary_VR(keyword)
    values = list(value) if isinstance(value, MultiValue | list) else [value]
    if vr not in _TEXT:
        # A file may give any element the representation of a person's name, whose values are no texts.
        plain: list[Any] = [
            v if isinstance(v, int | float | bytes) and vr not in (VR.DA, VR.TM, VR.DT, VR.UI) else str(v)
            for v in values
        ]
        for item in plain:
            # Decimal and integer strings are checked as they were written, not as the numbers they became.
            validate_value(str(vr), str(item) if vr in (VR.DS, VR.IS) else item, RAISE)
        return plain if len(plain) > 1 else plain[0]
    plain = [str(item) for item in values]
    for item in plain:
        validate_value(str(vr), item, RAISE)
    readable = _readable_text(header)
    several = keyword == "DeidentificationMethod"
    unreadable = any(not readable(item) for item in plain)
    if unreadable or (len(plain) > 1 and not several) or (keyword == "PatientSex" and plain[0] not in _SEXES):
        return _Invalid()
    return plain if several and len(plain) > 1 else plain[0]


def _readable_text(header: Dataset) -> Callable[[str], bool]:
    """Return the test that a decoded text is what was meant.

    Only ASCII is certain if no character set, or an unknown one, is declared: pydicom then decodes as
    Latin-1, which turns every name into some text. Otherwise nothing may have been replaced in decoding.
    """
    declared = header.get("SpecificCharacterSet") or ""
    names = [declared] if isinstance(declared, str) else list(declared)
    extended = any(name not in ("", "ISO_IR 6", "ISO 2022 IR 6") for name in names)
    if extended and all(_is_known(name) for name in names):
        return lambda text: "\N{REPLACEMENT CHARACTER}" not in text and "\x1b" not in text
    return lambda text: text.isascii() and "\x1b" not in text


def _is_known(name: str) -> bool:
    """Tell whether pydicom decodes a character set by this name, common misspellings included."""
    if name in pydicom.charset.python_encoding:
        return True
    # "ISO-IR 100", "ISO IR 100" and the like, as pydicom corrects them.
    corrected = {f"ISO_IR{name[6:]}", f"ISO 2022 IR {name[12:]}"}
    if name.startswith("ISO"):
        return bool(corrected & set(pydicom.charset.python_encoding))
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True
