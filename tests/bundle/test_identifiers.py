from __future__ import annotations

import re

import pytest

from covid_ct_mask_net.identifiers import derive_uid, pseudonym


def test_uids_are_valid_stable_and_tell_sources_apart() -> None:
    uids = {derive_uid(*s) for s in [("ab", "c"), ("a", "bc"), ("abc",), ("c", "ab"), ()]}
    assert len(uids) == 5
    for uid in uids:
        assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]*)", uid)
        assert len(uid) <= 64
    # Archives hold results under these: they must not change from release to release.
    assert derive_uid("ab", "c") == "2.25.180942915668610819731006191937499244602"


def test_the_pseudonym_depends_on_the_key_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COVID_CT_MASK_NET_SITE_KEY", raising=False)
    without = pseudonym("1.2.3")
    assert re.fullmatch(r"[0-9a-f]{12}", without)
    assert pseudonym("1.2.3") == without != pseudonym("1.2.4")
    monkeypatch.setenv("COVID_CT_MASK_NET_SITE_KEY", "our secret")
    assert pseudonym("1.2.3") != without
