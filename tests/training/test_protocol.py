"""The whole protocol of the paper in miniature, from files on disk to every table and figure.

Data in the original's layout -> segmentation (heads, full) -> weight transfer -> classifier (s, s_bn, full)
-> two classes (iCTCF) and a baseline -> evaluation -> tables. Networks are tiny and see a few epochs: the
figures say that the machinery works, not that the method does.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.evaluations import evaluate
from builders.protocol import Collections, make_collections
from builders.training import train_classifier, train_segmentation
from covid_ct_mask_net.__main__ import main
from covid_ct_mask_net.checkpoints import load_model
from covid_ct_mask_net.training.runs import Run, read_run
from covid_ct_mask_net.training.segmentation import LOSSES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SEGMENTATIONS = ("heads", "full")
CLASSIFIERS = ("s", "s_bn", "full")
SMALL_S = {"regions": 32, "features": 64}


@dataclass(frozen=True)
class Protocol:
    """What the protocol left: data sets, run folders by name, tables."""

    data: Collections
    runs: Path
    tables: Path

    def run(self, name: str) -> Run:
        return read_run(self.runs / name)

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.tables / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def _lists(data: Collections) -> None:
    """Draw the training sample and what it leaves, as the commands do."""
    lists = {
        name: str(data.covidx / f"{name}.txt") for name in ("train", "val", "test", "sample", "left-out")
    }
    assert main(["splits", "verify", *(lists[name] for name in ("train", "val", "test"))]) == 0
    sample = ["splits", "sample", lists["train"], "--per-class", "6", "--seed", "1", "-o", lists["sample"]]
    assert main(sample) == 0
    assert (
        main(["splits", "left-out", lists["train"], "--sample", lists["sample"], "-o", lists["left-out"]])
        == 0
    )


def _segmentations(data: Collections, runs: Path) -> None:
    for mode in SEGMENTATIONS:
        run = train_segmentation(
            data.cncb, runs / f"segmentation-{mode}", mode=mode, training_list="train.txt", epochs=6,
        )  # fmt: skip
        evaluate("evaluate_segmentation.yaml", data.cncb, run, listed="test.txt", samples=2, minimum_area=20)


def _classifiers(data: Collections, runs: Path) -> None:
    images = data.covidx / "images"
    lists = {name: str(data.covidx / f"{name}.txt") for name in ("sample", "val", "test", "left-out")}
    training = {"training_list": lists["sample"], "validation_list": lists["val"]}
    weights = str(runs / "segmentation-full" / "model.pt")
    for mode in CLASSIFIERS:
        train_classifier(
            images, runs / f"classifier-{mode}", mode=mode, weights=weights, epochs=4, **SMALL_S, **training
        )
    train_classifier(
        images, runs / "whole-slice", "train_baseline.yaml", baseline="light-cnn", image_size=64, epochs=4,
        **training,
    )  # fmt: skip
    for name in (*(f"classifier-{mode}" for mode in CLASSIFIERS), "whole-slice"):
        for evaluation, listed in (("validation", "val"), ("test", "test"), ("left_out", "left-out")):
            evaluate(
                "evaluate_classifier.yaml", images, runs / name, evaluation=evaluation, listed=lists[listed],
                dataset_name=f"miniature {evaluation}", samples=0,
                limit=12 if evaluation == "left_out" else 0,
            )  # fmt: skip
    robustness = ["evaluate_classifier.yaml", "evaluate_robustness.yaml"]
    evaluate(robustness, images, runs / "classifier-s_bn", listed=lists["test"], limit=3)
    # The logit figure needs masks and classes together: slices of the segmentation test, and the classifier.
    evaluate(
        "evaluate_segmentation.yaml", data.cncb, runs / "segmentation-full", listed="test.txt", samples=2,
        minimum_area=20, classifier_weights=str(runs / "classifier-s_bn" / "model.pt"),
    )  # fmt: skip


def _two_classes(data: Collections, runs: Path) -> None:
    run = train_classifier(
        data.ictcf, runs / "ictcf-s_bn", "finetune_binary.yaml", mode="s_bn", training_list="train.txt",
        weights=str(runs / "classifier-s_bn" / "model.pt"), epochs=4, validation_share=0.25,
    )  # fmt: skip
    evaluate("evaluate_classifier.yaml", data.ictcf, run, layout="ictcf", listed="test.txt")
    evaluate(
        "evaluate_classifier.yaml", data.covidx / "images", runs / "classifier-s_bn", evaluation="elsewhere",
        source="external", listed=str(data.covidx / "test.txt"), dataset_name="another hospital", samples=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Protocol:
    root = tmp_path_factory.mktemp("protocol")
    data, runs = make_collections(root), root / "runs"
    _lists(data)
    _segmentations(data, runs)
    _classifiers(data, runs)
    _two_classes(data, runs)
    assert main(["tables", str(runs), "-o", str(root / "tables"), "--prevalence", "0.9", "0.07", "0.03"]) == 0
    return Protocol(data, runs, root / "tables")


@pytest.mark.parametrize("mode", SEGMENTATIONS)
def test_losses_of_equation_1_fall(protocol: Protocol, mode: str) -> None:
    history = protocol.run(f"segmentation-{mode}").history
    assert {f"train/{name}" for name in LOSSES} <= set(history)
    total = history["train/loss"]
    assert np.isfinite(total).all()
    assert total[-2:].mean() < 0.9 * total[:2].mean()
    assert total[0] == pytest.approx(sum(history[f"train/{name}"][0] for name in LOSSES), rel=1e-4)


@pytest.mark.parametrize(
    "name", ["classifier-s", "classifier-s_bn", "classifier-full", "ictcf-s_bn", "whole-slice"]
)
def test_losses_of_equation_2_fall(protocol: Protocol, name: str) -> None:
    loss = protocol.run(name).history["train/loss"]
    assert loss[-2:].mean() < loss[:2].mean()


def test_weights_are_transferred(protocol: Protocol) -> None:
    """Mode s keeps the trunk of the segmentation network bit for bit; s_bn moves BN weights alone."""
    detector = load_model(protocol.runs / "segmentation-full" / "model.pt").detector
    assert detector is not None
    trunk = detector.state_dict()
    changed = {}
    for mode in CLASSIFIERS:
        classifier = load_model(protocol.runs / f"classifier-{mode}" / "model.pt").classifier
        assert classifier is not None
        changed[mode] = [
            name
            for name, value in classifier.state_dict().items()
            if not name.startswith("s.") and not torch.equal(value, trunk[name])
        ]
    assert changed["s"] == []
    assert changed["s_bn"]
    assert all(re.search(r"(bn\d|downsample\.1)\.(weight|bias)$", name) for name in changed["s_bn"])
    assert any("conv" in name for name in changed["full"])


def test_every_row_of_the_result_tables_is_filled(protocol: Protocol) -> None:
    for number in (4, 6, 7):
        rows = protocol.table(f"table-{number}")
        assert not [row for row in rows if row["source"] == "not run"], number
    assert "this project" in {
        row["source"] for row in protocol.table("table-5") if "whole-slice" in row["model"]
    }
    assert [row for row in protocol.table("table-9") if row["source"].startswith("ictcf-s_bn: covid")]
    trained = {row["network"].split(":")[0]: row["trained"] for row in protocol.table("table-1")}
    counts = [int(trained[f"classifier-{mode}"].replace(",", "")) for mode in CLASSIFIERS]
    assert counts == sorted(set(counts)), "only S, S with batch normalisation, everything"


def test_figures_in_tables_are_those_of_the_predictions(protocol: Protocol) -> None:
    for mode in CLASSIFIERS:
        predictions = protocol.run(f"classifier-{mode}").predictions["test"]
        accuracy = 100 * np.mean(predictions.predicted == predictions.true)
        (row,) = [r for r in protocol.table("table-4") if r["source"].startswith(f"classifier-{mode}: covid")]
        assert row["accuracy"].startswith(f"{accuracy:.2f}")
        assert row["slices"] == "18"


def test_left_out_slices_are_read_both_ways(protocol: Protocol) -> None:
    rows = [r for r in protocol.table("table-7") if r["source"].startswith("classifier-s:")]
    # 20 slices a class in train, 6 of them in the sample, which takes turns over all four patients.
    assert [row["slices"] for row in rows] == ["12"]
    assert rows[0]["of training patients, %"] == "100.0"
    assert "no left-out slice of a patient" in (protocol.tables / "table-7.md").read_text()


def test_robustness_controls_calibration_and_external_are_there(protocol: Protocol) -> None:
    assert len(protocol.table("robustness")) == 12
    assert len(protocol.table("controls")) == 3
    fitted = [
        row for row in protocol.table("calibration") if row["probabilities"] == "temperature from validation"
    ]
    assert len(fitted) == 4
    (external,) = protocol.table("external")
    assert external["data set"] == "another hospital (elsewhere)"
    assert {row["prevalence"] for row in protocol.table("prevalence")} == {"as tested", "as given"}


def test_every_figure_is_drawn(protocol: Protocol) -> None:
    written = {path.stem for path in protocol.tables.glob("*.png")}
    for name in ("segmentation-heads", "segmentation-full"):
        assert {
            f"{figure}-{name}" for figure in ("figure-1", "figure-2", "figure-6", "logits", "curves")
        } <= written
    for name in (*(f"classifier-{mode}" for mode in CLASSIFIERS), "ictcf-s_bn", "whole-slice"):
        assert {f"{figure}-{name}" for figure in ("confusion", "reliability", "curves")} <= written
    index = (protocol.tables / "README.md").read_text()
    assert all(f"## Table {number}:" in index for number in range(1, 10))
