"""Every verb of ``python -m monai.bundle`` on this bundle, offline and on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from monai.bundle import (
    ConfigParser,
    ConfigWorkflow,
    ckpt_export,
    onnx_export,
    run_workflow,
    trt_export,
    verify_metadata,
    verify_net_in_out,
)

from builders.networks import CARD, random_slices, small_model, small_s, small_trunk
from builders.nifti import make_ct_volume
from builders.oracle import chest_with_lesions
from covid_ct_mask_net.checkpoints import (
    MANIFEST_NAME,
    Model,
    file_sha256,
    load_classifier,
    load_segmentation,
    save_checkpoint,
)

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
CONFIGS = BUNDLE / "configs"
INFERENCE, METADATA = str(CONFIGS / "inference.yaml"), str(CONFIGS / "metadata.json")
SCHEMA = str(CONFIGS / "metadata_schema.json")
LIGHT: dict[str, Any] = {}
RESNET50 = {"backbone": "resnet50", "truncation": 0}
OUTPUTS = {
    "network_def": ["pred"],
    "detector_def": ["boxes", "labels", "scores", "masks"],
    "triage_def": ["pred", "boxes", "labels", "scores", "masks"],
}
# How far ONNX may be from PyTorch: logits, scores, masks (probabilities); boxes in pixels of a slice of 512,
# where float32 has steps of 3e-5 to 6e-5.
TOLERANCE, BOX_TOLERANCE_PX = 1e-4, 5e-4


def overrides(**changes: Any) -> dict[str, Any]:
    """Entries of inference.yaml that make the networks small (see builders.networks)."""
    trunk, head = small_trunk(**changes).to_dict(), small_s().to_dict()
    return {
        "weights": "untrained",
        **{f"detector_settings#{name}": value for name, value in trunk.items()},
        **{f"classifier_settings#{name}": value for name, value in head.items()},
    }


def saved(folder: Path, **changes: Any) -> tuple[Model, dict[str, Any]]:
    """Write small weights and their manifest; return them with the entries that describe them."""
    model = small_model(seed=3, **changes)
    path = folder / "model.pt"
    save_checkpoint(path, CARD, model.detector, model.classifier)
    (folder / MANIFEST_NAME).write_text(f"{file_sha256(path)}  model.pt\n", encoding="utf-8")
    return model, overrides(**changes)


def run_cli(folder: Path, *arguments: str) -> str:
    """Run ``python -m monai.bundle`` in a folder without a way to a network."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stderr + done.stdout


def test_run_from_another_directory_with_overrides(tmp_path: Path) -> None:
    _, settings = saved(tmp_path)
    settings["weights"] = str(tmp_path / "model.pt")
    make_ct_volume(tmp_path / "ct.nii.gz")
    run_cli(
        tmp_path, "run", "--config_file", INFERENCE, "--dataset_dir", "ct.nii.gz", "--output_dir", "found",
        "--window_level", "-500",
        *[argument for name, value in settings.items() for argument in (f"--{name}", str(value))],
    )  # fmt: skip
    (result,) = (tmp_path / "found").glob("*/result.json")
    content = json.loads(result.read_text(encoding="utf-8"))
    assert content["status"] == "assessed"
    assert content["model"]["sha256"] == file_sha256(tmp_path / "model.pt")
    assert result.with_name("lesion_mask.nii.gz").is_file()


def test_verify_metadata_from_another_directory(tmp_path: Path) -> None:
    output = run_cli(tmp_path, "verify_metadata", "--meta_file", METADATA, "--filepath", SCHEMA)
    assert "verified with no error" in output


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.pop("changelog"),
        lambda m: m.pop("required_packages_version"),
        lambda m: m.update(version="one"),
        lambda m: m["network_data_format"]["outputs"]["pred"].pop("value_range"),
        lambda m: m["detector_data_format"]["inputs"]["image"].update(num_channels=0),
        lambda m: m["network_data_format"]["outputs"]["pred"].update(channel_def={"first": "x"}),
        lambda m: m["network_data_format"]["outputs"]["pred"].update(type="guesses"),
        lambda m: m["network_data_format"]["outputs"]["pred"].update(
            type="probabilities", value_range=[-1000, 1000]
        ),
        lambda m: m.update(training_packages_version={}),
        lambda m: m.update(optional_packages_version={}),
    ],
)
def test_the_schema_finds_what_is_wrong(tmp_path: Path, spoil: Any) -> None:
    metadata = json.loads(Path(METADATA).read_text(encoding="utf-8"))
    verify_metadata(meta_file=METADATA, filepath=SCHEMA)
    spoil(metadata)
    (tmp_path / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=SCHEMA)


@pytest.mark.parametrize("overlay", [[], [str(CONFIGS / "inference_resnet50.yaml")]], ids=["light", "large"])
def test_verify_net_in_out(overlay: list[str]) -> None:
    verify_net_in_out(
        net_id="network_def", meta_file=METADATA, config_file=[INFERENCE, *overlay], device="cpu"
    )
    with pytest.raises(ValueError, match="output channel number"):
        verify_net_in_out(
            net_id="network_def", meta_file=METADATA, config_file=INFERENCE, device="cpu",
            **{"_meta_#network_data_format#outputs#pred#num_channels": 4}, **overrides(),
        )  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("use_trace", [False, True])
def test_ckpt_export(tmp_path: Path, use_trace: bool) -> None:
    model, settings = saved(tmp_path)
    assert model.classifier is not None
    ckpt_export(
        net_id="network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=str(tmp_path / "model.pt"),
        meta_file=METADATA, config_file=INFERENCE, use_trace=use_trace, input_shape=[1, 1, 70, 90],
        **settings,
    )  # fmt: skip
    extra = {"metadata.json": "", "inference.json": ""}
    script = torch.jit.load(str(tmp_path / "model.ts"), _extra_files=extra)
    image = random_slices((70, 90), seed=8)[0][None]
    assert torch.equal(script(image), model.classifier(image))
    assert json.loads(extra["metadata.json"])["name"] == "COVID-CT-Mask-Net"
    assert "network_def" in json.loads(extra["inference.json"])


def _onnx(
    checkpoint: Path, folder: Path, net_id: str, settings: dict[str, Any], side: int
) -> onnxruntime.InferenceSession:
    """Export a network for slices of one size and return it as ONNX Runtime reads it."""
    path, names = str(folder / "model.onnx"), OUTPUTS[net_id]
    onnx_export(
        net_id=net_id, filepath=path, ckpt_file=str(checkpoint), meta_file=METADATA,
        config_file=INFERENCE, input_shape=[1, 1, side, side],
        converter_kwargs={"input_names": ["image"], "output_names": names}, **settings,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == names
    return session


def _computed(session: onnxruntime.InferenceSession, image: torch.Tensor) -> list[torch.Tensor]:
    return [torch.as_tensor(output) for output in session.run(None, {"image": image.numpy()})]


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(LIGHT, id="resnet18"),
        pytest.param(RESNET50, id="resnet50", marks=pytest.mark.slow),
        pytest.param({"backbone": "resnet34", "truncation": 1}, id="resnet34", marks=pytest.mark.slow),
    ],
)
def test_onnx_gives_the_logits_of_pytorch(tmp_path: Path, changes: dict[str, Any]) -> None:
    model, settings = saved(tmp_path, **changes)
    assert model.classifier is not None
    session = _onnx(tmp_path / "model.pt", tmp_path, "network_def", settings, 64)
    image = random_slices((64, 64), seed=8)[0][None]
    (logits,) = _computed(session, image)
    assert torch.allclose(logits, model.classifier(image), rtol=0, atol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize(
    "net_id",
    [
        # What triage_def holds too.
        pytest.param("network_def", marks=pytest.mark.slow),
        pytest.param("detector_def", marks=pytest.mark.slow),
        "triage_def",
    ],
)
def test_onnx_of_the_weights_that_are_shipped(tmp_path: Path, net_id: str) -> None:
    """On slices of 512 x 512, one that fires everywhere and one of a phantom with lesions."""
    path, side = BUNDLE / "models" / "model.pt", 512
    session = _onnx(path, tmp_path, net_id, {}, side)
    classifier, detector = load_classifier(path), load_segmentation(path)
    detector.use_list_output = True
    for image in (random_slices((side, side), seed=8)[0][None], _chest(side)):
        logits = [classifier(image)] if net_id != "detector_def" else []
        found = detector(image) if net_id != "network_def" else []
        assert all(int((scores > 0).sum()) > 0 for scores in found[2:3])
        for name, ours, theirs in zip(
            OUTPUTS[net_id], _computed(session, image), [*logits, *found], strict=True
        ):
            within = BOX_TOLERANCE_PX if name == "boxes" else TOLERANCE
            assert torch.allclose(ours.float(), theirs.float(), rtol=0, atol=within), name


def _chest(side: int) -> torch.Tensor:
    """A slice (1, 1, side, side) of the phantom with lesions, in [0, 1]."""
    hu = torch.as_tensor(chest_with_lesions()[11])[None, None]
    return torch.nn.functional.interpolate(
        ((hu + 1350) / 1500).clamp(0, 1), size=(side, side), mode="bilinear"
    )


@torch.no_grad()
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(LIGHT, id="resnet18"),
        pytest.param({"maskness": True}, id="maskness"),
        pytest.param(RESNET50, id="resnet50", marks=pytest.mark.slow),
    ],
)
def test_onnx_gives_the_detections_of_pytorch(tmp_path: Path, changes: dict[str, Any]) -> None:
    model, settings = saved(tmp_path, **changes)
    detector = model.detector
    assert detector is not None
    session = _onnx(tmp_path / "model.pt", tmp_path, "detector_def", settings, 64)
    image = random_slices((64, 64), seed=8)[0][None]
    detector.use_list_output = True
    for ours, theirs in zip(_computed(session, image), detector(image), strict=True):
        assert torch.allclose(ours.float(), theirs.float(), rtol=0, atol=TOLERANCE)


def test_detector_def_has_two_modes() -> None:
    parser = ConfigParser()
    parser.read_config(INFERENCE)
    for name, value in overrides().items():
        parser[name] = value
    image = random_slices((64, 64))[0][None]
    with torch.no_grad():
        (detection,) = parser.get_parsed_content("detector_def")(image)
        parser["use_list_output"] = True
        parser.parse(reset=True)
        boxes, _labels, scores, _masks = parser.get_parsed_content("detector_def")(image)
    assert set(detection) == {"boxes", "labels", "scores", "masks"}
    found = int((scores > 0).sum())
    assert found == len(detection["scores"])
    assert torch.allclose(boxes[:found], detection["boxes"], atol=1e-4)


def test_properties_of_inference() -> None:
    workflow = ConfigWorkflow(
        config_file=INFERENCE, meta_file=METADATA, logging_file=str(CONFIGS / "logging.conf"),
        workflow_type="infer", dataset_dir=str(BUNDLE), data=[], **overrides(),
    )  # fmt: skip
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.channel_def == {"0": "Control", "1": "Common Pneumonia", "2": "COVID-19"}
    assert workflow.version == "0.1.0"


def test_run_workflow(tmp_path: Path) -> None:
    make_ct_volume(tmp_path / "ct.nii.gz")
    run_workflow(
        workflow_name="monai.bundle.ConfigWorkflow", config_file=INFERENCE, meta_file=METADATA,
        logging_file=str(CONFIGS / "logging.conf"), workflow_type="infer",
        dataset_dir=str(tmp_path / "ct.nii.gz"), output_dir=str(tmp_path / "found"), **overrides(),
    )  # fmt: skip
    assert len(list((tmp_path / "found").glob("*/result.json"))) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="TensorRT needs a GPU")
def test_trt_export(tmp_path: Path) -> None:
    pytest.importorskip("torch_tensorrt")
    model, settings = saved(tmp_path)
    assert model.classifier is not None
    trt_export(
        net_id="network_def", filepath=str(tmp_path / "model_trt.ts"), ckpt_file=str(tmp_path / "model.pt"),
        meta_file=METADATA, config_file=INFERENCE, precision="fp32", input_shape=[1, 1, 64, 64],
        use_trace=True, **settings,
    )  # fmt: skip
    image = random_slices((64, 64))[0][None].cuda()
    script = torch.jit.load(str(tmp_path / "model_trt.ts"))
    assert torch.allclose(script(image), model.classifier.cuda()(image), atol=1e-2)


def test_the_tensorrt_overlay_changes_nothing_without_a_gpu() -> None:
    # There `test_trt_export` covers what the overlay does.
    if torch.cuda.is_available():
        pytest.skip("with a GPU it builds engines")
    parser = ConfigParser()
    parser.read_config([INFERENCE, str(CONFIGS / "inference_trt.yaml")])
    for name, value in overrides().items():
        parser[name] = value
    parser["trt_stages"] = ["layer1", "layer2"]
    compiled, model = parser.get_parsed_content("slice_model"), small_model(seed=parser["seed"])
    for name in parser.get_parsed_content("trt_submodules"):
        assert isinstance(compiled.get_submodule(name), torch.nn.Sequential)
    image = random_slices((64, 64))[0][None]
    assert model.classifier is not None
    with torch.no_grad():
        assert torch.allclose(compiled(image)[0].logits, model.classifier(image)[0], atol=1e-5)
