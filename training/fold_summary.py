"""What a cross-validation came to, as the table of docs/training.md.

    python -m covid_ct_mask_net.training.fold_summary folds/0 folds/1 ...

Each folder is one fold: trained by ``train_segmentation.yaml`` and evaluated by
``evaluate_segmentation.yaml`` on what was held out.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from covid_ct_mask_net.errors import CovidCTMaskNetError, RefusedInputError
from covid_ct_mask_net.training.predictions import MAIN
from covid_ct_mask_net.training.runs import Run, read_run


@dataclass(frozen=True)
class Fold:
    """One fold.

    Attributes
    ----------
    name
        Of its folder.
    epochs
        Epochs trained.
    first_loss, last_loss
        Mean of the training loss in the first and last epoch.
    ap, ap50
        COCO's mask AP over IoU 0.50:0.95 and at 0.50 of the slices held out.
    dice
        By class: Dice of all lesion pixels held out.
    """

    name: str
    epochs: int
    first_loss: float
    last_loss: float
    ap: float
    ap50: float
    dice: tuple[tuple[str, float], ...] = ()


def fold_of(run: Run) -> Fold:
    """Return what a run folder says about its fold.

    Raises
    ------
    RefusedInputError
        ``FOLD_INCOMPLETE`` if the run was not trained or not evaluated.
    """
    figures = run.metrics.get(MAIN, {})
    if "coco_mask" not in figures or not len(run.history.get("train/loss", ())):
        raise RefusedInputError(
            "FOLD_INCOMPLETE",
            f"{run.folder} lacks a training or the evaluation of its detector; run both into it.",
        )
    loss = run.history["train/loss"]
    mask, dice = figures["coco_mask"], figures["lesion_dice"]["dice"]
    return Fold(
        run.folder.name, len(loss), float(loss[0]), float(loss[-1]),
        _number(mask["ap"]), _number(mask["ap50"]),
        tuple((name, _number(value)) for name, value in dice.items()),
    )  # fmt: skip


def markdown(folds: Sequence[Fold]) -> str:
    """Return the table: a row a fold, and their means."""
    classes = [name for name, _ in folds[0].dice]
    head = ["fold", "epochs", "training loss, first and last", "mask AP 0.50:0.95", "AP50"]
    lines = [_row([*head, *(f"Dice, {name}" for name in classes)])]
    lines.append("|" + "---|" * (len(head) + len(classes)))
    for fold in folds:
        loss = f"{fold.first_loss:.2f}, {fold.last_loss:.2f}"
        figures = [fold.ap, fold.ap50, *(value for _, value in fold.dice)]
        lines.append(_row([fold.name, str(fold.epochs), loss, *map(_figure, figures)]))
    columns = [[fold.ap for fold in folds], [fold.ap50 for fold in folds]]
    columns += [[dict(fold.dice)[name] for fold in folds] for name in classes]
    lines.append(_row(["mean", "", "", *(_figure(_mean(values)) for values in columns)]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _number(value: float | None) -> float:
    """Return a figure of ``metrics.json``, in which there is no NaN."""
    return math.nan if value is None else float(value)


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the folds that have a figure: a class may be missing in one."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of run folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder of one fold")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(markdown([fold_of(read_run(folder)) for folder in options.runs]))
    except CovidCTMaskNetError as error:
        sys.stderr.write(f"{error.code}: {error.sentence}\n")
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
