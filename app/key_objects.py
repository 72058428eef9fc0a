"""Key Object Selection: which images of the study to look at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from highdicom import ko
from pydicom.dataset import Dataset

from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.normalise import quiet_writers
from covid_ct_mask_net.app.result_object import ResultObjects
from covid_ct_mask_net.app.source_slices import SourceSlice, restore_references
from covid_ct_mask_net.app.sr_content import observer

_LARGEST = "Slices on which lesions are largest."
_SUSPICIOUS = "Slices with a high probability of disease; no lesion was outlined."


def key_object_selection(
    objects: ResultObjects,
    key: Sequence[SourceSlice],
    pictures: Sequence[Dataset],
    slices: Mapping[int, SourceSlice],
) -> Dataset | None:
    """Return a selection "Of Interest" of the key slices and their pictures, or None without key slices.

    Parameters
    ----------
    objects : ResultObjects
        The result and its sources.
    key : sequence of SourceSlice
        Slices to look at.
    pictures : sequence of Dataset
        Secondary Capture images of them; may be empty.
    slices : mapping
        All slices that were read, by place.
    """
    if not key:
        return None
    referenced = [*(one.image for one in key), *pictures]
    with quiet_writers():
        content = ko.KeyObjectSelection(
            document_title=codes.OF_INTEREST,
            referenced_objects=referenced,
            observer_device_context=observer(objects.result.model),
            description=f"{_LARGEST if objects.result.lesions else _SUSPICIOUS} {RESEARCH_NOTICE}",
        )
        document = ko.KeyObjectSelectionDocument(
            evidence=referenced,
            content=content,
            # With more or fewer pictures it is another selection.
            **objects.identity("kos", form=f"{len(pictures)} pictures"),
        )
        restore_references(document, slices)
        return objects.finish(document)
