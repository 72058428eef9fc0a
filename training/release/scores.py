"""Set the scores of a trained detector so that 0.5 is where outlines are best.

    python -m covid_ct_mask_net.training.release.scores --detector FILE --cohort DIR --output FILE

A score is the probability that a box meets a lesion of its class well, not that there is a lesion; on large
ragged lesions it stays low although the outline is good. One constant on the background's logit moves the
scores of all boxes without changing their order within a class. It is fitted on synthetic validation slices,
in favour of recall: scanners and readers that the detector has not seen lower its scores.

Where scores are multiplied by how sure the masks are, the constant is what a mask of usual certainty needs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from covid_ct_mask_net.checkpoints import load_segmentation, save_checkpoint
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.maskness import maskness
from covid_ct_mask_net.training.files import write_text
from covid_ct_mask_net.training.metrics.lesion_dice import outlined_labels
from covid_ct_mask_net.training.release.cohort_slices import LabelledSlice, cohort_slices
from covid_ct_mask_net.training.release.pack import CARD

# Dice may be this much lower, as a share of the best, for a lower threshold.
_GIVEN_UP = 0.05
# Which detections count as being at the threshold.
_NEAR = 0.1
THRESHOLDS = tuple(round(0.1 + 0.05 * n, 2) for n in range(13))


@dataclass(frozen=True)
class OperatingPoint:
    """Where to cut.

    Attributes
    ----------
    threshold
        The lowest score from which on detections outline lesions about as well as they can.
    maskness
        Median of how sure masks are that score about as much; 1 where scores do not count it.
    """

    threshold: float
    maskness: float = 1.0


@torch.no_grad()
def operating_point(detector: LesionDetector, slices: Iterable[LabelledSlice]) -> OperatingPoint:
    """Return where outlines are best, for recall's sake 5 % below.

    Measured by the mean Dice of GGO and consolidation. Slices without lesions count too: what is found there
    lowers Dice.
    """
    both, either = (np.zeros((len(THRESHOLDS), 2)) for _ in range(2))
    scores: list[NDArray[np.float32]] = []
    certainties: list[NDArray[np.float32]] = []
    for _, _, image, truth in slices:
        (found,) = detector.eval()([torch.from_numpy(np.ascontiguousarray(image))[None]])
        scores.append(found["scores"].numpy())
        certainties.append(maskness(found["masks"]).numpy())
        for index, threshold in enumerate(THRESHOLDS):
            painted = outlined_labels(found, truth.shape, threshold)
            for lesion_class in (1, 2):
                ours, theirs = painted == lesion_class, truth == lesion_class
                both[index, lesion_class - 1] += np.count_nonzero(ours & theirs)
                either[index, lesion_class - 1] += np.count_nonzero(ours) + np.count_nonzero(theirs)
    dice = (2 * both / np.maximum(either, 1)).mean(axis=1)
    threshold = THRESHOLDS[int(np.argmax(dice >= (1 - _GIVEN_UP) * dice.max()))]
    if not detector.settings.maskness:
        return OperatingPoint(threshold)
    every = np.concatenate(certainties)
    near = every[np.abs(np.concatenate(scores) - threshold) <= _NEAR]
    # A detector that was hardly trained may have no score near.
    usual = near if len(near) else every
    return OperatingPoint(threshold, float(np.median(usual)) if len(usual) else 1.0)


def move_scores(detector: LesionDetector, point: OperatingPoint) -> None:
    """Shift the background's logit so that what scored the threshold scores 0.5.

    Raises
    ------
    ValueError
        If a box of that score is no probability, before or after.
    """
    before, after = point.threshold / point.maskness, 0.5 / point.maskness
    if not (0 < before < 1 and 0 < after < 1):
        raise ValueError(
            f"A score of {point.threshold} at a maskness of {point.maskness} cannot become one half: "
            f"the box would go from {before:.3f} to {after:.3f}, but both must lie in (0, 1)."
        )
    shift = math.log(after / (1 - after)) - math.log(before / (1 - before))
    with torch.no_grad():
        detector.roi_heads.box_predictor.cls_score.bias[0] -= shift


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, required=True, help="validation scans, from synthesize")
    parser.add_argument("--output", type=Path, required=True, help="FILE.pt; the threshold goes to FILE.json")
    options = parser.parse_args(arguments)
    detector = load_segmentation(options.detector)
    point = operating_point(detector, cohort_slices(options.cohort))
    move_scores(detector, point)
    noted = {"score_that_became_half": point.threshold, "maskness": point.maskness}
    write_text(options.output.with_suffix(".json"), json.dumps(noted) + "\n")
    save_checkpoint(options.output, CARD, detector, None)


if __name__ == "__main__":
    main()
