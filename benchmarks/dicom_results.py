"""Time and memory of writing the DICOM results of one large study, by kind of object.

    python benchmarks/dicom_results.py --slices 300 --rounds 3

A phantom of 512 x 512 pixels with irregular lesions goes through the whole chain with a network that sees
them, so that everything but the network is as in a run; then the results are made again and again, all kinds
in turn in one process. Seconds are by the clock and, as other work on the machine stretches those, of the
processor. Memory is what the process needs at most above what it holds before.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from builders.dicom import make_ct_series, phantom_hu
from builders.oracle import CONSOLIDATION_HU, GGO_HU, Oracle, oracle_pipeline
from covid_ct_mask_net import assemble
from covid_ct_mask_net.app import dicom_results as results
from covid_ct_mask_net.app.chain import StudyChain
from covid_ct_mask_net.app.findings import Findings
from covid_ct_mask_net.app.normalise import Sources, normalise
from covid_ct_mask_net.app.report_settings import ReportSettings
from covid_ct_mask_net.app.run import TriageRun
from covid_ct_mask_net.app.views import views
from covid_ct_mask_net.networks.slice_model import SliceOutput
from covid_ct_mask_net.results import StudyResult

SIDE = 512
SPACING = (1.0, 0.7, 0.7)


def phantom(slices: int, lesions: int) -> NDArray[np.float32]:
    """Return a chest with irregular lesions in both lungs, shape (slices, rows, columns)."""
    hu = phantom_hu((slices, SIDE, SIDE))
    lung = (hu < -700) & (hu > -900)
    random = np.random.default_rng(5)
    rough = ndimage.gaussian_filter(random.normal(size=(slices // 2 + 1, SIDE // 2, SIDE // 2)), 2.0)
    rough = (rough / rough.std()).repeat(2, 0)[:slices].repeat(2, 1).repeat(2, 2)
    places = random.permutation(np.argwhere(lung[::4, ::4, ::4]))[:lesions] * 4
    for number, place in enumerate(places):
        size = random.uniform(8.0, 24.0, 3) * (1.0, 1.4, 1.4)
        low = np.maximum(place - 1.5 * size, 0).astype(int)
        box = tuple(slice(a, a + int(3 * s)) for a, s in zip(low, size, strict=True))
        steps = zip(hu[box].shape, low, place, size, strict=True)
        axes = [(np.arange(n) + a - p) / s for n, a, p, s in steps]
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        blob = (z**2 + y**2 + x**2 + 0.35 * rough[box] < 1) & lung[box]
        hu[box][blob] = CONSOLIDATION_HU if number % 3 == 0 else GGO_HU
    return hu


class Outliner(Oracle):
    """The oracle with the shape of each lesion in its mask."""

    def _look(self, image: NDArray[np.float32]) -> SliceOutput:
        seen = super()._look(image)
        masks = []
        for box, label in zip(seen.boxes.tolist(), seen.labels.tolist(), strict=True):
            left, top, right, bottom = (int(v) for v in box)
            crop = image[top : bottom + 1, left : right + 1]
            hu = GGO_HU if label == 1 else CONSOLIDATION_HU
            inside = torch.from_numpy(np.abs(crop * 1500.0 - 1350.0 - hu) < 2.0).float()[None, None]
            masks.append(torch.nn.functional.interpolate(inside, size=(28, 28), mode="area")[0])
        return dataclasses.replace(seen, masks=torch.stack(masks)) if masks else seen


def study(folder: Path, slices: int, lesions: int) -> tuple[StudyResult, Sources, results.Images]:
    """Run the chain up to the report."""
    make_ct_series(folder / "in", hu=phantom(slices, lesions), spacing=SPACING)
    run = TriageRun.start([folder / "in"], folder / "out")
    chain = StudyChain(dataclasses.replace(oracle_pipeline(), network=Outliner().eval()), folder / "out")
    (job,) = run.jobs()
    for name, stage in chain.stages:
        chain.attempt(name, stage, job)
    if job.error is not None:
        raise SystemExit(f"{job.error.code}: {job.error.sentence}")
    run.readers.close()
    result = assemble.assessed(job.source, job.data["outcome"], chain.pipeline.model)
    findings = Findings.of(job.data, result, job.volume)
    assert findings is not None
    assert job.volume is not None
    assert job.study is not None
    sources = normalise(job.volume.headers, job.study.study_instance_uid)
    return result, sources, results.Images(job.volume, findings, views(result, findings))


def peak_above(write: Callable[[], object]) -> float:
    """Return what a call needs at most above what is held before, MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _kilobytes("VmRSS")
    write()
    return (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--lesions", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result, sources, images = study(Path(folder), arguments.slices, arguments.lesions)
    nothing = ReportSettings(segmentation=False, key_images=0, presentation_state=False, key_objects=False)
    kinds = {
        "SR alone": nothing,
        "SR + SEG": dataclasses.replace(nothing, segmentation=True),
        "SR + SC": dataclasses.replace(nothing, key_images=3),
        "SR + GSPS": dataclasses.replace(nothing, presentation_state=True),
        "SR + KOS": dataclasses.replace(nothing, key_objects=True),
        "all": ReportSettings(),
    }
    calls = {
        name: lambda settings=settings: results.dicom_results(result, sources, images, settings)
        for name, settings in kinds.items()
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    megabytes = {name: peak_above(call) for name, call in calls.items()}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            start = time.perf_counter(), time.process_time()
            call()
            seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    sizes = ", ".join(f"{name} {len(content) / 1e3:.0f} kB" for name, content in calls["all"]().items())
    marked = int((images.findings.labels > 0).any(axis=(0, 1)).sum())
    print(f"{arguments.slices} slices of {SIDE} x {SIDE}, {len(result.lesions)} lesions on {marked} slices")
    for name, taken in seconds.items():
        clock, processor = (statistics.median(kind) for kind in zip(*taken, strict=True))
        print(f"{name:10} {clock:6.2f} s, {processor:6.2f} s of processor   {megabytes[name]:6.0f} MB above")
    print(sizes)


if __name__ == "__main__":
    main()
