"""YAML files that users write: plain values of a bounded size, and one sentence where they are not that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from covid_ct_mask_net.errors import UsageError

# A page of text; anything longer is something else.
_FILE_BYTES = 1 << 16


def read_mapping(path: Path, what: str, code: str, keys: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, empty for an empty file.

    Parameters
    ----------
    path : Path
        The file; it can name no code (``yaml.safe_load``).
    what : str
        What the file is, for the sentence: ``"settings file"``.
    code : str
        Code of the error.
    keys : str
        What the mapping holds, for the sentence.

    Raises
    ------
    UsageError
        With ``code``, if the file cannot be read or holds something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_BYTES + 1)
        content = yaml.safe_load(text.decode("utf-8")) if len(text) <= _FILE_BYTES else "too long"
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(
            code, f"The {what} {str(path)!r} cannot be read as YAML ({type(error).__name__})."
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(code, f"The {what} {str(path)!r} must hold {keys}.")
    return {str(key): value for key, value in content.items()}
