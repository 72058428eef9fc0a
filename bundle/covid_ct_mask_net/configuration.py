"""Settings of ``inference.yaml``: which there are, and which an answer depends on, as one hash."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
import pydoc
import re
from collections.abc import Iterator, Mapping
from typing import Any

from covid_ct_mask_net.errors import UsageError

# From the volume to slices, from slices to evidence, and from there to the answer. Weights and engine are not
# among them: results name both. Paths and devices change nothing.
_ROOTS = ("volume_transforms", "min_score", "inferer", "triage")
# An entry names others as "@id" or, in an expression, "$...@id...".
_REFERENCE = re.compile(r"@(\w+)")
# Results do not depend on it.
_IGNORED = "batch_size"
_SEPARATOR = "#"
_OF_MONAI = re.compile(r"_[a-z]+_")
# Entries that a setting of the application replaces, which the bundle of an earlier version may not have.
_OF_APPLICATION = {"least_slices": "limits.minimum_slices"}


def configuration_sha256(config: Mapping[str, Any]) -> str:
    """Return the hash of what an answer depends on besides weights and engine.

    Parameters
    ----------
    config : mapping
        Content of ``inference.yaml``, with what was set on top of it.
    """
    entries: dict[str, Any] = {}
    waiting = [name for name in _ROOTS if name in config]
    while waiting:
        name = waiting.pop()
        if name not in entries:
            entries[name] = _without_ignored(config[name])
            text = json.dumps(entries[name], default=str)
            waiting += [found for found in _REFERENCE.findall(text) if found in config]
    return hashlib.sha256(json.dumps(entries, sort_keys=True, default=str).encode()).hexdigest()


def check_id(config: Mapping[str, Any], name: str) -> None:
    """Refuse the id of a setting that a configuration does not have: MONAI would add it, unread.

    Parameters
    ----------
    config : mapping
        Content of ``inference.yaml``.
    name : str
        Names and places in lists, with ``#`` or ``::`` between them. Arguments of what ``_target_`` names
        need not stand in the file.

    Raises
    ------
    UsageError
        ``SETTING``; names ids that look alike, or the setting of the application that was to replace it.
    """
    keys = name.replace("::", _SEPARATOR).split(_SEPARATOR)
    entry: Any = config
    for key in keys:
        if isinstance(entry, list | tuple) and key.isdecimal() and int(key) < len(entry):
            entry = entry[int(key)]
        elif isinstance(entry, Mapping) and (key in entry or _is_argument(entry, key)):
            entry = entry.get(key)
        else:
            ids = list(_ids(config))
            # The right name in the wrong place is likelier than a name that looks alike.
            close = [found for found in ids if found.rpartition(_SEPARATOR)[2] == keys[-1]]
            close = close or difflib.get_close_matches(_SEPARATOR.join(keys), ids)
            advice = f"did you mean {' or '.join(close[:3])}?" if close else "see configs/inference.yaml."
            if name in _OF_APPLICATION:
                advice = (
                    f"{_OF_APPLICATION[name]} would have no effect there. Leave it at its default, or use a "
                    "bundle of this version."
                )
            raise UsageError("SETTING", f"There is no setting {name!r} in the configuration; {advice}")


def _is_argument(entry: Mapping[str, Any], key: str) -> bool:
    """Tell whether what an entry makes takes an argument of this name, or MONAI reads it (``_disabled_``)."""
    target = entry.get("_target_")
    if not isinstance(target, str):
        return False
    found = pydoc.locate(target)
    parameters = inspect.signature(found).parameters if callable(found) else {}
    return key in parameters or bool(_OF_MONAI.fullmatch(key))


def _ids(entry: Any, prefix: str = "") -> Iterator[str]:
    """Yield the ids of all that can be set in a configuration; what MONAI reads is left out."""
    if isinstance(entry, Mapping):
        parts = [(str(key), value) for key, value in entry.items()]
    elif isinstance(entry, list | tuple):
        parts = [(str(place), value) for place, value in enumerate(entry)]
    else:
        return
    for key, value in parts:
        if not _OF_MONAI.fullmatch(key):
            yield f"{prefix}{key}"
            yield from _ids(value, f"{prefix}{key}{_SEPARATOR}")


def _without_ignored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_ignored(item) for key, item in value.items() if key != _IGNORED}
    if isinstance(value, list | tuple):
        return [_without_ignored(item) for item in value]
    return value
