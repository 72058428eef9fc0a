r"""Re-create the shipped weights from nothing but seeds and two real people whose licence allows it.

    python -m covid_ct_mask_net.training.release.make --work DIR --real DIR --bundle bundle

Steps, each left out where its result is there already: phantoms, detector (``--minutes`` of training; a run
that time ends cannot be repeated to the bit), validation scans, scores and classifier, packing into
``models``, and the volume rule, which is printed for ``inference.yaml``. Then `training.release.report`
measures them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from covid_ct_mask_net.training.release import classifier, detector, rule
from covid_ct_mask_net.training.release.chests import make_phantoms
from covid_ct_mask_net.training.release.pack import pack
from covid_ct_mask_net.training.synthesis.cohort import CohortSettings, Layout, write_cohort

PHANTOMS = 48
VALIDATION = CohortSettings(24, 808, size=320, shares=(0.0, 1.0, 0.0), layouts=(Layout.NIFTI,))
TEST = CohortSettings(42, 909, size=320, shares=(0.0, 0.0, 1.0), layouts=(Layout.NIFTI,))
MINUTES = 70.0


def make(work: Path, real: Path | None, bundle: Path, minutes: float = MINUTES) -> None:
    """Make what is not there yet.

    Parameters
    ----------
    work : Path
        Folder for everything between.
    real : Path, optional
        Folder with the series named in `chests.REAL_SLICES`; without it, phantoms alone.
    bundle : Path
        Whose ``models`` get the weights.
    minutes : float
        How long the detector is trained.
    """
    chests, found, both = work / "chests", work / "detector.pt", work / "model.pt"
    lungs = [] if real is None else ["--real", str(real)]
    _say("phantoms")
    make_phantoms(chests, PHANTOMS)
    if not found.exists():
        _say("detector")
        detector.main(["--chests", str(chests), *lungs, "--output", str(found), "--minutes", str(minutes)])
    for name, settings in (("validation", VALIDATION), ("test", TEST)):
        if not (work / name).exists():
            _say(f"{name} scans")
            write_cohort(work / name, settings)
    if not both.exists():
        _say("scores and classifier")
        classifier.main(
            [
                "--detector", str(found), "--chests", str(chests), *lungs,
                "--cohort", str(work / "validation"), "--output", str(both),
            ]
        )  # fmt: skip
    _say("packing")
    pack(both, bundle / "models")
    _say("volume rule")
    rule.main(
        ["--bundle", str(bundle), "--cohort", str(work / "validation"), "--output", str(work / "rule.json")]
    )
    _say(json.dumps(json.loads((work / "rule.json").read_text(encoding="utf-8")), indent=2))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything between")
    parser.add_argument("--real", type=Path, help="folder that holds the series named in chests.REAL_SLICES")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle folder that gets the weights")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    options = parser.parse_args(arguments)
    make(options.work, options.real, options.bundle, options.minutes)


if __name__ == "__main__":
    main()
