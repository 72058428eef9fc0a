"""Studies that wait for their turn, packed: memory must not grow with the number of studies.

A run looks through all of its input before the first study, and a header takes some 15 kB as pydicom holds
it. The headers of a series are nearly the same: packed together they take a fiftieth of that.
"""

from __future__ import annotations

import pickle
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import cast

from covid_ct_mask_net.app.intake import Study

# Speed matters more than the last byte.
_LEVEL = 1


class WaitingStudies:
    """A queue of studies; iterating takes them out one by one.

    Parameters
    ----------
    studies : sequence of Study
        The first stays as it is: it is wanted at once.
    """

    def __init__(self, studies: Sequence[Study]) -> None:
        self._waiting = deque([*studies[:1], *map(_packed, studies[1:])])

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[Study]:
        """Take the studies out in their order."""
        while self._waiting:
            study = self._waiting.popleft()
            # Bytes of this process that never left it.
            yield cast("Study", pickle.loads(zlib.decompress(study))) if isinstance(study, bytes) else study  # noqa: S301


def _packed(study: Study) -> bytes | Study:
    """Return a study as bytes, or as it is where it cannot be packed: it then takes more memory, no more."""
    try:
        return zlib.compress(pickle.dumps(study), _LEVEL)
    except (AttributeError, TypeError, RecursionError, pickle.PicklingError):
        # pydicom keeps a function of its own beside several names of persons in one element (seen with
        # damaged files); the others are what pickle raises for values that it does not know and deep nesting.
        return study
