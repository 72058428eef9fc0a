"""Both networks of a model as one, for exporters: what a TorchScript file needs to stand for a bundle."""

# No postponed annotations here: TorchScript reads those of the class attributes.
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.networks.fixed_size import FixedSizeClassifier, FixedSizeDetector


class ScriptedTriage(nn.Module):
    """One slice (1, 1, H, W) in [0, 1] to its logits and detections; what TorchScript compiles.

    Returns a list: ``logits`` (1, classes), then the tensors of `FixedSizeDetector`.

    Parameters
    ----------
    detector : LesionDetector
    classifier : CovidCTMaskNet
        Their modules are shared.
    description : str
        JSON object with the card and the settings of both networks, kept in the exported file.
    """

    description: str

    def __init__(self, detector: LesionDetector, classifier: CovidCTMaskNet, description: str) -> None:
        super().__init__()
        self.detector = FixedSizeDetector(detector)
        self.classifier = FixedSizeClassifier(classifier)
        self.description = description

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the logits, boxes, labels, scores and masks of the slice."""
        outputs: list[Tensor] = [self.classifier(images[:1])]
        outputs.extend(self.detector(images))
        return outputs


class TriageNetwork(nn.Module):
    """Detector and classifier of a model, to be exported together.

    Parameters
    ----------
    detector : LesionDetector
    classifier : CovidCTMaskNet
    card : mapping
        Card of the model; a checkpoint that is loaded brings its own.
    """

    def __init__(self, detector: LesionDetector, classifier: CovidCTMaskNet, card: Mapping[str, str]) -> None:
        super().__init__()
        self.detector = detector
        self.classifier = classifier
        self.card = dict(card)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return what `ScriptedTriage` does."""
        outputs: list[Tensor] = self.__prepare_scriptable__()(images)
        return outputs

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load both parts of a checkpoint of this project, and its card; or a plain state dictionary."""
        if "card" not in state_dict:
            return super().load_state_dict(state_dict, strict, assign)
        # Each network picks its own part and takes it out of what it is given.
        self.detector.load_state_dict(dict(state_dict), strict, assign)
        self.card = dict(state_dict["card"])
        return self.classifier.load_state_dict(dict(state_dict), strict, assign)

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what ``torch.jit.script`` compiles."""
        description = {
            "card": self.card,
            "detector": self.detector.settings.to_dict(),
            "trunk": self.classifier.detector_settings.to_dict(),
            "classifier": self.classifier.settings.to_dict(),
        }
        return ScriptedTriage(self.detector, self.classifier, json.dumps(description))
