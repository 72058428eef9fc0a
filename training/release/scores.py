"""Set the scores of a trained detector so that 0.5 is where outlines are best.

    python -m covid_ct_mask_net.training.release.scores --detector FILE --cohort DIR --output FILE

A score is the probability that a box meets a lesion of its class well, not that there is a lesion; on large
ragged lesions it stays low although the outline is good. One constant on the background's logit moves all
scores without changing their order within a class. It is fitted on synthetic validation slices, in favour of
recall: scanners and readers that the detector has not seen lower its scores.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from covid_ct_mask_net.checkpoints import load_segmentation, save_checkpoint
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.files import write_text
from covid_ct_mask_net.training.metrics.lesion_dice import outlined_labels
from covid_ct_mask_net.training.release.cohort_slices import LabelledSlice, cohort_slices
from covid_ct_mask_net.training.release.pack import CARD

# Dice may be this much lower, as a share of the best, for a lower threshold.
_GIVEN_UP = 0.03
THRESHOLDS = tuple(round(0.1 + 0.05 * n, 2) for n in range(13))


@torch.no_grad()
def best_threshold(detector: LesionDetector, slices: Iterable[LabelledSlice]) -> float:
    """Return the lowest score from which on detections outline lesions about as well as they can.

    Measured by the mean Dice of GGO and consolidation; 3 % of the best are given up for recall. Slices
    without lesions count too: what is found there lowers Dice.
    """
    both, either = (np.zeros((len(THRESHOLDS), 2)) for _ in range(2))
    for _, _, image, truth in slices:
        (found,) = detector.eval()([torch.from_numpy(np.ascontiguousarray(image))[None]])
        for index, threshold in enumerate(THRESHOLDS):
            painted = outlined_labels(found, truth.shape, threshold)
            for lesion_class in (1, 2):
                ours, theirs = painted == lesion_class, truth == lesion_class
                both[index, lesion_class - 1] += np.count_nonzero(ours & theirs)
                either[index, lesion_class - 1] += np.count_nonzero(ours) + np.count_nonzero(theirs)
    dice = (2 * both / np.maximum(either, 1)).mean(axis=1)
    return THRESHOLDS[int(np.argmax(dice >= (1 - _GIVEN_UP) * dice.max()))]


def move_scores(detector: LesionDetector, threshold: float) -> None:
    """Shift the background's logit so that what scored ``threshold`` against background scores 0.5."""
    if not 0 < threshold < 1:
        raise ValueError(f"The threshold is {threshold}, but must lie in (0, 1).")
    with torch.no_grad():
        detector.roi_heads.box_predictor.cls_score.bias[0] -= math.log((1 - threshold) / threshold)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, required=True, help="validation scans, from synthesize")
    parser.add_argument("--output", type=Path, required=True, help="FILE.pt; the threshold goes to FILE.json")
    options = parser.parse_args(arguments)
    detector = load_segmentation(options.detector)
    threshold = best_threshold(detector, cohort_slices(options.cohort))
    move_scores(detector, threshold)
    write_text(options.output.with_suffix(".json"), json.dumps({"score_that_became_half": threshold}) + "\n")
    save_checkpoint(options.output, CARD, detector, None)


if __name__ == "__main__":
    main()
