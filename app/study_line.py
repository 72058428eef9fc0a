"""Studies one after the other, the results of each written while the next one is read.

Reading waits for reader processes, so writing costs no time there. Nothing else overlaps: the networks of one
study beside the results of another would hold two volumes with all that is derived from them, and memory must
not grow with the number of studies.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.headers import quiet_pydicom, quieted
from covid_ct_mask_net.app.iod_lookups import load_tables
from covid_ct_mask_net.app.study_job import StudyJob
from covid_ct_mask_net.results import StudyResult

# Up to here a study only reads files.
_READING = ("select", "load")


def in_turn(chain: StudyChain, jobs: Iterable[StudyJob]) -> Generator[StudyJob]:
    """Take studies through a chain and yield each, in their order, once its results are on disk.

    Results are those of ``chain.run`` for each study alone. What the writing of a study raises, as where the
    disk is full, is raised before the next one is assessed.

    Parameters
    ----------
    chain : StudyChain
    jobs : iterable of StudyJob
        The next one is taken when the one before is assessed.
    """
    # Around both threads: each silences the libraries for itself too, and must not end that of the other.
    with quiet_pydicom(), quieted("highdicom"), ThreadPoolExecutor(1, thread_name_prefix="reports") as pool:
        # The first study is being read meanwhile.
        pool.submit(load_tables)
        written: tuple[StudyJob, Future[StudyResult]] | None = None
        for job in jobs:
            for name, stage in chain.stages:
                if written is not None and name not in _READING:
                    yield _finished(*written)
                    written = None
                chain.attempt(name, stage, job)
            written = (job, pool.submit(chain.report, job))
        if written is not None:
            yield _finished(*written)


def _finished(job: StudyJob, report: Future[StudyResult]) -> StudyJob:
    report.result()
    return job
