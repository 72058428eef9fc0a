"""OpenVINO's runtime: one for the process, for as long as it lives."""

from __future__ import annotations

from typing import Final

import openvino as ov

# Never let go of, and not made anew. Where the processor has AMX, the plugin for it gives the thread that
# compiles first a stack of its own for signals, and takes that away in whichever thread the last `Core` and
# graph end. If that is another thread, or they end in the order in which they were made, the first thread is
# left with a stack that is not there, and the next signal that it handles (a child that ends, SIGTERM) kills
# the process without a word.
CORE: Final = ov.Core()
