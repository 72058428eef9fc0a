"""Coverage-guided fuzzing of what reads untrusted bytes, for hours where the suite takes seconds.

    pip install atheris
    python tests/fuzz/atheris_files.py header|pixels|nifti [corpus folder] [-max_total_time=600 ...]

Begins with the good files of the suite. Anything but an answer or a refusal ends it, with the input in a
file ``crash-*`` of the working folder: that becomes a named row of ``tests/bad_inputs``. Decoders run in this
process here, so that a crash of native code is seen as one; the application runs them in one of their own.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Dictionaries and what else is only looked up would take minutes to instrument.
_INSTRUMENTED = [
    "covid_ct_mask_net.app", "covid_ct_mask_net.nifti_file", "covid_ct_mask_net.nifti_stream",
    "pydicom.dataelem", "pydicom.dataset", "pydicom.encaps", "pydicom.filebase", "pydicom.filereader",
    "pydicom.fileutil", "pydicom.sequence", "pydicom.valuerep", "pydicom.values",
    "nibabel.nifti1", "nibabel.quaternions",
]  # fmt: skip
with atheris.instrument_imports(include=_INSTRUMENTED):
    import pydicom

    from covid_ct_mask_net.app import headers, pixels
    from covid_ct_mask_net.app.headers import FileRefusedError
    from covid_ct_mask_net.app.intake import Instance
    from covid_ct_mask_net.app.limits import Limits
    from covid_ct_mask_net.nifti_file import check_nifti

from builders.fuzzing import dicom_seeds, nifti_seeds  # noqa: E402
from covid_ct_mask_net.errors import NotAssessableError, RefusedInputError  # noqa: E402

_LIMITS = Limits(lossy=True)
_FOLDER = Path(tempfile.mkdtemp(prefix="atheris-"))


def header(content: bytes) -> None:
    """Read a header and every element of it."""
    path = _written(content, "file.dcm")
    try:
        dataset = headers.read(path, _LIMITS)
    except FileRefusedError:
        return
    for tag in list(dataset.keys()):
        headers.readable_element(dataset, tag)


def decoded(content: bytes) -> None:
    """Read a header and decode its first frame."""
    path = _written(content, "file.dcm")
    try:
        dataset = headers.read(path, _LIMITS)
        if headers.is_ct_image(dataset):
            status = path.stat()
            instance = Instance(path, "", dataset, status.st_size, status.st_mtime_ns)
            pixels.decode(instance, _LIMITS)
    except (FileRefusedError, NotAssessableError):
        return


def nifti(content: bytes) -> None:
    """Check a volume, packed if it begins like one."""
    try:
        check_nifti(_written(content, "file.nii.gz" if content[:2] == b"\x1f\x8b" else "file.nii"))
    except RefusedInputError:
        return


_TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "header": (header, lambda: [files[0] for files in dicom_seeds().values()]),
    "pixels": (decoded, lambda: [files[0] for files in dicom_seeds().values()]),
    "nifti": (nifti, lambda: list(nifti_seeds())),
}


def _written(content: bytes, name: str) -> Path:
    path = _FOLDER / name
    path.write_bytes(content)
    return path


def main() -> None:
    """Fuzz the target that the first argument names."""
    target, seeds = _TARGETS[sys.argv[1]]
    corpus = Path(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2][0] != "-" else _FOLDER / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds()):
        (corpus / f"seed-{number}").write_bytes(content)
    options = [argument for argument in sys.argv[2:] if argument.startswith("-")]
    logging.getLogger(pydicom.__name__).setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    atheris.Setup([sys.argv[0], str(corpus), "-max_len=400000", "-rss_limit_mb=6000", *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
