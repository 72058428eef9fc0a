"""All DICOM results of a study, as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from covid_ct_mask_net.app.encapsulated_pdf import encapsulate
from covid_ct_mask_net.app.findings import Findings
from covid_ct_mask_net.app.key_images import key_images
from covid_ct_mask_net.app.key_objects import key_object_selection
from covid_ct_mask_net.app.normalise import Sources
from covid_ct_mask_net.app.outlines import SliceOutline
from covid_ct_mask_net.app.pdf_report import pdf_report
from covid_ct_mask_net.app.presentation_state import presentation_state
from covid_ct_mask_net.app.report_settings import ReportSettings
from covid_ct_mask_net.app.result_object import ResultObjects, file_bytes
from covid_ct_mask_net.app.segmentation import Segmentation, segment_lesions
from covid_ct_mask_net.app.source_slices import SourceSlice, has_frame_of_reference, source_slices
from covid_ct_mask_net.app.structured_report import write_sr
from covid_ct_mask_net.app.views import View
from covid_ct_mask_net.app.volume import SourceVolume
from covid_ct_mask_net.geometry import voxel_volume_ml
from covid_ct_mask_net.results import StudyResult

_NO_LESION = "Without a lesion there is nothing to segment or to outline: these objects are absent."
_NO_FRAME_OF_REFERENCE = (
    "No segmentation: the images do not declare one frame of reference, so its voxels would have no place."
)
_INTERPOLATED = (
    "{} slices with lesion voxels were missing in the series and interpolated; the segmentation and the "
    "outlines leave them out, the volumes of single lesions count them."
)


@dataclass(frozen=True, eq=False)
class Images:
    """An assessed series: the volume as read, what was found in it, and views of it for people."""

    volume: SourceVolume
    findings: Findings
    views: tuple[View, ...]


def dicom_results(
    result: StudyResult,
    sources: Sources,
    images: Images | None,
    settings: ReportSettings,
    configuration: str = "",
) -> dict[str, bytes]:
    """Return the DICOM results of a study by file name.

    Parameters
    ----------
    result : StudyResult
        Assessed or not.
    sources : Sources
        Instances that it is about.
    images : Images or None
        The assessed series; None for a study that was not assessed, which gets a report alone.
    settings : ReportSettings
        What is written.
    configuration : str
        Hash of the settings that the answer depends on.
    """
    objects = ResultObjects.of(result, sources, configuration)
    if images is None:
        return {"sr.dcm": write_sr(objects, sr_class=settings.sr_class)}
    volume, findings = images.volume, images.findings
    slices = source_slices(sources, volume.headers, volume.frame_numbers)
    outlines = findings.outlines(volume)
    segmentation, remarks = _segmentation(objects, findings, slices, settings)
    files = {
        "sr.dcm": write_sr(
            objects,
            outlines,
            segmentation=segmentation,
            remarks=remarks,
            sr_class=settings.sr_class,
            frame_numbers=volume.frame_numbers,
        )
    }
    if segmentation is not None:
        files["seg.dcm"] = file_bytes(segmentation.dataset)
    # A negative study shows nothing, and pictures of nothing are only in a reader's way.
    if outlines or not (findings.lesions or (result.triage is not None and result.triage.negative)):
        files |= _display(objects, images, slices, outlines, settings)
    if settings.pdf:
        pictures = [view.picture for view in images.views]
        files["pdf.dcm"] = file_bytes(encapsulate(objects, pdf_report(result, pictures)))
    return files


def _segmentation(
    objects: ResultObjects,
    findings: Findings,
    slices: Mapping[int, SourceSlice],
    settings: ReportSettings,
) -> tuple[Segmentation | None, list[str]]:
    """Return the segmentation and what the report should say about it."""
    if not findings.lesions:
        return None, [_NO_LESION]
    remarks = _left_out(findings.source_labels, slices)
    if not settings.segmentation:
        return None, remarks
    if not has_frame_of_reference(slices.values()):
        return None, [*remarks, _NO_FRAME_OF_REFERENCE]
    voxel_ml = voxel_volume_ml(findings.grid.affine)
    segmentation = segment_lesions(
        objects, findings.source_labels, slices, voxel_ml, reduction=findings.reduction
    )
    return segmentation, remarks


def _left_out(labels: NDArray[np.uint8], slices: Mapping[int, SourceSlice]) -> list[str]:
    missing = [p for p, plane in enumerate(labels.transpose(2, 1, 0)) if p not in slices and plane.any()]
    return [_INTERPOLATED.format(len(missing))] if missing else []


def _display(
    objects: ResultObjects,
    images: Images,
    slices: Mapping[int, SourceSlice],
    outlines: tuple[SliceOutline, ...],
    settings: ReportSettings,
) -> dict[str, bytes]:
    """Return key images, presentation state and key object selection of a study that is not negative."""
    grid, views = images.findings.grid, images.views
    key = [slices[grid.source_slice(view.key.slice_index)] for view in views]
    most = settings.key_images
    captures = key_images(objects, [view.picture for view in views[:most]], key[:most])
    datasets: dict[str, Dataset | None] = {f"sc-{n}.dcm": one for n, one in enumerate(captures, start=1)}
    if settings.presentation_state:
        datasets["gsps.dcm"] = presentation_state(objects, outlines, slices, images.findings.lesions)
    if settings.key_objects:
        datasets["kos.dcm"] = key_object_selection(objects, key, captures, slices)
    return {name: file_bytes(dataset) for name, dataset in datasets.items() if dataset is not None}
