"""Settings of the application: a file, single values, and nothing else.

The file is YAML of plain values (``yaml.safe_load``): it can name no code. Every key is documented in
docs/settings.md; an unknown key, a value of another type or out of range ends the run before anything is
read, with the keys that there are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.series_selection import SelectionRules
from covid_ct_mask_net.app.study_gates import StudyGates
from covid_ct_mask_net.errors import UsageError

_PLAIN = (bool, int, float)
# Pairs of keys of one section whose values must not fall.
_RISING = {
    "limits": (
        ("minimum_side", "maximum_side"),
        ("minimum_slices", "maximum_slices"),
        ("value_bytes", "header_bytes"),
        ("file_bytes", "study_bytes"),
    )
}
# Points of the score may be negative, nothing else.
_SIGNED = ("elsewhere_points", "defect_points")


@dataclass(frozen=True)
class AppSettings:
    """What may be set: ``limits``, ``gates`` and ``selection``, each key as in its class."""

    limits: Limits = field(default_factory=Limits)
    gates: StudyGates = field(default_factory=StudyGates)
    selection: SelectionRules = field(default_factory=SelectionRules)

    @classmethod
    def read(cls, path: Path | None, values: Sequence[str] = ()) -> Self:
        """Return the settings of a file, changed by single values.

        Parameters
        ----------
        path : Path, optional
            YAML file: sections with keys.
        values : sequence of str
            ``section.key=value``, as on the command line; they win over the file.

        Raises
        ------
        UsageError
            ``SETTINGS_UNREADABLE`` or ``SETTING``, with what is allowed.
        """
        sections: dict[str, dict[str, Any]] = {} if path is None else _read_file(path)
        for value in values:
            name, equals, text = value.partition("=")
            section, _, key = name.partition(".")
            if not equals or not key:
                raise UsageError("SETTING", f"{value!r} is no setting; section.key=value is expected.")
            sections.setdefault(section, {})[key] = _scalar(text)
        return cls.of(sections)

    @classmethod
    def of(cls, sections: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return the defaults with these changes."""
        settings = cls()
        names = [part.name for part in dataclasses.fields(cls)]
        for section, changes in sections.items():
            if section not in names:
                raise UsageError(
                    "SETTING", f"There is no section {section!r} of settings; there are {', '.join(names)}."
                )
            if not isinstance(changes, Mapping):
                raise UsageError("SETTING", f"The section {section!r} holds no keys; key: value is expected.")
            part = _changed(section, getattr(settings, section), changes)
            settings = dataclasses.replace(settings, **{section: part})
        return settings


def _changed(section: str, defaults: Any, changes: Mapping[str, Any]) -> Any:
    allowed = plain_settings(defaults)
    unknown = sorted(str(key) for key in changes if key not in allowed)
    if unknown:
        raise UsageError(
            "SETTING",
            f"{section} has no setting {', '.join(unknown)}; allowed are {', '.join(sorted(allowed))}.",
        )
    checked = {key: _checked(f"{section}.{key}", value, allowed[key]) for key, value in changes.items()}
    changed = dataclasses.replace(defaults, **checked)
    for low, high in _RISING.get(section, ()):
        if getattr(changed, low) > getattr(changed, high):
            raise UsageError(
                "SETTING",
                f"{section}.{low} is {getattr(changed, low)}, above {section}.{high}, which is "
                f"{getattr(changed, high)}.",
            )
    return changed


def plain_settings(part: Any) -> dict[str, Any]:
    """Return the keys of a section with their values: those that are one number or a switch."""
    values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return {key: value for key, value in values.items() if isinstance(value, _PLAIN)}


def _checked(name: str, value: Any, default: Any) -> Any:
    expected = type(default)
    right = isinstance(value, bool) if expected is bool else isinstance(value, int | float)
    right = right and (expected is bool or not isinstance(value, bool))
    if not right or (expected is int and value != int(value)):
        raise UsageError(
            "SETTING", f"{name} is {value!r}, but must be {_WORDS[expected]}, for example {default!r}."
        )
    if value != value or (value < 0 and name.partition(".")[2] not in _SIGNED):
        raise UsageError("SETTING", f"{name} is {value}, but must not be negative.")
    return expected(value)


_WORDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _read_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            "SETTINGS_UNREADABLE",
            f"The settings file {str(path)!r} cannot be read as YAML ({type(error).__name__}).",
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError("SETTINGS_UNREADABLE", "The settings file must hold sections: limits, gates, selection.")
    return {str(key): value for key, value in content.items()}


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
