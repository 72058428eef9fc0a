"""Files of series rules: YAML under a schema, patterns in time linear in the text.

Patterns are of RE2: none can make a run hang, whatever a description holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from pydicom.dataset import Dataset

from covid_ct_mask_net.app import headers
from covid_ct_mask_net.app.series_rules import Action, SeriesRule
from covid_ct_mask_net.app.yaml_files import read_mapping
from covid_ct_mask_net.errors import UsageError

TEXT_ATTRIBUTES = (
    "AcquisitionType",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "FilterType",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientPosition",
    "ProtocolName",
    "ScanOptions",
    "SeriesDescription",
    "StationName",
    "StudyDescription",
)
NUMBER_ATTRIBUTES = (
    "AcquisitionNumber",
    "KVP",
    "ReconstructionDiameter",
    "SeriesNumber",
    "SliceThickness",
    "SpacingBetweenSlices",
)

# Texts longer than this are no descriptions; the longest of these attributes may have 64 characters a value.
_TEXT_LENGTH = 1024
_PATTERN_LENGTH = 200
_PATTERN_BYTES = 1 << 20

_CONDITION = {"type": "object", "minProperties": 1, "additionalProperties": False}
_WORD = {"type": "string", "minLength": 1, "maxLength": _PATTERN_LENGTH}
_TEXT_CONDITION = {
    **_CONDITION,
    "maxProperties": 1,
    "properties": {
        "regex": _WORD,
        "value": {"type": ["string", "array"], "minLength": 1, "minItems": 1, "maxItems": 50, "items": _WORD},
        "present": {"type": "boolean"},
    },
}
_NUMBER_CONDITION = {
    **_CONDITION,
    "properties": {"min": {"type": "number"}, "max": {"type": "number"}, "present": {"type": "boolean"}},
}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["rules"],
    "additionalProperties": False,
    "properties": {
        "rules": {
            "type": "array",
            "maxItems": 50,
            "items": {
                "type": "object",
                "required": ["name", "action", "match"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9-]{0,39}\Z"},
                    "action": {"enum": [action.value for action in Action]},
                    "score": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000},
                    "match": {
                        **_CONDITION,
                        "properties": dict.fromkeys(TEXT_ATTRIBUTES, _TEXT_CONDITION)
                        | dict.fromkeys(NUMBER_ATTRIBUTES, _NUMBER_CONDITION),
                    },
                },
            },
        }
    },
}
"""JSON Schema of a rules file."""


def read_series_rules(path: Path) -> tuple[SeriesRule, ...]:
    """Return the rules of a file, in its order.

    Raises
    ------
    UsageError
        ``SERIES_RULES``, with the place that is wrong and what is expected there.
    """
    content = read_mapping(path, "file of series rules", "SERIES_RULES", "the key rules")
    problem = next(iter(sorted(_problems(content))), None)
    if problem is not None:
        raise UsageError(
            "SERIES_RULES", f"The file of series rules {str(path)!r} is wrong at {problem[0]}: {problem[1]}."
        )
    return tuple(
        SeriesRule(
            rule["name"],
            Action(rule["action"]),
            float(rule.get("score", 0.0)) * (-1.0 if rule["action"] == Action.AVOID else 1.0),
            tuple(
                _condition(keyword, kind, wanted)
                for keyword, condition in rule["match"].items()
                for kind, wanted in condition.items()
            ),
        )
        for rule in content["rules"]
    )


def _problems(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong, as pairs of place and sentence."""
    errors = list(Draft202012Validator(SCHEMA).iter_errors(content))
    if errors:
        return [(_place(error.absolute_path), _expected(error)) for error in errors]
    problems = []
    names = [rule["name"] for rule in content["rules"]]
    for number, rule in enumerate(content["rules"]):
        place = f"rules[{number}]"
        if names.index(rule["name"]) != number:
            problems.append((f"{place}.name", "another rule has this name; names are expected to differ"))
        scored = rule["action"] in (Action.PREFER, Action.AVOID)
        if scored != ("score" in rule):
            need = "needs a score, for example score: 20" if scored else "takes no score"
            problems.append((place, f"the action {rule['action']} {need}"))
        if not math.isfinite(rule.get("score", 0)):
            problems.append((f"{place}.score", "a finite number is expected"))
        for keyword, condition in rule["match"].items():
            problems += [(f"{place}.match.{keyword}", fault) for fault in _faults(condition)]
    return problems


def _faults(condition: Mapping[str, Any]) -> Iterator[str]:
    low, high = condition.get("min", -1e18), condition.get("max", 1e18)
    if not (math.isfinite(low) and math.isfinite(high)):
        yield "finite numbers are expected"
    elif low > high:
        yield f"min is {low}, which is above max: {high}"
    if "present" in condition and len(condition) > 1:
        yield "present is expected alone"
    if "regex" in condition and (fault := _pattern_fault(condition["regex"])) is not None:
        yield f"RE2 does not take this regex ({fault})"


def _place(path: Iterable[str | int]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return place.lstrip(".") or "the top"


def _expected(error: ValidationError) -> str:
    """Return a sentence on a mistake; those that a hand makes are told in words of their own."""
    schema: Any = error.schema
    wanted: Any = error.validator_value
    if error.validator == "additionalProperties":
        unknown = ", ".join(sorted(str(key) for key in error.instance if key not in schema["properties"]))
        return f"there is no {_short(unknown)} here; there are {', '.join(schema['properties'])}"
    if error.validator == "required":
        return f"what is expected has {' and '.join(wanted)}"
    if error.validator == "minProperties":
        return "at least one condition is expected"
    if error.validator == "maxProperties":
        return f"one of {', '.join(schema['properties'])} is expected, not several"
    if error.validator in ("enum", "type"):
        expected = wanted if isinstance(wanted, str) else " or ".join(wanted)
    elif error.validator == "pattern":
        expected = "at most 40 small letters, digits and hyphens"
    else:
        expected = f"{error.validator} {wanted}"
    return f"found {_short(repr(error.instance))}, expected {expected}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = _PATTERN_BYTES
    return re2.compile(pattern, options)


def _pattern_fault(pattern: str) -> str | None:
    try:
        _compiled(pattern)
    except re2.error as error:
        told = error.args[0]
        return _short(told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told))
    return None


def _condition(keyword: str, kind: str, wanted: Any) -> Callable[[Dataset], bool]:
    if kind == "regex":
        return _matches(keyword, _compiled(wanted))
    if kind == "value":
        return _has(keyword, [wanted] if isinstance(wanted, str) else wanted)
    if kind == "present":
        return lambda image: bool(_texts(image, keyword)) is wanted
    return _within(keyword, wanted, 1 if kind == "min" else -1)


def _texts(image: Dataset, keyword: str) -> tuple[str, ...]:
    return headers.contrast_agents(image) if keyword == "ContrastBolusAgent" else headers.text(image, keyword)


def _matches(keyword: str, pattern: Any) -> Callable[[Dataset], bool]:
    return lambda image: any(
        pattern.search(text[:_TEXT_LENGTH]) is not None for text in _texts(image, keyword)
    )


def _has(keyword: str, words: Sequence[str]) -> Callable[[Dataset], bool]:
    wanted = {word.strip().casefold() for word in words}
    return lambda image: any(text.casefold() in wanted for text in _texts(image, keyword))


def _within(keyword: str, limit: float, sign: int) -> Callable[[Dataset], bool]:
    def holds(image: Dataset) -> bool:
        number = headers.number(image, keyword)
        return number is not None and sign * (number - limit) >= 0

    return holds
