r"""Re-create the shipped weights from nothing but seeds and two real people whose licence allows it.

    python -m covid_ct_mask_net.training.release.make --work DIR --real DIR --bundle bundle

Steps, each left out where its result is there already: phantoms, validation and test scans, detector, scores,
classifier, packing into ``models``, and the volume rule, which is printed for ``inference.yaml``. The
detector's training is a run of the bundle's configurations; an interrupted one goes on. Then
`training.release.report` measures the weights. ``--miniature`` takes a little of everything: minutes instead
of hours, and weights that find nothing.
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

from covid_ct_mask_net.training.release import classifier, rule, scores
from covid_ct_mask_net.training.release.chests import PHANTOMS, make_phantoms
from covid_ct_mask_net.training.release.pack import pack
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings, Layout, write_cohort

VALIDATION = CohortSettings(24, 808, size=320, shares=(0.0, 1.0, 0.0), layouts=(Layout.NIFTI,))
TEST = CohortSettings(42, 909, size=320, shares=(0.0, 0.0, 1.0), layouts=(Layout.NIFTI,))


@dataclass(frozen=True)
class Amounts:
    """How much of everything is made.

    Attributes
    ----------
    phantoms
        Chests of the training.
    cohorts
        Scans by name: ``validation`` and ``test``.
    detector
        Settings of ``train_segmentation_synthetic.yaml``; ``minutes`` ends the training.
    draws, row_draws
        Patients for the box head and S, and for S alone.
    epochs, row_epochs
        Of both trainings.
    """

    phantoms: int = PHANTOMS
    cohorts: dict[str, CohortSettings] = field(
        default_factory=lambda: {"validation": VALIDATION, "test": TEST}
    )
    detector: dict[str, Any] = field(default_factory=lambda: {"minutes": 70.0})
    draws: int = 270
    row_draws: int = 2800
    epochs: int = 5
    row_epochs: int = 60


FULL = Amounts()
MINIATURE = Amounts(
    phantoms=2,
    cohorts={
        "validation": replace(VALIDATION, patients=3, step_mm=10.0),
        "test": replace(TEST, patients=3, step_mm=10.0),
    },
    detector={"epochs": 2, "batches": 5, "batch_size": 2, "room": 24, "slices_a_patient": 1},
    draws=6,
    row_draws=6,
    epochs=1,
    row_epochs=2,
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
    chests, found, both = work / "chests", work / "detector.pt", work / "model.pt"
    validation = work / "validation"
    _say("phantoms")
    make_phantoms(chests, amounts.phantoms)
    for name, settings in amounts.cohorts.items():
        if not (work / name).exists():
            _say(f"{name} scans")
            write_cohort(work / name, settings)
    if not found.exists():
        _say("detector")
        run = work / "detector"
        _train(bundle, "train_segmentation.yaml", "train_segmentation_synthetic.yaml", output_dir=run,
               chests=chests, real=real, cohort=validation, **amounts.detector)  # fmt: skip
        _say("scores")
        scores.main(
            ["--detector", str(run / "model.pt"), "--cohort", str(validation), "--output", str(found)]
        )
    if not both.exists():
        _say("classifier")
        lungs = [] if real is None else ["--real", str(real)]
        classifier.main(
            [
                "--detector", str(found), "--chests", str(chests), *lungs, "--output", str(both),
                "--draws", str(amounts.draws), "--epochs", str(amounts.epochs),
                "--row-draws", str(amounts.row_draws), "--row-epochs", str(amounts.row_epochs),
            ]
        )  # fmt: skip
    _say("packing")
    pack(both, bundle / "models")
    _say("volume rule")
    rule.main(["--bundle", str(bundle), "--cohort", str(validation), "--output", str(work / "rule.json")])
    _say(json.dumps(json.loads((work / "rule.json").read_text(encoding="utf-8")), indent=2))


def _train(bundle: Path, *configs: str, output_dir: Path, **settings: Any) -> None:
    """Run a training of the bundle in a process of its own, or go on with the one that the folder holds."""
    files = [str(bundle / "configs" / name) for name in configs]
    settings |= {"output_dir": output_dir, "resume": (output_dir / "state.pt").exists()}
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
