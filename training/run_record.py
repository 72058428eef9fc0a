"""``run.json`` of trainings, and the checkpoints they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch.nn import Parameter

from covid_ct_mask_net import RESEARCH_NOTICE, __version__
from covid_ct_mask_net.assemble import software_versions
from covid_ct_mask_net.checkpoints import ModelCard, save_checkpoint
from covid_ct_mask_net.networks.classifier import CovidCTMaskNet
from covid_ct_mask_net.networks.detector import LesionDetector
from covid_ct_mask_net.training.datasets.records import PATIENT, SLICE_CLASS, Record, data_hash
from covid_ct_mask_net.training.modes import parameter_counts
from covid_ct_mask_net.training.runs import RunInfo, described_run, git_commit, write_info

MODEL_FILE = "model.pt"
_PACKAGES = ("pytorch-ignite",)


class WriteRun:
    """Write ``run.json`` when a training starts; evaluations that the folder has become stale.

    Parameters
    ----------
    folder : path
        Run folder.
    info : RunInfo
    """

    def __init__(self, folder: str | Path, info: RunInfo) -> None:
        self.folder = Path(folder)
        self.info = info

    def attach(self, engine: Engine) -> None:
        """Act when the training starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self) -> None:
        """Write the file."""
        earlier = described_run(self.folder)
        evaluations = {} if earlier is None else earlier.evaluations
        stale = {name: replace(one, stale=True) for name, one in evaluations.items()}
        write_info(self.folder, replace(self.info, evaluations=stale))


def segmentation_run(
    detector: LesionDetector,
    mode: str,
    training: Sequence[Record],
    validation: Sequence[Record],
    *,
    trained: Sequence[Parameter],
    seed: int,
    settings: Mapping[str, Any],
) -> RunInfo:
    """Describe the training of a detector.

    Parameters
    ----------
    detector : LesionDetector
    mode : str
        ``roi_heads``, ``heads``, ``held_stem`` or ``full``.
    training, validation : sequence of dict
    trained : sequence of Parameter
        What `modes` chose.
    seed : int
    settings : mapping
        Plain values of the training: epochs, learning rate, start ...
    """
    return RunInfo(
        kind="segmentation",
        mode=mode,
        mask_type=detector.settings.mask_type.value,
        settings={"detector": detector.settings.to_dict(), "training": dict(settings)},
        parameters=parameter_counts(detector, trained),
        **training_origin(training, validation, seed),
    )


def classifier_run(
    classifier: CovidCTMaskNet,
    mode: str,
    training: Sequence[Record],
    validation: Sequence[Record],
    *,
    class_names: Sequence[str],
    trained: Sequence[Parameter],
    seed: int,
    settings: Mapping[str, Any],
) -> RunInfo:
    """Describe the training of a classifier.

    Parameters
    ----------
    classifier : CovidCTMaskNet
    mode : str
        ``s``, ``s_boxes``, ``s_bn`` or ``full``.
    training, validation : sequence of dict
    class_names : sequence of str
        Slice classes by id; with two, the run is of kind ``binary``.
    trained : sequence of Parameter
        What `modes` chose.
    seed : int
    settings : mapping
        Plain values of the training.
    """
    return RunInfo(
        kind="classifier" if len(class_names) > 2 else "binary",
        mode=mode,
        mask_type=classifier.detector_settings.mask_type.value,
        settings={
            "detector": classifier.detector_settings.to_dict(),
            "classifier": classifier.settings.to_dict(),
            "training": dict(settings),
        },
        class_names=tuple(class_names),
        parameters=parameter_counts(classifier, trained),
        training_patients=training_patients(training),
        **training_origin(training, validation, seed),
    )


def model_saver(
    folder: str | Path,
    detector: LesionDetector | None,
    classifier: CovidCTMaskNet | None,
    *,
    name: str,
    trained_on: str,
    notice: str = RESEARCH_NOTICE,
) -> Callable[..., None]:
    """Return what writes ``model.pt``, or a file of the name given, with the networks as they are then.

    Parameters
    ----------
    folder : path
        Run folder.
    detector, classifier
        At least one.
    name, trained_on, notice : str
        Of the model, for results.
    """
    card = ModelCard(name=name, version=__version__, trained_on=trained_on, notice=notice)

    def save(file: str = MODEL_FILE) -> None:
        path = Path(folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(path, card, detector, classifier)

    return save


def fingerprint(info: RunInfo, **further: Any) -> dict[str, Any]:
    """Return what must be the same when a run goes on; the number of epochs, or minutes, may grow.

    Parameters
    ----------
    info : RunInfo
    **further
        Plain values.
    """
    grows = ("epochs", "minutes")
    training = {name: value for name, value in info.settings["training"].items() if name not in grows}
    networks = {name: value for name, value in info.settings.items() if name != "training"}
    return {
        "kind": info.kind, "mode": info.mode, "data": dict(info.data), "seed": info.seed,
        **networks, **training, **further,
    }  # fmt: skip


def training_origin(training: Sequence[Record], validation: Sequence[Record], seed: int) -> dict[str, Any]:
    """Return what it takes to run a training again: data, seed, code and packages."""
    hashes = {"train": data_hash(training)} | ({"validation": data_hash(validation)} if validation else {})
    return {
        "data": hashes,
        "seed": seed,
        "git": git_commit(Path(__file__).parent),
        "software": software_versions(_PACKAGES),
    }


def training_patients(training: Sequence[Record]) -> tuple[str, ...]:
    """Return ``class/patient`` of all slices, each once."""
    return tuple(sorted({f"{one[SLICE_CLASS]}/{one[PATIENT]}" for one in training}))
