"""What the training of a classifier starts from: a segmentation checkpoint, or a classifier's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from covid_ct_mask_net.checkpoints import load_model
from covid_ct_mask_net.errors import UntrustedModelError, UsageError
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.settings import ClassifierSettings, DetectorSettings
from covid_ct_mask_net.training.metrics.protocols import check_share

Classifier = TypeVar("Classifier", bound=nn.Module)
# N and F of the paper (Table 3), and of the light models of its repository.
_FULL_SIZE, _LIGHT_SIZE = (256, 1024), (128, 512)


@dataclass(frozen=True, eq=False)
class FirstNetworks:
    """The classifier to train, and the detector that goes into the same checkpoint, if there is one."""

    classifier: CovidCTMaskNet
    detector: LesionDetector | None


def initial_classifier(
    start: str | Path | None,
    *,
    classes: int,
    seed: int,
    regions: int | None = None,
    features: int | None = None,
    rpn_nms: float | None = None,
    roi_nms: float | None = None,
) -> FirstNetworks:
    """Return a classifier with its first weights.

    Parameters
    ----------
    start : path
        Checkpoint. From a lesion detector the trunk is taken (all but the mask branch) and S starts from
        random weights; from a classifier, S goes on too. Where its number of classes differs (fine-tuning to
        two classes), the last layer of S starts anew. A checkpoint with both goes on as a classifier.
    classes : int
        Number of slice classes.
    seed : int
        Of the weights that are not given.
    regions, features : int, optional
        N and F of S; the checkpoint's, or 256 and 1024 (light models: 128 and 512).
    rpn_nms, roi_nms : float, optional
        NMS thresholds of proposals and of ranked regions; those of the checkpoint's classifier, or 0.75 and
        0.75 (paper, Table 3).

    Raises
    ------
    UsageError
        If no checkpoint is named, a classifier has another N or F, or a threshold is not in [0, 1].
    UntrustedModelError
        If the file cannot be used.
    """
    if not start:
        raise UsageError(
            "START",
            "A classifier starts from a checkpoint of a detector or a classifier; name one by --weights.",
        )
    path = Path(start)
    model = load_model(path)
    if model.classifier is not None:
        settings = _settings_of(model.classifier.settings, path, classes, regions, features)
        trunk = model.classifier.detector_settings
        classifier = _random_classifier(trunk, settings, seed)
        state = model.classifier.state_dict()
        if classes != model.classifier.settings.classes:
            state |= {
                name: value for name, value in classifier.state_dict().items() if name.startswith("s.fc3.")
            }
        classifier.load_state_dict(state)
        return FirstNetworks(with_nms(classifier, rpn_nms, roi_nms), model.detector)
    if model.detector is None:
        raise UntrustedModelError("WEIGHTS_MISMATCH", f"{path.name} holds no network to start from.")
    trunk = model.detector.settings
    size = _LIGHT_SIZE if trunk.light else _FULL_SIZE
    settings = ClassifierSettings(regions=regions or size[0], features=features or size[1], classes=classes)
    classifier = _random_classifier(trunk, settings, seed)
    classifier.load_state_dict(classifier.state_dict() | _trunk_state(model.detector, classifier))
    return FirstNetworks(with_nms(classifier, rpn_nms, roi_nms), model.detector)


def with_nms(network: Classifier, rpn_nms: float | None = None, roi_nms: float | None = None) -> Classifier:
    """Return the classifier with other NMS thresholds where they are given.

    Parameters
    ----------
    network : CovidCTMaskNet, or a baseline
        The one that is returned.
    rpn_nms, roi_nms : float, optional
        Of proposals and of ranked regions; its own if None.

    Raises
    ------
    UsageError
        If a threshold is not in [0, 1], or given for a baseline, which has no regions.
    """
    thresholds: dict[str, Any] = {"rpn_nms": rpn_nms, "roi_nms": roi_nms}
    given = {name: value for name, value in thresholds.items() if value is not None}
    if not given:
        return network
    if not isinstance(network, CovidCTMaskNet):
        raise UsageError("NMS", f"The baseline has no regions: {' and '.join(given)} cannot be set.")
    for name, value in given.items():
        check_share(name, value)
    network.settings = dataclasses.replace(network.settings, **given)
    network.rpn.nms_thresh = network.settings.rpn_nms
    network.roi_heads.nms_thresh = network.settings.roi_nms
    return network


def nms_of(network: nn.Module) -> dict[str, float]:
    """Return the NMS thresholds of a classifier by name; none for a baseline."""
    if not isinstance(network, CovidCTMaskNet):
        return {}
    return {"rpn_nms": network.settings.rpn_nms, "roi_nms": network.settings.roi_nms}


def _random_classifier(trunk: DetectorSettings, settings: ClassifierSettings, seed: int) -> CovidCTMaskNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CovidCTMaskNet(trunk, settings)


def _settings_of(
    found: ClassifierSettings, path: Path, classes: int, regions: int | None, features: int | None
) -> ClassifierSettings:
    for name, wanted in (("regions", regions), ("features", features)):
        theirs = getattr(found, name)
        if wanted is not None and wanted != theirs:
            raise UsageError(
                "CLASSIFIER_SIZE", f"The classifier in {path.name} has {theirs} {name}, not {wanted}."
            )
    return dataclasses.replace(found, classes=classes)


def _trunk_state(detector: LesionDetector, classifier: CovidCTMaskNet) -> dict[str, torch.Tensor]:
    """Return what the classifier takes of a detector; every weight of its trunk has to be there.

    The original copied weights by equal names and left what had none at random, without a word.
    """
    theirs = detector.state_dict()
    wanted = [name for name in classifier.state_dict() if not name.startswith("s.")]
    missing = [name for name in wanted if name not in theirs]
    if missing:
        raise UntrustedModelError(
            "WEIGHTS_MISMATCH", f"The lesion detector lacks {missing[0]}, which the classifier needs."
        )
    return {name: theirs[name] for name in wanted}
