from __future__ import annotations

from covid_ct_mask_net.app.uids import ResultUids, device_uid

INSTANCES = [("1.2.1", "1.2.1.1"), ("1.2.1", "1.2.1.2")]


def test_uids_depend_on_sources_model_version_and_answer_and_on_nothing_else() -> None:
    one = ResultUids.of("1.2", INSTANCES, "a" * 64)
    same = ResultUids.of("1.2", [*reversed(INSTANCES), INSTANCES[0]], "a" * 64)
    others = [
        ResultUids.of("1.3", INSTANCES, "a" * 64),
        ResultUids.of("1.2", INSTANCES[:1], "a" * 64),
        ResultUids.of("1.2", INSTANCES, "b" * 64),
        ResultUids.of("1.2", INSTANCES, "a" * 64, version="9"),
        ResultUids.of("1.2", INSTANCES, "a" * 64, answer="other"),
    ]
    assert one.instance("sr") == same.instance("sr")
    assert len({uids.instance("sr") for uids in (one, *others)}) == 6
    assert len({uids.series("sr") for uids in (one, *others)}) == 6


def test_everything_in_a_set_has_a_uid_of_its_own() -> None:
    uids = ResultUids.of("1.2", INSTANCES, "")
    made = [
        uids.series("sr"), uids.series("sc"), uids.instance("sr"), uids.instance("sc"),
        uids.instance("sc", 2), uids.tracking("sr"), uids.instance("sr", 1, "old"), uids.series("sr", "old"),
    ]  # fmt: skip
    assert len(set(made)) == len(made)


def test_a_retrained_model_is_another_device() -> None:
    assert device_uid("a" * 64) != device_uid("b" * 64)
    assert device_uid("a" * 64) == device_uid("a" * 64)
