"""Gates on what the headers say of the patient and the examination, and on how sure an answer must be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers
from covid_ct_mask_net.errors import NotAssessableError, UsageError
from covid_ct_mask_net.results import Reason

_AGE = re.compile(r"(\d{3})([DWMY])")
_DAYS = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
# Dates that stand for none in de-identified data.
_DUMMY_YEARS = (1800, 1901)


@dataclass(frozen=True)
class StudyGates:
    """Whom the model may be used on.

    Attributes
    ----------
    minimum_age_years
        Younger patients are not assessed: the cohorts of the paper are adults. 0 turns the gate off.
    unknown_age
        Whether a study without age and usable dates is assessed (with a warning) or not.
    minimum_confidence
        Below this probability of its most likely class a study is not assessed (``LOW_CONFIDENCE``, see
        `triage.volume_triage.VolumeTriage`); 0 leaves that to the bundle, whose own value is 0: it answers.
    """

    minimum_age_years: float = 18.0
    unknown_age: bool = True
    minimum_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.minimum_confidence < 1.0:
            raise UsageError(
                "SETTING",
                f"gates.minimum_confidence is {self.minimum_confidence}, but must be a probability below 1.",
            )

    def check(self, images: Sequence[Dataset]) -> tuple[Reason, ...]:
        """Return warnings on the chosen series.

        Parameters
        ----------
        images : sequence of Dataset
            Headers of the series.

        Raises
        ------
        NotAssessableError
            ``AGE_OUT_OF_RANGE``, or ``AGE_UNKNOWN`` where the settings ask for a known age.
        """
        return (*self._check_age(images[0]), *_contrast(images))

    def _check_age(self, header: Dataset) -> tuple[Reason, ...]:
        if self.minimum_age_years <= 0:
            return ()
        age = age_years(header)
        if age is None:
            sentence = (
                f"The age of the patient is not known; patients from {self.minimum_age_years:g} years are "
                "expected (minimum_age_years)."
            )
            if not self.unknown_age:
                raise NotAssessableError("AGE_UNKNOWN", sentence)
            return (Reason("AGE_UNKNOWN", sentence),)
        if age < self.minimum_age_years:
            # The age itself is a patient's attribute and is not repeated.
            raise NotAssessableError(
                "AGE_OUT_OF_RANGE",
                f"The patient is younger than {self.minimum_age_years:g} years (minimum_age_years); the model"
                " was made for adults.",
            )
        return ()


def age_years(header: Dataset) -> float | None:
    """Return the patient's age from Patient's Age (PS3.5 6.2, AS) or else from the dates, or None."""
    found = _AGE.fullmatch("".join(headers.text(header, "PatientAge")))
    if found is not None:
        return int(found[1]) * _DAYS[found[2]] / _DAYS["Y"]
    birth, study = (_date("".join(headers.text(header, key))) for key in ("PatientBirthDate", "StudyDate"))
    if birth is None or study is None or study <= birth:
        return None
    return (study - birth).days / _DAYS["Y"]


def _date(text: str) -> date | None:
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"\d{8}", text) else None
    except ValueError:
        return None
    return None if day is None or _DUMMY_YEARS[0] <= day.year < _DUMMY_YEARS[1] else day


def _contrast(images: Sequence[Dataset]) -> tuple[Reason, ...]:
    if not any(headers.contrast_agents(image) for image in images):
        return ()
    sentence = (
        "A contrast agent was given; vessels are brighter than in the scans that the model is made for, and "
        "may be taken for consolidation."
    )
    return (Reason("CONTRAST_AGENT", sentence),)
