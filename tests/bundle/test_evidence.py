from __future__ import annotations

import dataclasses

import pytest

from builders.evidence import evidence, rectangle


def test_evidence_cannot_be_changed_once_it_was_given() -> None:
    one = evidence(3, rectangle(3))
    assert one.instances[0].slice_index == one.slice_index == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.instances[0].score = 1.0  # type: ignore[misc]
