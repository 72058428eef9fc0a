"""Damaged files through the real command line: a few here, ten thousand with ``-m slow`` or ``many.py``.

Requirements: REQ-REFUSE-1, REQ-REFUSE-2, REQ-LIMITS-1, REQ-PRIVACY-1, REQ-OUTPUT-1.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from builders import mutations
from builders.fuzzing import LIMITS, Bench, dicom_seeds, make_batch, nifti_seeds
from builders.oracle import oracle_pipeline
from covid_ct_mask_net.app.readers import Readers

# Chosen so that every form of pixels is in one of them: native, JPEG, JPEG-LS, JPEG 2000, RLE, many frames.
BATCHES = [
    ("ExplicitVRLittleEndian", "JPEGLossless", "JPEG2000Lossless", "EnhancedCT", "MR"),
    ("ImplicitVRLittleEndian", "JPEGLSLossless", "JPEG2000", "JPEGExtended12Bit", "EnhancedCT"),
    ("ExplicitVRBigEndian", "DeflatedExplicitVRLittleEndian", "RLELossless", "JPEGLSNearLossless", "MR"),
    ("ExplicitVRLittleEndian", "JPEGLosslessSV1", "JPEGBaseline8Bit", "RLELossless"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Readers]]:
    with Readers(LIMITS) as readers:
        bench = Bench(tmp_path_factory.mktemp("fuzz"), oracle_pipeline())
        outcome = bench.warm_up(readers, ("ExplicitVRLittleEndian", "EnhancedCT"))
        # What is damaged below is assessed as long as it is whole.
        assert {result["status"] for result in outcome.results} == {"assessed"}
        yield bench, readers


@pytest.mark.parametrize("number", range(len(BATCHES)))
def test_damaged_files_are_read_or_refused_and_nothing_else(
    bench: tuple[Bench, Readers], number: int
) -> None:
    """No crash, no hang, nothing left behind, no token in any text: see ``Bench.put_through``."""
    batch = make_batch(2026, number, studies=BATCHES[number], volumes=12)
    bench[0].put_through(batch, bench[1])
    assert bench[0].report.outcomes["read"] > 0
    assert len(bench[0].report.outcomes) > 8, "the damage is too uniform to show anything"


def test_every_transfer_syntax_is_among_them() -> None:
    assert {name for batch in BATCHES for name in batch} == set(dicom_seeds())


def test_equal_numbers_give_equal_files() -> None:
    first, second = (make_batch(7, 1, studies=["RLELossless"], volumes=5) for _ in range(2))
    assert first == second
    assert first.contents != make_batch(7, 2, studies=["RLELossless"], volumes=5).contents


@pytest.mark.parametrize("mutation", dict.fromkeys(mutations.DICOM), ids=lambda mutation: mutation.__name__)
def test_each_kind_of_damage_changes_a_file(mutation: mutations.Mutation) -> None:
    content = dicom_seeds()["JPEG2000Lossless"][0]
    changed = 0
    for seed in range(10):
        spoilt = bytearray(content)
        mutation(spoilt, np.random.default_rng(seed))
        changed += spoilt != content
    assert changed > 0


@pytest.mark.parametrize("mutation", dict.fromkeys(mutations.NIFTI), ids=lambda mutation: mutation.__name__)
def test_each_kind_of_damage_changes_a_volume(mutation: mutations.Mutation) -> None:
    spoilt = bytearray(nifti_seeds()[2])
    mutation(spoilt, np.random.default_rng(1))
    assert spoilt != nifti_seeds()[2]


def test_elements_are_found_where_pydicom_finds_them() -> None:
    import io

    import pydicom

    content = dicom_seeds()["ImplicitVRLittleEndian"][0]
    dataset = pydicom.dcmread(io.BytesIO(content))
    found = [element.start for element in mutations.elements(content)]
    assert len(found) == len(dataset.file_meta) + len(dataset)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_damaged_files() -> None:
    program = Path(__file__).with_name("many.py")
    done = subprocess.run(
        [sys.executable, program, "--files", "10000"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
