"""Settings of the application: a file, single values, and nothing else.

The file is YAML of plain values (``yaml.safe_load``): it can name no code. An unknown key, a value of another
type or out of range ends the run before anything is read, with the keys that there are. What each key means
is in the classes that hold them and in docs/settings.md; ``triage --list-settings`` prints all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import yaml

from covid_ct_mask_net.app.geometry import GeometryRules
from covid_ct_mask_net.app.limits import Limits
from covid_ct_mask_net.app.report_settings import ReportSettings
from covid_ct_mask_net.app.series_selection import SelectionRules
from covid_ct_mask_net.app.study_gates import StudyGates
from covid_ct_mask_net.app.yaml_files import read_mapping
from covid_ct_mask_net.errors import UsageError

# Pairs of keys of one section whose values must not fall.
_RISING = {
    "limits": (
        ("minimum_side", "maximum_side"),
        ("minimum_slices", "maximum_slices"),
        ("value_bytes", "header_bytes"),
        ("file_bytes", "study_bytes"),
    ),
    "selection": (("thin_mm", "medium_mm"), ("medium_mm", "thick_mm")),
    "geometry": (("tilt_degrees", "maximum_tilt_degrees"),),
}
# Points of the score may be negative, nothing else.
_SIGNED = ("selection.elsewhere_points", "selection.defect_points")
_WORDS = {bool: "true or false", int: "a whole number", float: "a number"}
Plain = bool | int | float | StrEnum


@dataclass(frozen=True)
class AppSettings:
    """What may be set: five sections, each key as in its class."""

    limits: Limits = field(default_factory=Limits)
    gates: StudyGates = field(default_factory=StudyGates)
    selection: SelectionRules = field(default_factory=SelectionRules)
    geometry: GeometryRules = field(default_factory=GeometryRules)
    results: ReportSettings = field(default_factory=ReportSettings)

    @classmethod
    def read(cls, path: Path | None, values: Sequence[str] = (), series_rules: Path | None = None) -> Self:
        """Return the settings of a file, changed by single values.

        Parameters
        ----------
        path : Path, optional
            YAML file: sections with keys.
        values : sequence of str
            ``section.key=value``, as on the command line; they win over the file.
        series_rules : Path, optional
            YAML file of rules for the choice of the series.

        Raises
        ------
        UsageError
            ``SETTINGS_UNREADABLE``, ``SETTING`` or ``SERIES_RULES``, with what is allowed.
        """
        sections = {} if path is None else _read_file(path)
        for value in values:
            name, equals, text = value.partition("=")
            section, _, key = name.partition(".")
            if not equals or not key:
                raise UsageError("SETTING", f"{value!r} is no setting; section.key=value is expected.")
            changes = sections.setdefault(section, {})
            if isinstance(changes, dict):
                changes[key] = _scalar(text)
        settings = cls.of(sections)
        if series_rules is None:
            return settings
        # Schema and patterns take a moment to load, and few runs have rules.
        from covid_ct_mask_net.app.series_rules_file import read_series_rules

        rules = dataclasses.replace(settings.selection, series_rules=read_series_rules(series_rules))
        return dataclasses.replace(settings, selection=rules)

    @classmethod
    def of(cls, sections: Mapping[str, Any]) -> Self:
        """Return the defaults with these changes; errors as of ``read``."""
        settings = cls()
        names = [part.name for part in dataclasses.fields(cls)]
        for section, changes in sections.items():
            if section not in names:
                raise UsageError(
                    "SETTING", f"There is no section {section!r} of settings; there are {', '.join(names)}."
                )
            if not isinstance(changes, Mapping):
                raise UsageError(
                    "SETTING", f"The section {section!r} holds no keys; lines of key: value are expected."
                )
            part = _changed(section, getattr(settings, section), changes)
            settings = dataclasses.replace(settings, **{section: part})
        # The choice of the series judges geometry by the same tolerances as the volume.
        selection = dataclasses.replace(settings.selection, geometry=settings.geometry)
        return dataclasses.replace(settings, selection=selection)

    def of_inference(self) -> dict[str, float]:
        """Return the entries of a bundle's ``inference.yaml`` that these settings replace."""
        entries: dict[str, float] = {}
        if self.limits.minimum_slices != Limits().minimum_slices:
            entries["least_slices"] = self.limits.minimum_slices
        if self.gates.minimum_confidence:
            entries["triage#min_confidence"] = self.gates.minimum_confidence
        return entries

    def record(self) -> dict[str, Any]:
        """Return all settings as plain values, and what the series rules do.

        The texts that rules look for are left out, as everywhere: a site may have written anything there.
        """
        rules = [
            {"name": rule.name, "action": rule.action.value, "points": rule.points}
            for rule in self.selection.series_rules
        ]
        sections = {part.name: plain_settings(getattr(self, part.name)) for part in dataclasses.fields(self)}
        return {**sections, "series_rules": rules}

    def listing(self) -> str:
        """Return all settings with their values, as a settings file."""
        lines = []
        for part in dataclasses.fields(self):
            lines.append(f"{part.name}:")
            plain = plain_settings(getattr(self, part.name))
            lines += [f"  {key}: {_written(value)}" for key, value in plain.items()]
        return "\n".join(lines) + "\n"


def plain_settings(part: Any) -> dict[str, Plain]:
    """Return the keys of a section with their values: those that are one number, a switch or a choice."""
    values = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return {key: value for key, value in values.items() if isinstance(value, Plain)}


def _written(value: Plain) -> str:
    return yaml.safe_dump(str(value) if isinstance(value, StrEnum) else value).split()[0]


def _changed(section: str, defaults: Any, changes: Mapping[Any, Any]) -> Any:
    allowed = plain_settings(defaults)
    unknown = sorted(str(key) for key in changes if key not in allowed)
    if unknown:
        raise UsageError(
            "SETTING",
            f"The section {section} has no setting {', '.join(unknown)}; there are "
            f"{', '.join(sorted(allowed))}.",
        )
    checked = {key: _checked(f"{section}.{key}", value, allowed[key]) for key, value in changes.items()}
    changed = dataclasses.replace(defaults, **checked)
    for low, high in _RISING.get(section, ()):
        lower, upper = getattr(changed, low), getattr(changed, high)
        if lower > upper:
            raise UsageError(
                "SETTING", f"{section}.{low} is {lower}, which is above {section}.{high}: {upper}."
            )
    return changed


def _checked(name: str, value: Any, default: Plain) -> Plain:
    expected = type(default)
    if issubclass(expected, StrEnum):
        choices = [choice.value for choice in expected]
        if value not in choices:
            raise UsageError("SETTING", f"{name} is {value!r}, but must be one of {', '.join(choices)}.")
        return expected(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    right = isinstance(value, bool) if expected is bool else number
    if not right or (expected is int and value != value // 1):
        raise UsageError(
            "SETTING", f"{name} is {value!r}, but must be {_WORDS[expected]}, for example {default!r}."
        )
    if not -1e18 < value < 1e18 or (value < 0 and name not in _SIGNED):
        raise UsageError("SETTING", f"{name} is {value}, but must be a number that is not negative.")
    return expected(value)


def _read_file(path: Path) -> dict[str, Any]:
    names = ", ".join(part.name for part in dataclasses.fields(AppSettings))
    content = read_mapping(path, "settings file", "SETTINGS_UNREADABLE", f"sections: {names}")
    return {section: dict(c) if isinstance(c, dict) else c for section, c in content.items()}


def _scalar(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
