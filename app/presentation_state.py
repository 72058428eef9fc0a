"""Outlines for display on the original images: Grayscale Softcopy Presentation State (GSPS)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from highdicom import pr
from pydicom.dataset import Dataset

from covid_ct_mask_net.app.graphic_data import PLACEHOLDER, with_points
from covid_ct_mask_net.app.normalise import quiet_writers
from covid_ct_mask_net.app.outlines import SliceOutline
from covid_ct_mask_net.app.overlays import LUNG_WINDOW
from covid_ct_mask_net.app.result_object import MODEL_NAME, ResultObjects
from covid_ct_mask_net.app.source_slices import SourceSlice, restore_references
from covid_ct_mask_net.labels import LesionClass
from covid_ct_mask_net.results import LesionReport


def presentation_state(
    objects: ResultObjects,
    outlines: Sequence[SliceOutline],
    slices: Mapping[int, SourceSlice],
    lesions: Sequence[LesionReport],
) -> Dataset | None:
    """Return the presentation state of all images with outlines, or None if there is none.

    Parameters
    ----------
    objects : ResultObjects
        The result and its sources.
    outlines : sequence of SliceOutline
        Of the lesions.
    slices : mapping
        Slices that were read, by place.
    lesions : sequence of LesionReport
        In the order of their numbers; an outline has the tracking UID of its lesion.
    """
    if not outlines:
        return None
    by_place: defaultdict[int, list[SliceOutline]] = defaultdict(list)
    for outline in outlines:
        by_place[outline.place].append(outline)
    layers = {
        lesion_class: pr.GraphicLayer(
            lesion_class.name[:16],
            order=lesion_class.value,
            description=f"{lesion_class.label}, research use only",
        )
        for lesion_class in LesionClass
    }
    with quiet_writers():
        annotations = [
            _annotation(slices[place], group, layers[lesion_class], lesions)
            for place in sorted(by_place)
            for lesion_class in LesionClass
            if (group := [o for o in by_place[place] if _class(o, lesions) is lesion_class])
        ]
        level, width = LUNG_WINDOW
        state = pr.GrayscaleSoftcopyPresentationState(
            referenced_images=[slices[place].image for place in sorted(by_place)],
            content_label="LESION_OUTLINES",
            content_description="Outlines of lesions, research use only",
            content_creator_name=f"{MODEL_NAME}^",
            graphic_layers=[layers[c] for c in LesionClass if any(_class(o, lesions) is c for o in outlines)],
            graphic_annotations=annotations,
            voi_lut_transformations=[
                pr.SoftcopyVOILUTTransformation(
                    window_center=level, window_width=width, window_explanation="LUNG"
                )
            ],
            **objects.identity("gsps"),
        )
        state.BodyPartExamined = "CHEST"
        restore_references(state, slices)
        return objects.finish(state)


def _class(outline: SliceOutline, lesions: Sequence[LesionReport]) -> LesionClass:
    return lesions[outline.lesion_number - 1].lesion_class


def _annotation(
    source: SourceSlice,
    outlines: Sequence[SliceOutline],
    layer: pr.GraphicLayer,
    lesions: Sequence[LesionReport],
) -> pr.GraphicAnnotation:
    graphics = []
    for outline in outlines:
        lesion = lesions[outline.lesion_number - 1]
        template = pr.GraphicObject(
            graphic_type=pr.GraphicTypeValues.POLYLINE,
            graphic_data=PLACEHOLDER,
            units=pr.AnnotationUnitsValues.PIXEL,
            tracking_id=lesion.tracking_id,
            tracking_uid=lesion.tracking_uid,
        )
        graphics += [with_points(template, polygon) for polygon in outline.polygons]
    return pr.GraphicAnnotation(
        referenced_images=[source.image], graphic_layer=layer, graphic_objects=graphics
    )
