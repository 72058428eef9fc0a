from __future__ import annotations

from pydicom.sr.coding import Code

from covid_ct_mask_net.app import codes
from covid_ct_mask_net.labels import LesionClass, Side, SliceClass, Zone
from covid_ct_mask_net.results import Priority


def test_every_class_side_and_zone_has_its_own_code() -> None:
    tables = [
        (codes.CLASS_CODES, SliceClass), (codes.LESION_CODES, LesionClass),
        (codes.SIDE_CODES, Side), (codes.ZONE_CODES, Zone),
    ]  # fmt: skip
    for table, members in tables:
        assert set(table) == set(members)
        assert len({(code.value, code.scheme_designator) for code in table.values()}) == len(table)


def test_covid_19_is_suspected_and_routine_studies_are_not_actionable() -> None:
    assert codes.CLASS_CODES[SliceClass.COVID_19].value == "840544004"
    assert Priority.ROUTINE not in codes.PRIORITY_CODES


def test_meanings_are_short_and_the_private_scheme_is_declared() -> None:
    ours = [value for value in vars(codes).values() if isinstance(value, Code)]
    assert len(ours) > 25
    assert max(len(code.meaning) for code in ours) <= 64
    private = {code.scheme_designator for code in ours if code.scheme_designator.startswith("99")}
    assert private == {codes.PRIVATE_SCHEME} == {s.CodingSchemeDesignator for s in codes.coding_schemes()}
