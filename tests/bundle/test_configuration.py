from __future__ import annotations

import copy
from typing import Any

import pytest
from monai.bundle import ConfigParser

from covid_ct_mask_net.configuration import check_id, configuration_sha256
from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.paths import bundle_root


def config(**changes: object) -> dict[str, Any]:
    parser = ConfigParser()
    parser.read_config(str(bundle_root() / "configs" / "inference.yaml"))
    parser.update({name.replace("__", "#"): value for name, value in changes.items()})
    return copy.deepcopy(parser.config)


@pytest.mark.parametrize(
    "changes",
    [
        {"slices": "every=10"},
        {"coarse_mm": 20},
        {"crop": "lungs"},
        {"window_level": -500},
        {"min_score": 0.4},
        {"inferer__mask_threshold": 0.4},
        {"pooling__ceiling": 0.8},
        {"triage__temperature": 1.0},
        {"triage__lesion_rules__min_certainty": 0.5},
        {"volume_transforms__transforms__2__noise_limit_hu": 100},
    ],
)
def test_what_changes_answers_changes_the_hash(changes: dict[str, object]) -> None:
    assert configuration_sha256(config(**changes)) != configuration_sha256(config())


@pytest.mark.parametrize(
    "changes",
    [
        {"output_dir": "elsewhere"},
        {"bundle_root": "/elsewhere"},
        {"device": "cuda"},
        {"engine_workers": 3},
        {"engine_cache": "none"},
        {"inferer__batch_size": 1},
        {"weights": "untrained"},
    ],
)
def test_what_changes_no_answer_or_is_named_elsewhere_does_not(changes: dict[str, object]) -> None:
    assert configuration_sha256(config(**changes)) == configuration_sha256(config())


def test_entries_that_name_each_other_and_a_file_without_them() -> None:
    circle = {"triage": {"a": "@pooling"}, "pooling": {"b": "$f(@triage)"}}
    assert configuration_sha256(circle) == configuration_sha256(dict(reversed(circle.items())))
    assert configuration_sha256({}) != configuration_sha256(circle)


CONFIG: dict[str, Any] = {
    "slices": "all",
    "triage": {
        "_target_": "covid_ct_mask_net.triage.volume_triage.VolumeTriage",
        "temperature": 1.0,
        "support": {"weight": 0.75},
    },
    "steps": {"transforms": [{"keys": "a"}, {"keys": "b"}]},
    "empty": None,
}


@pytest.mark.parametrize(
    "name",
    [
        "slices", "triage", "triage#temperature", "triage::support::weight", "steps#transforms#1#keys",
        "empty",
        # Arguments that the file does not name, and what MONAI reads.
        "triage#min_confidence", "triage#_disabled_",
    ],
)  # fmt: skip
def test_settings_that_there_are(name: str) -> None:
    check_id(CONFIG, name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("slicess", "did you mean slices?"),
        ("temperature", "did you mean triage#temperature?"),
        ("triage#temprature", "did you mean triage#temperature?"),
        ("triage#support#min_confidence", "triage"),
        ("steps#transforms#2#keys", "steps#transforms#0#keys or steps#transforms#1#keys"),
        ("nothing#here", "see configs/inference.yaml"),
        ("slices#0", "slices"),
        ("", "see configs/inference.yaml"),
        # The user set another name, in the application, and cannot set what looks alike.
        ("least_slices", "limits.minimum_slices would have no effect there. Leave it at its default"),
    ],
)
def test_settings_that_there_are_not_are_refused_with_those_that_look_alike(name: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_id(CONFIG, name)
    assert caught.value.code == "SETTING"
    assert repr(name) in caught.value.sentence
    assert meant in caught.value.sentence
