"""Published lists of slices: ``file class xmin ymin xmax ymax`` a line (COVIDx-CT) or the name alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training.datasets.names import SliceName, parse_slice_name
from covid_ct_mask_net.training.datasets.records import check_slice_class

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class ListedSlice:
    """One line of a list.

    Attributes
    ----------
    file
        Name as listed.
    name
        What it says.
    lung_box
        ``(xmin, ymin, xmax, ymax)`` in pixels where the list has it.
    """

    file: str
    name: SliceName
    lung_box: Box | None = None


def read_list(path: Path | str) -> list[ListedSlice]:
    """Read a list of slices in the order of its lines; empty lines are skipped.

    Raises
    ------
    UsageError
        If there is no such file.
    RefusedInputError
        If a line cannot be read, a class is unknown or contradicts the name, or a slice is listed twice; the
        sentence names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("LIST_MISSING", f"There is no list {path}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RefusedInputError("LIST_FORMAT", f"The list {path} is no text file.") from error
    listed: list[ListedSlice] = []
    seen: dict[SliceName, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        one = _parse(line, f"Line {number} of {path}")
        if one.name in seen:
            raise RefusedInputError(
                "LISTED_TWICE",
                f"Line {number} of {path} lists {one.file} again (first in line {seen[one.name]}).",
            )
        seen[one.name] = number
        listed.append(one)
    if not listed:
        raise RefusedInputError("LIST_EMPTY", f"The list {path} has no lines.")
    return listed


def _parse(line: str, where: str) -> ListedSlice:
    file, *numbers = line.split()
    try:
        name = parse_slice_name(file)
        values = [int(number) for number in numbers]
    except RefusedInputError as error:
        raise RefusedInputError(error.code, f"{where}: {error.sentence}") from error
    except ValueError as error:
        raise RefusedInputError(
            "LIST_FORMAT",
            f"{where} is {line!r}; a name, or a name with class and four box sides, was expected.",
        ) from error
    if len(values) not in (0, 1, 5):
        raise RefusedInputError(
            "LIST_FORMAT",
            f"{where} has {len(values)} numbers after the name; 0, 1 (class) or 5 were expected.",
        )
    if values and check_slice_class(values[0], where) != name.slice_class:
        raise RefusedInputError(
            "CLASS_CONTRADICTED", f"{where} has class {values[0]}, which its name {file} contradicts."
        )
    box = (values[1], values[2], values[3], values[4]) if len(values) == 5 else None
    return ListedSlice(file, name, box)
