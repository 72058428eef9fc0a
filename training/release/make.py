r"""Re-create the shipped weights from nothing but seeds and two real people whose licence allows it.

    python -m covid_ct_mask_net.training.release.make --work DIR --real DIR --bundle bundle

Steps, each left out where its result is there already: phantoms, validation and test scans, detector, scores,
classifier, packing into ``models``, and the volume rule, which is printed for ``inference.yaml``. Trainings
are runs of the bundle's configurations; an interrupted one goes on. Then `training.release.report` measures
the weights. ``--miniature`` takes a little of everything: minutes instead of hours, and weights that find
nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from covid_ct_mask_net.engines.cores import usable_cores
from covid_ct_mask_net.training.release import class_files, rule, scores
from covid_ct_mask_net.training.release.chests import PHANTOMS, make_phantoms
from covid_ct_mask_net.training.release.pack import pack
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings, Layout, write_cohort

VALIDATION = CohortSettings(60, 808, size=320, shares=(0.0, 1.0, 0.0), layouts=(Layout.NIFTI,))
TEST = CohortSettings(120, 2712, size=320, shares=(0.0, 0.0, 1.0), layouts=(Layout.NIFTI,))

DETECTOR = ("train_segmentation.yaml", "train_segmentation_synthetic.yaml")
_CLASSIFIER = ("train_classifier.yaml", "train_classifier_synthetic.yaml")
BOXES = (*_CLASSIFIER, "train_cached_trunk.yaml")
HEAD = (*_CLASSIFIER, "train_mixed_rows.yaml")
# Of the slices that the classifier learns from.
SEEDS = {"boxes": 20201108, "head": 20201110}


@dataclass(frozen=True)
class Amounts:
    """How much of everything is made.

    Attributes
    ----------
    phantoms, emphysema_share
        Chests of the detector's training, and how many of them have emphysema. The classifier's slices are
        drawn into as many others, so that it sees more people.
    cohorts
        Scans by name: ``validation`` and ``test``.
    detector, boxes, head
        Settings of ``train_segmentation_synthetic.yaml``, ``train_classifier_synthetic.yaml`` and
        ``train_mixed_rows.yaml``; ``minutes`` ends the detector's training.
    box_draws, head_draws
        Patients drawn for the box head and S, and for S alone.
    """

    phantoms: int = PHANTOMS
    emphysema_share: float = 0.5
    cohorts: dict[str, CohortSettings] = field(
        default_factory=lambda: {"validation": VALIDATION, "test": TEST}
    )
    detector: dict[str, Any] = field(default_factory=lambda: {"minutes": 70.0})
    boxes: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)
    box_draws: int = 6000
    head_draws: int = 3000


FULL = Amounts()
MINIATURE = Amounts(
    phantoms=2,
    cohorts={
        "validation": replace(VALIDATION, patients=3, step_mm=10.0),
        "test": replace(TEST, patients=3, step_mm=10.0),
    },
    detector={"epochs": 2, "batches": 5, "batch_size": 2, "room": 24, "slices_a_patient": 1},
    boxes={"epochs": 1},
    head={"epochs": 2, "batch_size": 8},
    box_draws=3,
    head_draws=3,
)


def make(work: Path, real: Path | None, bundle: Path, amounts: Amounts = FULL) -> None:
    """Make what is not there yet.

    Parameters
    ----------
    work : Path
        Folder for everything between.
    real : Path, optional
        Folder with the series named in `chests.REAL_SLICES`; without it, phantoms alone.
    bundle : Path
        Whose configurations train, and whose ``models`` get the weights.
    amounts : Amounts
    """
    made = _Work(work, real, bundle)
    _say("phantoms")
    count, share = amounts.phantoms, amounts.emphysema_share
    make_phantoms(made.chests, count, emphysema_share=share)
    make_phantoms(made.class_chests, 2 * count, first=count, emphysema_share=share)
    for name, settings in amounts.cohorts.items():
        if not (work / name).exists():
            _say(f"{name} scans")
            write_cohort(work / name, settings, workers=usable_cores())
    validation, found = work / "validation", work / "detector.pt"
    detector = made.trained(
        "detector", DETECTOR, chests=made.chests, real=real, cohort=validation, **amounts.detector
    )
    if not found.exists():
        _say("scores")
        scores.main(["--detector", str(detector), "--cohort", str(validation), "--output", str(found)])
    slices = made.slices("slices-for-boxes", amounts.box_draws, SEEDS["boxes"])
    boxes = made.trained("boxes", BOXES, dataset_dir=slices, weights=found, **amounts.boxes)
    slices = made.slices("slices-for-head", amounts.head_draws, SEEDS["head"])
    head = made.trained("head", HEAD, dataset_dir=slices, weights=boxes, **amounts.head)
    _say("packing")
    pack(head, bundle / "models")
    _say("volume rule")
    rule.main(["--bundle", str(bundle), "--cohort", str(validation), "--output", str(work / "rule.json")])
    _say(json.dumps(json.loads((work / "rule.json").read_text(encoding="utf-8")), indent=2))


@dataclass(frozen=True)
class _Work:
    """The folder for everything between, and what is made in it once."""

    folder: Path
    real: Path | None
    bundle: Path

    @property
    def chests(self) -> Path:
        return self.folder / "chests"

    @property
    def class_chests(self) -> Path:
        return self.folder / "class-chests"

    def trained(self, name: str, configs: Sequence[str], **settings: Any) -> Path:
        """Return the weights of a run of the bundle, which is begun or goes on unless it is done."""
        run, done = self.folder / name, self.folder / f"{name}.done"
        if not done.exists():
            _say(name)
            _train(self.bundle, configs, run, **settings)
            done.touch()
        return run / "model.pt"

    def slices(self, name: str, draws: int, seed: int) -> Path:
        """Return a folder of slices with classes, which are drawn unless it is there."""
        folder = self.folder / name
        if not folder.exists():
            _say(name.replace("-", " "))
            lungs = [] if self.real is None else ["--real", str(self.real)]
            given = ["--chests", str(self.class_chests), *lungs, "--output", str(folder)]
            class_files.main([*given, "--draws", str(draws), "--seed", str(seed)])
        return folder


def _train(bundle: Path, configs: Sequence[str], run: Path, **settings: Any) -> None:
    """Run a training of the bundle in a process of its own, or go on with the one that the folder holds."""
    files = [str(bundle / "configs" / name) for name in configs]
    settings |= {"output_dir": run, "resume": (run / "state.pt").exists()}
    given = [
        part for name, value in settings.items() if value is not None for part in (f"--{name}", str(value))
    ]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), *given]
    done = subprocess.run(command, check=False)  # noqa: S603
    if done.returncode:
        # The training has said why.
        raise SystemExit(done.returncode)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything between")
    parser.add_argument("--real", type=Path, help="folder that holds the series named in chests.REAL_SLICES")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle folder that gets the weights")
    parser.add_argument("--minutes", type=float, help="of the detector's training, 70 if not given")
    parser.add_argument(
        "--miniature", action="store_true", help="a little of everything; the weights are of no use"
    )
    options = parser.parse_args(arguments)
    amounts = MINIATURE if options.miniature else FULL
    if options.minutes is not None:
        amounts = replace(amounts, detector={**amounts.detector, "minutes": options.minutes})
    make(options.work, options.real, options.bundle, amounts)


if __name__ == "__main__":
    main()
