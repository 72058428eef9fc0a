from __future__ import annotations

from builders.result_set import made


def test_the_selection_names_key_slices_and_their_pictures() -> None:
    one = made()
    selection = one.read("kos.dcm")
    items = selection.CurrentRequestedProcedureEvidenceSequence
    named = {
        instance.ReferencedSOPInstanceUID
        for study in items
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    pictures = {one.read(f"sc-{n}.dcm").SOPInstanceUID for n in (1, 2)}
    assert pictures <= named
    assert len(named - pictures) == 2
    assert named - pictures <= set(one.images)
