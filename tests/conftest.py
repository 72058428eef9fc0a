"""Options, hooks and fixtures for the whole suite."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path

import pydicom
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# No patient's text in what tests show; which test shows which requirement (--traceability).
pytest_plugins = ("builders.patient_data", "builders.traceability")

# TensorBoard brings absl, whose log handler keeps the standard error of the moment of its import and closes
# it when logging is configured anew, as MONAI's workflows and the packager do: not to be pytest's capture.
with contextlib.redirect_stderr(sys.__stderr__), contextlib.suppress(ImportError):
    importlib.import_module("absl.logging")


@pytest.fixture(autouse=True, scope="session")
def _strict_dicom() -> None:
    """Whatever the suite writes is checked against the standard by pydicom."""
    pydicom.config.settings.writing_validation_mode = pydicom.config.RAISE


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real CT beside the checkout; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    # It may not be copied into the repository (licences, size), and a test never downloads.
    if not folder.is_dir():
        pytest.skip("the real CT data (../shared/data) is not on this machine")
    return folder
