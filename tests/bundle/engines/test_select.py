"""Which engine a name gives, and what is refused."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from builders.engines import light_networks
from covid_ct_mask_net.engines import select
from covid_ct_mask_net.engines.base import Engine
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.errors import UsageError

MODEL = light_networks()


def _build(**settings: Any) -> Engine:
    assert MODEL.detector is not None
    assert MODEL.classifier is not None
    return build_engine(MODEL.detector, MODEL.classifier, 0.5, **({"cache": "none"} | settings))


def _without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in names else found(name, *rest)
    )


def test_auto_is_exact_on_a_cpu() -> None:
    report = _build().report
    assert (report.name, report.precision, report.device, report.note) == ("exact", "float32", "cpu", "")
    assert report.runtime.startswith("OpenVINO 2")


def test_auto_takes_torch_without_openvino_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "openvino")
    report = _build().report
    assert report.name == "torch"
    assert "openvino not installed" in report.note


@pytest.mark.parametrize(
    ("missing", "settings"),
    [
        ("openvino", {"name": "exact"}),
        ("numba", {"name": "fast"}),
        ("nncf", {"name": "fast", "precision": "int8"}),
    ],
)
def test_what_is_asked_for_and_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, missing: str, settings: dict[str, str]
) -> None:
    _without(monkeypatch, missing)
    with pytest.raises(UsageError, match=f"needs {missing}.*covid-ct-mask-net\\[engines\\]") as caught:
        _build(**settings)
    assert caught.value.code == "ENGINE_MISSING"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "quick"}, "'quick', but must be one of auto, torch, exact, fast"),
        ({"precision": "int4"}, "'int4'"),
        ({"name": "fast", "device": "cuda", "precision": "int8"}, "bfloat16 on cuda, but int8"),
        ({"name": "exact", "precision": "int8"}, "choose fast"),
        ({"name": "fast", "precision": "float32"}, "choose bfloat16"),
        ({"name": "exact", "workers": -1}, "workers is -1"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        _build(**settings)


def test_fast_takes_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "has_bfloat16", lambda: False)
    assert _build(name="fast").report.precision == "int8"
    assert "head S was trained for it" in _build(name="fast").report.note
    with pytest.raises(UsageError, match="does not multiply bfloat16"):
        _build(name="fast", precision="bfloat16")
