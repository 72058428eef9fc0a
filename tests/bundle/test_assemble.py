from __future__ import annotations

import pytest

from builders.evidence import MODEL
from builders.results import assessed, declined, outcome, source
from covid_ct_mask_net import __version__, assemble
from covid_ct_mask_net.errors import (
    CovidCTMaskNetError,
    NotAssessableError,
    OutputError,
    RefusedInputError,
    UntrustedModelError,
)
from covid_ct_mask_net.results import Status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotAssessableError, Status.NOT_ASSESSED),
        (RefusedInputError, Status.REFUSED),
        (UntrustedModelError, Status.FAILED),
        (OutputError, Status.FAILED),
    ],
)
def test_the_kind_of_error_gives_the_status(error: type[CovidCTMaskNetError], status: Status) -> None:
    result = declined(error("CODE", "A sentence."))
    assert result.status is status
    assert [(r.code, r.sentence) for r in result.reasons] == [("CODE", "A sentence.")]
    assert result.triage is None
    assert result.lesions == ()


def test_slices_get_the_instance_that_they_were_read_from() -> None:
    uids = tuple(f"1.2.3.{k}" for k in range(12))
    result = assemble.assessed(source(sop_instance_uids=uids), outcome(), MODEL)
    assert [(s.source_index, s.sop_instance_uid) for s in result.slices] == [(4, "1.2.3.4"), (5, "1.2.3.5")]
    assert {s.sop_instance_uid for s in assessed().slices} == {None}


def test_software_names_what_results_depend_on() -> None:
    versions = assemble.software_versions(("pydicom",))
    assert versions["covid-ct-mask-net"] == __version__
    assert {"python", "torch", "torchvision", "monai", "numpy", "pydicom"} <= set(versions)
