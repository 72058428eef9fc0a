"""Convolution kernels that sharpen the lung, by the names that the scanners give them.

Sources: the vendors' DICOM conformance statements and what archives hold. The value of Convolution Kernel
(0018,1210) is free text, so an unknown name counts as not sharp.
"""

from __future__ import annotations

import re

_SHARP = re.compile(
    "|".join(
        (
            # General words, GE and United Imaging among others.
            r".*LUNG.*",
            r".*SHARP.*",
            r"(HD )?BONE.*",
            r"CHST.*",
            r"EDGE.*",
            r"ULTRA.*",
            # Siemens: family letter, then sharpness 50 to 89 (B60f, I70f, Bl57, Br64d).
            r"(B|I|H|BL|BR|BV|QR|UB|UR|HR)[5-8]\d.*",
            # Philips: L (lung), C, D and E (sharp), the Y kernels of the chest.
            r"[LCDE]",
            r"Y[ABCD]",
            # Canon and Toshiba: FC30 to FC39 and FC80 to FC86 (bone), FC50 to FC59 (lung).
            r"FC(3\d|5\d|8[0-6]).*",
        )
    )
)


def is_sharp(kernel: str) -> bool:
    """Tell whether a kernel shows lung parenchyma sharply."""
    return _SHARP.fullmatch(kernel.strip().upper()) is not None
