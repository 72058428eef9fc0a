"""What the suite does to keep its own tools working."""

from __future__ import annotations

import sys

import pytest


def test_absl_does_not_hold_the_capture_of_pytest() -> None:
    absl_logging = pytest.importorskip("absl.logging")
    assert absl_logging.get_absl_handler().python_handler.stream is sys.__stderr__
