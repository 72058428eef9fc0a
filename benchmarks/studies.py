"""Whole studies: DICOM in, result set with SR out; each run is a process of its own, start included.

    covid-ct-mask-net synthesize cohort --patients 3 --step 1.1 --format dicom
    python benchmarks/studies.py cohort/dicom/0002 --slices 50 300 --runs exact fast-adaptive
    python benchmarks/studies.py cohort/dicom/0002 --slices 300 --copies 1 5 --runs adaptive
    python benchmarks/studies.py cohort/dicom/0002 --network shipped --copies 2 --runs adaptive

The study is sliced anew to the numbers of slices asked for. With several copies in one run the stages
of the first and of the last are shown: the start is paid once, so the last is what each further one takes.

``shipped`` is the bundle as it is; ``every`` reads one slice in 10 mm, about as many as the first pass of
``adaptive``, whatever the study shows. The weights of the other networks are random, but for two biases:
no region is sure enough to be outlined, and S says COVID-19 of each slice: adaptive reading ends after its
first pass or soon after, as it does in a chest full of disease. It reads as many slices as lie in the
``extent_mm`` of the volume rule, which belongs to weights (``--extent`` for those that have none).
``--unsure`` leaves S as it is: adaptive reading then reads everything.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import torch
import yaml

from covid_ct_mask_net.checkpoints import (
    MANIFEST_NAME,
    ModelCard,
    file_sha256,
    save_checkpoint,
    untrained_model,
)
from covid_ct_mask_net.identifiers import derive_uid
from covid_ct_mask_net.networks.settings import (
    ClassifierSettings,
    DetectorSettings,
    light_classifier_settings,
    light_detector_settings,
)

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
RUNS = {
    "exact": {"engine": "exact"},
    "adaptive": {"engine": "exact", "slices": "adaptive"},
    "every": {"engine": "exact", "slices": "every=10"},
    "fast": {"engine": "fast"},
    "fast-adaptive": {"engine": "fast", "slices": "adaptive"},
    "int8-adaptive": {"engine": "fast", "engine_precision": "int8", "slices": "adaptive"},
    "int8-crop-adaptive": {
        "engine": "fast",
        "engine_precision": "int8",
        "slices": "adaptive",
        "crop": "lungs",
    },
}


def make_bundle(folder: Path, network: str, run: str, extent_mm: float | None, *, sure: bool) -> Path:
    """Write the bundle with the weights of a network and the settings of a run."""
    entries: dict[str, object] = dict(RUNS[run])
    if extent_mm is not None:
        entries["pooling::extent_mm"] = extent_mm
    if network == "shipped":
        return _write(folder, entries, BUNDLE / "models" / "model.pt")
    # They outline nothing: S alone must be enough for reading to end.
    entries["triage::support::weight"] = 1.0
    light = network == "light"
    settings = light_detector_settings() if light else DetectorSettings()
    head = light_classifier_settings() if light else ClassifierSettings()
    model = untrained_model(settings, head, 1)
    if model.detector is None or model.classifier is None:
        sys.exit("The model lacks a network.")
    with torch.no_grad():
        for part in (model.detector, model.classifier):
            part.roi_heads.box_predictor.cls_score.weight.mul_(0.01)
            part.roi_heads.box_predictor.cls_score.bias[0] += 2.0
        if sure:
            model.classifier.s.fc3.weight.mul_(0.001)
            model.classifier.s.fc3.bias.copy_(torch.tensor([0.0, 0.0, 30.0]))
    with tempfile.TemporaryDirectory() as name:
        weights = Path(name) / "model.pt"
        card = ModelCard(name="benchmark", version="0", trained_on="nothing", notice="random weights")
        save_checkpoint(weights, card, model.detector, model.classifier)
        return _write(folder, entries, weights, detector_settings=settings, classifier_settings=head)


def _write(
    folder: Path, entries: dict[str, object], weights: Path, **networks: DetectorSettings | ClassifierSettings
) -> Path:
    """Write the bundle with entries of its configuration, weights, and settings of the networks."""
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    (folder / "models").mkdir()
    shutil.copy(weights, folder / "models" / "model.pt")
    (folder / "models" / MANIFEST_NAME).write_text(f"{file_sha256(weights)}  model.pt\n")
    path = folder / "configs" / "inference.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in {"weights": "models/model.pt", **entries}.items():
        *outer, last = name.split("::")
        place = config
        for part in outer:
            place = place[part]
        place[last] = value
    for entry, values in networks.items():
        config[entry] = {"_target_": config[entry]["_target_"], **values.to_dict()}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder


def slice_anew(source: Path, folder: Path, count: int, copies: int) -> None:
    """Write a study as ``copies`` studies of ``count`` slices each, by nearest neighbour along the table."""
    images = sorted(map(pydicom.dcmread, source.glob("*.dcm")), key=lambda i: i.ImagePositionPatient[2])
    bottom, top = (float(image.ImagePositionPatient[2]) for image in (images[0], images[-1]))
    step = round((top - bottom) / (count - 1), 4)
    for copy in range(copies):
        (folder / str(copy)).mkdir(parents=True)
        study = derive_uid("benchmark", str(copy))
        for index, place in enumerate(np.linspace(0, len(images) - 1, count).round().astype(int)):
            image = images[place].copy()
            x, y, _ = image.ImagePositionPatient
            image.ImagePositionPatient = [x, y, round(bottom + index * step, 4)]
            image.SliceThickness = image.SpacingBetweenSlices = step
            image.InstanceNumber = index + 1
            image.StudyInstanceUID, image.SeriesInstanceUID = study, derive_uid(study, "series")
            image.FrameOfReferenceUID = derive_uid(study, "frame")
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = derive_uid(study, str(index))
            image.save_as(folder / str(copy) / f"{index:04d}.dcm")


def triage(bundle: Path, study: Path, output: Path) -> tuple[float, float, dict, dict]:
    """Return seconds of the clock and of the processor of the process, its record and one result."""
    command = [sys.executable, "-m", "covid_ct_mask_net", "triage", str(study), "-o", str(output)]
    shutil.rmtree(output, ignore_errors=True)
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--bundle", str(bundle), "--quiet"], check=True)  # noqa: S603
    seconds, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    result = next(output.glob("*/result.json"))
    return seconds, processor, json.loads((output / "run.json").read_text()), json.loads(result.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "study", type=Path, help="folder with one chest CT series of single-frame DICOM files"
    )
    parser.add_argument("--network", choices=["shipped", "light", "resnet50"], default="light")
    parser.add_argument("--slices", type=int, nargs="+", default=[300])
    parser.add_argument("--copies", type=int, nargs="+", default=[1], help="studies in one run")
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=["exact", "adaptive"])
    parser.add_argument("--repeats", type=int, default=1, help="runs of each")
    parser.add_argument(
        "--extent", type=float, metavar="MM", help="of the pooling rule; the bundle's if not given"
    )
    parser.add_argument("--unsure", action="store_true")
    arguments = parser.parse_args()
    print("run                  slices studies  read  seconds    CPU s  peak MB  stages")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = {
            run: make_bundle(
                folder / run, arguments.network, run, arguments.extent, sure=not arguments.unsure
            )
            for run in arguments.runs
        }
        first = folder / "first"
        slice_anew(arguments.study, first, 30, 1)
        for bundle in bundles.values():
            # Graphs are compiled, or calibrated, once a machine: not in the time.
            triage(bundle, first, folder / "out")
        for count in arguments.slices:
            for copies in arguments.copies:
                study = folder / f"{count}-{copies}"
                slice_anew(arguments.study, study, count, copies)
                for _ in range(arguments.repeats):
                    for run, bundle in bundles.items():
                        show(run, count, copies, *triage(bundle, study, folder / "out"))


def show(
    run: str, count: int, copies: int, seconds: float, processor: float, record: dict, result: dict
) -> None:
    """Print one row, and one for the last of several studies."""
    studies = list(record["seconds"]["studies"].values())
    read = 0 if result["sampling"] is None else result["sampling"]["read_slices"]
    peak = record["peak_memory_mb"]
    sys.stdout.write(
        f"{run:20} {count:6} {copies:7} {read:5} {seconds:8.1f} {processor:8.1f} {peak:8}  "
        f"{_each(studies[0])}\n"
    )
    if copies > 1:
        last = sum(studies[-1].values())
        sys.stdout.write(
            f"{'  the last of them':20} {count:6} {1:7} {'':5} {last:8.1f} {'':17}  {_each(studies[-1])}\n"
        )
    sys.stdout.flush()


def _each(stages: dict[str, float]) -> str:
    return " ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items())


if __name__ == "__main__":
    main()
