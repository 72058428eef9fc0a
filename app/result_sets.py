"""The result sets of an output folder, as entries of its worklist: those of earlier runs stay on the list."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covid_ct_mask_net.app.logs import event
from covid_ct_mask_net.json_schemas import schema
from covid_ct_mask_net.worklist import WorklistEntry

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

RESULT = "result.json"
PSEUDONYM = re.compile(r"[0-9a-f]{12}")

_log = logging.getLogger(__name__)
# One item of each stands for all: they take most of the time, and nothing of them is listed.
_LONG = ("series", "slices", "lesions")


def entries_of(folder: Path, current: Sequence[WorklistEntry] = ()) -> list[WorklistEntry]:
    """Return one entry a result set of an output folder, in the order in which their studies came.

    Only one result is in memory at a time. What cannot be read as a result of this product is left out, with
    a warning in the log.

    Parameters
    ----------
    folder : Path
        Output folder.
    current : sequence of WorklistEntry
        Studies of this run, in their order: each stands for its result set.

    Returns
    -------
    list of WorklistEntry
        Studies that ``worklist.json`` names keep their places, others follow: first those that it does not
        know, by their time and pseudonym, then those of this run.
    """
    ours = {entry.pseudonym: entry for entry in current}
    earlier = []
    for path in sorted(folder.iterdir()):
        if PSEUDONYM.fullmatch(path.name) and path.name not in ours:
            entry = _entry(path)
            earlier += [] if entry is None else [entry]
    earlier.sort(key=lambda entry: (entry.created, entry.pseudonym))
    places = {name: place for place, name in enumerate(_listed(folder / "worklist.json"))}
    return sorted([*earlier, *ours.values()], key=lambda entry: places.get(entry.pseudonym, len(places)))


def with_pages(folder: Path, entries: Sequence[WorklistEntry]) -> frozenset[str]:
    """Return the pseudonyms of the studies that have a ``report.html``."""
    names = (entry.pseudonym for entry in entries)
    return frozenset(name for name in names if (folder / name / "report.html").is_file())


def _entry(result_set: Path) -> WorklistEntry | None:
    try:
        # A link could lead to anything, and no run makes one.
        if result_set.is_symlink() or not result_set.is_dir():
            raise NotADirectoryError
        document = json.loads((result_set / RESULT).read_text(encoding="utf-8"))
        _check(document, result_set.name)
    except (OSError, ValueError, RecursionError) as error:
        _log.warning(
            "%s holds no %s of this application that can be read (%s); the study is left out of the worklist."
            " Triage it again, or remove the folder.", result_set.name, RESULT, type(error).__name__,
            extra=event(study=result_set.name),
        )  # fmt: skip
        return None
    return WorklistEntry.of_document(document)


def _check(document: Any, name: str) -> None:
    """Raise ValueError for what does not follow the schema of results or is of another study."""
    shown = document
    if isinstance(document, dict):
        cut = {key: document[key][:1] for key in _LONG if isinstance(document.get(key), list)}
        shown = {**document, **cut}
    if not _validator().is_valid(shown) or document["pseudonym"] != name:
        raise ValueError("another schema or study")


@cache
def _validator() -> Draft202012Validator:
    # Takes a moment to load, and the first run in a folder has nothing to check.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema("result"))


def _listed(worklist: Path) -> list[str]:
    """Return the pseudonyms in ``worklist.json``, in its order; it may be missing or damaged."""
    try:
        studies = json.loads(worklist.read_text(encoding="utf-8"))["studies"]
        return [str(study["result"]).partition("/")[0] for study in studies]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        _log.warning(
            "The worklist.json of an earlier run cannot be read; its studies stand in the order of their "
            "times."
        )
        return []
