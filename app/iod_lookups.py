"""What highdicom looks up in its tables again for each frame and each outline, remembered.

Whether an IOD holds pixels is read out of tables of the standard, 20 ms each time. It depends on the SOP
class alone, and a study with lesions on 250 slices asks for it a thousand times.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import highdicom.content
import highdicom.image
from highdicom._standard_utils import does_iod_have_pixel_data

_remembered = functools.cache(does_iod_have_pixel_data)
_MODULES = (highdicom.content, highdicom.image)


@contextmanager
def remembered_lookups() -> Iterator[None]:
    """Let highdicom remember, while it writes, which SOP classes hold pixels."""
    with ExitStack() as stack:
        for module in _MODULES:
            stack.enter_context(patch.object(module, does_iod_have_pixel_data.__name__, _remembered))
        yield
