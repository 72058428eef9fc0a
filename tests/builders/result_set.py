"""The result set of the phantom with known lesions, made once a session."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from builders.dicom import make_ct_series
from builders.oracle import SPACING, chest_with_lesions, oracle_pipeline
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.normalise import Sources, normalise
from covid_ct_mask_net.app.report_settings import ReportSettings
from covid_ct_mask_net.app.result_object import ResultObjects
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.results import StudyResult


@dataclass(frozen=True, eq=False)
class Made:
    """Source images by SOP Instance UID, the result, and the files of its set."""

    images: dict[str, Dataset]
    result: StudyResult
    folder: Path

    def read(self, name: str) -> Dataset:
        return pydicom.dcmread(self.folder / name)

    @property
    def sources(self) -> Sources:
        return normalise(list(self.images.values()), self.result.study_instance_uid)

    @property
    def objects(self) -> ResultObjects:
        return ResultObjects.of(self.result, self.sources)


@cache
def made(*, lesions: bool = True, suspects: bool = False, settings: ReportSettings | None = None) -> Made:
    """Run the chain with the oracle on the phantom; everything is written, PDF too, without settings."""
    folder = Path(tempfile.mkdtemp(prefix="covid-ct-mask-net-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_ct_series(folder / "in", hu=chest_with_lesions(lesions=lesions), spacing=SPACING)
    run = TriageRun.start([folder / "in"], folder / "out")
    chain = StudyChain(
        oracle_pipeline(suspects=suspects), folder / "out", settings=settings or ReportSettings(pdf=True)
    )
    (job,) = run.jobs()
    result = chain.run(job)
    images = {str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, sorted((folder / "in").glob("*.dcm")))}
    return Made(images, result, folder / "out" / result.pseudonym)
