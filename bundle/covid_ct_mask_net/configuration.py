"""Which settings of ``inference.yaml`` an answer depends on, as one hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

# From the volume to slices, from slices to evidence, and from there to the answer. Weights and engine are not
# among them: results name both. Paths and devices change nothing.
_ROOTS = ("volume_transforms", "min_score", "inferer", "triage")
# An entry names others as "@id" or, in an expression, "$...@id...".
_REFERENCE = re.compile(r"@(\w+)")
# Results do not depend on it.
_IGNORED = "batch_size"


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


def _without_ignored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_ignored(item) for key, item in value.items() if key != _IGNORED}
    if isinstance(value, list | tuple):
        return [_without_ignored(item) for item in value]
    return value
