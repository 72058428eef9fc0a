"""The JSON schemas of what a run writes: ``result.json``, ``worklist.json`` and ``run.json``."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

SCHEMAS = ("result", "worklist", "run")


@cache
def schema(name: str) -> dict[str, Any]:
    """Return a JSON schema (draft 2020-12) that this version writes by.

    Parameters
    ----------
    name : str
        ``"result"``, ``"worklist"`` or ``"run"``.
    """
    if name not in SCHEMAS:
        raise ValueError(f"There is no schema {name!r}; there are {', '.join(SCHEMAS)}.")
    text = resources.files("covid_ct_mask_net").joinpath("schemas", f"{name}.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
