"""The time stamp of DICOM results, in the time zone of their sources."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

from pydicom.dataset import Dataset
from pydicom.valuerep import DT

from covid_ct_mask_net.app.headers import text

# PS3.3 C.12.1.1.8: "+" or "-", hours and minutes; UTC is never -0000.
_OFFSET = re.compile(r"(?!-0000)([+-])(0\d|1[0-4])([0-5]\d)")
_STEMS = ("Content", "Series", "InstanceCreation", "PresentationCreation")


def declared_offset(instances: Iterable[Dataset]) -> str | None:
    """Return the Timezone Offset From UTC that all instances declare, or None."""
    declared = {text(instance, "TimezoneOffsetFromUTC") for instance in instances}
    values = declared.pop() if len(declared) == 1 else ()
    return values[0] if len(values) == 1 and _OFFSET.fullmatch(values[0]) else None


def stamp(dataset: Dataset, moment: datetime, offset: str | None) -> None:
    """Give a result one moment for all its own dates and times.

    Timezone Offset From UTC holds for every date and time of an object, those of the study too, which are
    copies of the source's. So it is written only as the source declares it, and our own times are in it.
    Without one they are in UTC; Contribution DateTime holds its own offset and tells the moment either way.

    Parameters
    ----------
    dataset : Dataset
        Changed in place.
    moment : datetime
        With its time zone.
    offset : str or None
        As ``declared_offset`` returns it.
    """
    moment = moment.astimezone(UTC if offset is None else _zone(offset))
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for stem in _STEMS:
        if f"{stem}Date" in dataset or stem in ("Series", "InstanceCreation"):
            setattr(dataset, f"{stem}Date", date)
            setattr(dataset, f"{stem}Time", time)
    if "DateOfSecondaryCapture" in dataset:
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = date, time
    for item in dataset.get("ContributingEquipmentSequence", []):
        if "ContributionDateTime" in item:
            item.ContributionDateTime = DT(moment)
    if offset is not None:
        dataset.TimezoneOffsetFromUTC = offset
    elif "TimezoneOffsetFromUTC" in dataset:
        del dataset.TimezoneOffsetFromUTC


def _zone(offset: str) -> timezone:
    distance = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5]))
    return timezone(-distance if offset[0] == "-" else distance)
