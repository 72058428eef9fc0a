"""On a machine with a CUDA GPU: the answers of the CPU, and trainings that learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.lesion_data import make_covidx
from builders.networks import CARD, random_slices, small_model
from builders.training import TINY_DETECTOR, finish, train_classifier, workflow
from covid_ct_mask_net.checkpoints import load_model, save_checkpoint
from covid_ct_mask_net.engines.base import EngineName
from covid_ct_mask_net.engines.select import build_engine
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.pipeline import load_pipeline
from covid_ct_mask_net.training.files import read_rows
from covid_ct_mask_net.training.release import chests
from covid_ct_mask_net.training.release.scans import assess
from covid_ct_mask_net.training.synthesis.phantom import draw_chest

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")


@pytest.mark.parametrize(("name", "most"), [("torch", 1e-3), ("exact", 1e-3), ("fast", 0.5)])
def test_the_gpu_gives_the_logits_of_the_cpu(name: str, most: float) -> None:
    model = load_model(bundle_root() / "models" / "model.pt")
    assert model.detector is not None
    assert model.classifier is not None
    slices = torch.stack(random_slices(*[(320, 320)] * 6))
    on_cpu, on_gpu = [], []
    for engine_name, device, found in (("torch", "cpu", on_cpu), (name, "cuda", on_gpu)):
        engine = build_engine(model.detector, model.classifier, 0.5, name=engine_name, device=device)
        with torch.inference_mode():
            found.extend(one.logits.cpu() for one in engine(slices.to(device)))
    assert engine.report.name == name
    assert engine.report.device == torch.cuda.get_device_name()
    assert torch.stack(on_gpu).argmax(1).equal(torch.stack(on_cpu).argmax(1))
    away = (torch.stack(on_gpu) - torch.stack(on_cpu)).abs().amax(1)
    # Where rounding swaps two ranks, the logits of a slice change by more.
    assert float(away.median()) < most


def test_the_reference_is_chosen() -> None:
    model = load_model(bundle_root() / "models" / "model.pt")
    assert model.detector is not None
    assert model.classifier is not None
    auto = build_engine(model.detector, model.classifier, 0.5, name=EngineName.AUTO, device="cuda")
    assert auto.report.name == EngineName.TORCH.value


def test_a_scan_gets_the_same_answer_on_gpu_and_cpu() -> None:
    chest = draw_chest(np.random.default_rng(11), 192, 8.0)
    hu = np.ascontiguousarray(chest.hu.transpose(2, 1, 0))
    scans = [
        assess(load_pipeline(bundle_root(), {"device": device}), device, hu, chest.grid.ras_affine)
        for device in ("cpu", "cuda")
    ]
    cpu, gpu = (np.array(scan.logits) for scan in scans)
    assert cpu.shape == gpu.shape
    assert (cpu.argmax(1) == gpu.argmax(1)).mean() > 0.95
    assert np.median(np.abs(cpu - gpu).max(1)) < 1e-2
    assert scans[0].percent == pytest.approx(scans[1].percent, abs=0.1)


@pytest.mark.parametrize("mode", ["s", "s_bn", "full"])
def test_the_classifier_learns(mode: str, tmp_path: Path) -> None:
    images = make_covidx(tmp_path / "data", per_class=4) / "images"
    save_checkpoint(tmp_path / "detector.pt", CARD, small_model().detector, None)
    run = train_classifier(
        images,
        tmp_path / "run",
        weights=str(tmp_path / "detector.pt"),
        mode=mode,
        epochs=6,
        validation_share=0,
    )
    losses = [float(row["train/loss"]) for row in read_rows(run / "history.csv")]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("amp", [False, True])
def test_the_detector_learns_on_an_endless_supply(amp: bool, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chests, "SIZE", 96)
        patch.setattr(chests, "_STEPS_MM", (12.0,))
        chests.make_phantoms(tmp_path / "chests", 1)
    tiny = {name: value for name, value in TINY_DETECTOR.items() if name != "minimum_area"}
    training = workflow(
        ["train_segmentation.yaml", "train_segmentation_synthetic.yaml"],
        tmp_path, tmp_path / "run", tiny, chests=str(tmp_path / "chests"), supply__pixel_mm=(2.5, 3.5),
        supply__minimum_area=2, room=16, batch_size=4, epochs=4, batches=10, warm_up=2, amp=amp,
        progress_bar=False, tensorboard=False,
    )  # fmt: skip
    rows = read_rows(finish(training, tmp_path / "run") / "history.csv")
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
