"""What all DICOM results of a study share: whose they are, who made them, when, and under which UIDs."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import highdicom
import pydicom.charset
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from covid_ct_mask_net import RESEARCH_NOTICE, UNTRAINED_NOTICE, __version__
from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.headers import text
from covid_ct_mask_net.app.normalise import UNICODE, Sources, copy_patient_and_study, has_patient_and_study
from covid_ct_mask_net.app.time_stamps import declared_offset, stamp
from covid_ct_mask_net.app.uids import ResultUids, device_uid
from covid_ct_mask_net.clock import now
from covid_ct_mask_net.results import StudyResult

MANUFACTURER = "COVID-CT-Mask-Net developers"
MODEL_NAME = "COVID-CT-Mask-Net"

# Series number, above what scanners and workstations number theirs, and what the series holds.
_SERIES: Mapping[str, tuple[int, str]] = {
    "sr": (9701, "report"),
    "seg": (9702, "lesions"),
    "sc": (9703, "key images"),
    "gsps": (9704, "outlines"),
    "kos": (9705, "selection"),
    "pdf": (9706, "PDF"),
}


@dataclass(frozen=True, eq=False)
class ResultObjects:
    """Makes the DICOM results of one study alike.

    Attributes
    ----------
    result
        Assessed or not.
    sources
        Instances that the results are about.
    uids
        Where their UIDs come from.
    """

    result: StudyResult
    sources: Sources
    uids: ResultUids

    @classmethod
    def of(cls, result: StudyResult, sources: Sources, configuration: str = "") -> ResultObjects:
        """Return the maker of a study's results.

        The same instances, model, version, configuration and outcome give the same UIDs, so that a second run
        replaces the results of the first, and an archive never holds two answers under one UID.

        Parameters
        ----------
        result : StudyResult
            Assessed or not.
        sources : Sources
            Instances that the results are about.
        configuration : str
            Hash of the settings that the answer depends on.
        """
        uids = ResultUids.of(
            str(sources.first.StudyInstanceUID),
            [(str(one.SeriesInstanceUID), str(one.SOPInstanceUID)) for one in sources.instances],
            _model_sha256(result),
            answer=_answer(result, configuration),
        )
        return cls(result, sources, uids)

    @functools.cached_property
    def character_set(self) -> str:
        """That of the sources if it holds all texts, so that names are the same to the byte; else Unicode."""
        encoding = str(pydicom.charset.python_encoding[self.sources.character_set])
        names = (element.value for element in self.sources.first if has_patient_and_study(element.keyword))
        try:
            for text in (self.result.to_json(), *map(str, names)):
                text.encode(encoding)
        except UnicodeEncodeError:
            return UNICODE
        return self.sources.character_set

    @property
    def device_uid(self) -> str:
        """Device UID of the software with its weights."""
        return device_uid(_model_sha256(self.result))

    def identity(self, kind: str, number: int = 1, form: str = "") -> dict[str, Any]:
        """Return the arguments that highdicom's constructors share, for the ``number``-th object of a kind.

        Parameters
        ----------
        kind : str
            ``"sr"``, ``"seg"``, ``"sc"``, ``"gsps"``, ``"kos"`` or ``"pdf"``.
        number : int
            Instance number in the series of this kind, from 1.
        form : str
            What tells it apart from another form of the same answer: the SOP class, what it refers to.
        """
        return {
            "series_instance_uid": self.uids.series(kind, form),
            "series_number": _SERIES[kind][0],
            "sop_instance_uid": self.uids.instance(kind, number, form),
            "instance_number": number,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": __version__,
            "device_serial_number": self.device_uid,
            "series_description": self.series_description(kind),
            "transfer_syntax_uid": ExplicitVRLittleEndian,
            "contributing_equipment": [self._contributing_equipment()],
        }

    def series_description(self, kind: str) -> str:
        """Return the Series Description of a kind, with the research-only mark first (at most 64)."""
        model = self.result.model
        untrained = model is not None and model.notice == UNTRAINED_NOTICE
        return f"RESEARCH ONLY {UNTRAINED_NOTICE if untrained else 'chest CT triage'}: {_SERIES[kind][1]}"

    def finish(self, dataset: Dataset) -> Dataset:
        """Give a result the patient and study of its sources, one time stamp and the character set.

        All objects of a run carry the one time of the run: highdicom stamps each with its own.
        """
        copy_patient_and_study(self.sources.first, dataset)
        stamp(dataset, now(), declared_offset(self.sources.instances))
        dataset.SpecificCharacterSet = self.character_set
        return dataset

    def _contributing_equipment(self) -> highdicom.ContributingEquipment:
        equipment = highdicom.ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=codes.PROCESSING_EQUIPMENT,
            manufacturer_model_name=MODEL_NAME,
            software_versions=__version__,
            contribution_datetime=now(),
            contribution_description=RESEARCH_NOTICE,
        )
        # A retrained model is another device (IHE AI Results, general encoding).
        equipment.DeviceUID = self.device_uid
        return equipment


def is_result(header: Dataset) -> bool:
    """Tell whether an object is one of our results, of any version."""
    maker, model = (text(header, keyword) for keyword in ("Manufacturer", "ManufacturerModelName"))
    return (maker, model) == ((MANUFACTURER,), (MODEL_NAME,))


def file_bytes(dataset: Dataset) -> bytes:
    """Return a result as a DICOM file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _answer(result: StudyResult, configuration: str) -> str:
    """Return what tells one answer on the same instances apart from another.

    Settings of the application need no hash of their own: they act by the instances that are read and by the
    reasons and warnings that they give.
    """
    triage = result.triage
    engine = None if result.model is None else result.model.engine
    return json.dumps(
        [
            configuration,
            None if engine is None else [engine.name, engine.precision],
            result.status.value,
            [[one.code, one.sentence] for one in (*result.reasons, *result.warnings)],
            None if triage is None else [triage.predicted_class.label, triage.priority.value],
        ]
    )


def _model_sha256(result: StudyResult) -> str:
    return "" if result.model is None else result.model.sha256
