"""UIDs of the DICOM results: the same input, model and settings give the same ones.

A second run over a study thus replaces the results of the first in an archive that overwrites, instead of
doubling them. Other slices, another model, version, configuration or outcome give new ones, series too: the
content is another then, and two contents must never have one SOP Instance UID (PS3.5 section 9).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from covid_ct_mask_net import __version__
from covid_ct_mask_net.identifiers import derive_uid


@dataclass(frozen=True)
class ResultUids:
    """Derives the UIDs of one result set.

    Attributes
    ----------
    study_instance_uid
        Study of the source and of the results.
    source
        What else the results depend on: sorted series and instance UIDs of the source, model hash, version,
        and what tells the answer apart from another one on the same instances.
    """

    study_instance_uid: str
    source: tuple[str, ...]

    @classmethod
    def of(
        cls,
        study_instance_uid: str,
        instances: Iterable[tuple[str, str]],
        model_sha256: str,
        version: str = __version__,
        answer: str = "",
    ) -> ResultUids:
        """Return the UIDs of a result set.

        Parameters
        ----------
        study_instance_uid : str
            Study of the source.
        instances : iterable of (str, str)
            Series Instance UID and SOP Instance UID of each source instance, in any order.
        model_sha256 : str
            Hash of the weights; empty without a model.
        version : str
            Version of the software.
        answer : str
            How the study ended and under which configuration.
        """
        ordered = sorted(set(instances))
        source = (*(uid for pair in ordered for uid in pair), model_sha256, version, answer)
        return cls(study_instance_uid, source)

    def series(self, kind: str, form: str = "") -> str:
        """Return the Series Instance UID of the results of a kind, such as ``"sr"``, in one form of it."""
        return derive_uid(self.study_instance_uid, *self.source, "series", kind, form)

    def instance(self, kind: str, number: int = 1, form: str = "") -> str:
        """Return the SOP Instance UID of the ``number``-th object of a kind in one form of it."""
        return derive_uid(self.study_instance_uid, *self.source, "instance", kind, str(number), form)

    def tracking(self, kind: str) -> str:
        """Return the Tracking Unique Identifier of something reported that is not a lesion."""
        return derive_uid(self.study_instance_uid, *self.source, "tracking", kind)


def device_uid(model_sha256: str, version: str = __version__) -> str:
    """Return the Device UID of the software with these weights; a retrained model is another device."""
    return derive_uid("device", model_sha256, version)
