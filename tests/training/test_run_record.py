"""Run folders of trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ignite.engine import Engine

from builders.lesion_data import make_cncb, make_covidx
from builders.networks import small_model
from covid_ct_mask_net.checkpoints import load_classifier, load_model, load_segmentation
from covid_ct_mask_net.training.modes import train_classifier, train_detector
from covid_ct_mask_net.training.run_record import (
    WriteRun,
    classifier_run,
    fingerprint,
    model_saver,
    segmentation_run,
)
from covid_ct_mask_net.training.runs import Evaluation, RunInfo, read_run, write_info
from covid_ct_mask_net.training.sources import classified_slices, labelled_slices

SETTINGS = {"epochs": 3, "learning_rate": 1e-5}


def test_a_segmentation_run_says_what_was_trained_on_what(tmp_path: Path) -> None:
    detector = small_model().detector
    assert detector is not None
    records = labelled_slices("cncb", make_cncb(tmp_path / "data"))
    trained = train_detector(detector, "heads")
    info = segmentation_run(
        detector, "heads", records[:4], records[4:], trained=trained, seed=3, settings=SETTINGS
    )
    engine = Engine(lambda *_: None)
    WriteRun(tmp_path / "run", info).attach(engine)
    engine.run([0], max_epochs=1)
    read = read_run(tmp_path / "run").info
    assert (read.kind, read.mode, read.mask_type, read.seed) == ("segmentation", "heads", "both", 3)
    assert read.parameters["trainable"] == sum(p.numel() for p in trained)
    assert read.settings["detector"]["backbone"] == "resnet18"
    assert set(read.data) == {"train", "validation"}
    assert str(tmp_path) not in (tmp_path / "run" / "run.json").read_text()


def test_earlier_evaluations_stay_and_are_stale_when_a_run_goes_on(tmp_path: Path) -> None:
    earlier = Evaluation("another hospital", "external", "a hash")
    info = RunInfo("classifier", "s", evaluations={"test": earlier})
    write_info(tmp_path, info)
    WriteRun(tmp_path, RunInfo("classifier", "s", seed=3))()
    read = read_run(tmp_path).info
    assert read.seed == 3
    assert read.evaluations == {"test": replace(earlier, stale=True)}


def test_a_classifier_run_lists_its_patients(tmp_path: Path) -> None:
    classifier = small_model().classifier
    assert classifier is not None
    root = make_covidx(tmp_path / "data")
    records = classified_slices("covidx", root / "images")
    trained = train_classifier(classifier, "s")
    info = classifier_run(
        classifier, "s", records, [], class_names=("Control", "Pneumonia", "COVID-19"), trained=trained,
        seed=1, settings=SETTINGS,
    )  # fmt: skip
    assert info.kind == "classifier"
    assert info.training_patients == ("0/0", "1/100", "2/200")
    binary = classifier_run(
        classifier, "s", records, [], class_names=("N", "P"), trained=[], seed=1, settings=SETTINGS
    )
    assert info.parameters["trainable"] == sum(p.numel() for p in classifier.s.parameters())
    assert binary.kind == "binary"


def test_epochs_may_grow_when_a_run_goes_on_and_nothing_else(tmp_path: Path) -> None:
    detector = small_model().detector
    assert detector is not None
    records = labelled_slices("cncb", make_cncb(tmp_path / "data"))

    def mark(seed: int = 1, **settings: float) -> dict[str, object]:
        info = segmentation_run(
            detector, "full", records, [], trained=[], seed=seed, settings={**SETTINGS, **settings}
        )
        return fingerprint(info)

    assert mark(epochs=3) == mark(epochs=9)
    assert mark() != mark(learning_rate=1e-4)
    assert mark() != mark(seed=2)


def test_saved_models_are_read_by_their_loaders(tmp_path: Path) -> None:
    model = small_model()
    save = model_saver(tmp_path / "run", model.detector, model.classifier, name="tiny", trained_on="nothing")
    save()
    path = tmp_path / "run" / "model.pt"
    assert load_segmentation(path).settings == model.detector.settings  # type: ignore[union-attr]
    assert load_classifier(path).settings == model.classifier.settings  # type: ignore[union-attr]
    assert "Research use only" in load_model(path).report.notice
    save("model-epoch-010.pt")
    assert load_segmentation(path.with_name("model-epoch-010.pt")).settings == model.detector.settings  # type: ignore[union-attr]
