"""The DICOM SR of a study: a TID 1500 tree in one of two SOP classes, written with highdicom."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom.dataset import Dataset

from covid_ct_mask_net.app import codes
from covid_ct_mask_net.app.normalise import quiet_writers
from covid_ct_mask_net.app.outlines import SliceOutline
from covid_ct_mask_net.app.report_settings import SRClass
from covid_ct_mask_net.app.result_object import ResultObjects, file_bytes
from covid_ct_mask_net.app.segmentation import Segmentation
from covid_ct_mask_net.app.sr_content import ReportContent, ReportLimits

_SOP_CLASSES = {
    SRClass.COMPREHENSIVE_3D: sr.Comprehensive3DSR,
    SRClass.COMPREHENSIVE: sr.ComprehensiveSR,
}


def write_sr(
    objects: ResultObjects,
    outlines: Sequence[SliceOutline] = (),
    *,
    segmentation: Segmentation | None = None,
    remarks: Sequence[str] = (),
    sr_class: SRClass = SRClass.COMPREHENSIVE_3D,
    frame_numbers: Sequence[int | None] = (),
    limits: ReportLimits | None = None,
) -> bytes:
    """Return the SR of a study as a DICOM file.

    Parameters
    ----------
    objects : ResultObjects
        The result, assessed or not (the report then says so), and its sources: images that were read or, if
        none were, whatever the study holds. All become evidence.
    outlines : sequence of SliceOutline
        Of the lesions.
    segmentation : Segmentation, optional
        Whose segments the volumes by class refer to.
    remarks : sequence of str
        What else a reader should know, for example why there is no segmentation.
    sr_class : SRClass
        SOP class; the content is the same.
    frame_numbers : sequence of int or None
        Of the slices of a multi-frame image, along the slice axis of the source.
    limits : ReportLimits, optional
        How much is said one by one.
    """
    with quiet_writers():
        content = ReportContent(
            result=objects.result,
            outlines=outlines,
            images=objects.sources.by_uid,
            uids=objects.uids,
            limits=limits or ReportLimits(),
            segmentation=segmentation,
            further_remarks=tuple(remarks),
            frame_numbers=frame_numbers,
        ).build()
        evidence: list[Dataset] = list(objects.sources.instances)
        if segmentation is not None:
            evidence.append(segmentation.dataset)
        # highdicom copies the whole tree and searches it for what the evidence must hold. With many lesions
        # that takes longer than all else: it is given the root alone, and all that was read is evidence.
        (root,) = content
        children = root.ContentSequence
        root.ContentSequence = []
        report = _SOP_CLASSES[sr_class](
            evidence=evidence,
            content=root,
            is_complete=False,
            is_final=False,
            is_verified=False,
            coding_schemes=codes.coding_schemes(),
            # The same answer in another SOP class, or with segments to refer to, is another object.
            **objects.identity("sr", form=f"{sr_class.value}{'' if segmentation is None else ' segments'}"),
        )
        report.ContentSequence = children
        return file_bytes(objects.finish(report))
