"""What the CI of the MONAI model zoo checks of a bundle, made again for this one and without a network.

The checks run on the exported bundle, unzipped, with an interpreter that does not know the project; the zoo's
own scripts get a bundle in the same way. Each test names the check of the zoo that it stands for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

from builders.bundles import small_bundle
from builders.clean_python import make_clean_python
from builders.lesion_data import make_cncb, make_covidx
from builders.networks import random_slices
from builders.nifti import make_ct_volume
from builders.training import SHORT, TINY_DETECTOR
from covid_ct_mask_net import RESEARCH_NOTICE
from covid_ct_mask_net.app.bundle_archive import write_archive
from covid_ct_mask_net.checkpoints import MANIFEST_NAME, load_classifier, read_manifest

ROOT = Path(__file__).resolve().parents[2]
LARGEST_FILE = 25 * 1024**2
TRAIN = (("segmentation", "cncb"), ("classifier", "covidx"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    with zipfile.ZipFile(write_archive(small_bundle(folder / "small"), folder)) as archive:
        archive.extractall(folder)
    return folder / "COVID-CT-Mask-Net"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clean_python(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def metadata(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return content


def test_verify_bundle_directory(bundle: Path) -> None:
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "models/model.pt"):
        assert (bundle / name).is_file(), name


def test_no_file_is_too_large_for_the_zoo(bundle: Path) -> None:
    """CONTRIBUTING: a file of more than 25 MB is listed in large_files.yml and not part of the bundle."""
    large = [
        path for path in (ROOT / "bundle").rglob("*") if path.is_file() and path.stat().st_size > LARGEST_FILE
    ]
    listed = ROOT / "bundle" / "large_files.yml"
    text = listed.read_text(encoding="utf-8") if listed.is_file() else ""
    assert all(path.relative_to(ROOT / "bundle").as_posix() in text for path in large)


def test_no_personal_paths(bundle: Path) -> None:
    for path in (bundle / "configs").iterdir():
        assert not re.search(r"/(home|root|work|mnt|Users)/", path.read_text(encoding="utf-8")), path.name


def test_verify_version_changes(metadata: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", metadata["version"])
    assert metadata["changelog"][metadata["version"]]


def test_verify_metadata_format(bundle: Path) -> None:
    configs = bundle / "configs"
    verify_metadata(meta_file=str(configs / "metadata.json"), filepath=str(configs / "metadata_schema.json"))


def test_the_metadata_speaks_of_the_weights_that_are_shipped() -> None:
    """The zoo's checklist: the description fits the weights, the metrics are theirs."""
    stated = json.loads((ROOT / "bundle" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((ROOT / "bundle" / "configs" / "inference.yaml").read_text(encoding="utf-8"))
    untrained = config["weights"] == "untrained"
    said = f"{stated['description']} {stated['data_source']} {stated['changelog'][stated['version']]}"
    assert ("untrained" in said) == untrained
    assert all(isinstance(value, int | float) for value in stated["eval_metrics"].values())
    if stated["eval_metrics"]:
        listed = read_manifest(ROOT / "bundle" / "models" / MANIFEST_NAME)
        assert stated["weights_sha256"] == listed["model.pt"], "measure the new weights"


def zoo_requirements(metadata: dict[str, Any]) -> dict[str, str]:
    """What ci/get_bundle_requirements of the zoo installs: these keys and no others."""
    stated = {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    stated["numpy"] = metadata["numpy_version"]
    for key in ("optional_packages_version", "required_packages_version"):
        stated |= metadata.get(key, {})
    return {name.lower(): version for name, version in stated.items()}


def test_get_bundle_requirements(metadata: dict[str, Any]) -> None:
    """The zoo installs what the metadata states; the versions are those that the project was checked with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    lines = [*(ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines(), *extras]
    checked = dict(line.lower().split("==") for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line))
    for name, version in zoo_requirements(metadata).items():
        assert checked[name] == version, name


def test_what_training_and_evaluation_import_is_installed_by_the_zoo(metadata: dict[str, Any]) -> None:
    installed = zoo_requirements(metadata)
    for name in ("pillow", "matplotlib", "pycocotools", "tensorboard", "onnx"):
        assert name in installed, name


def test_monai_reads_all_packages(bundle: Path) -> None:
    """It puts optional_packages_version, where it is stated, in the place of required_packages_version."""
    path = str(bundle / "configs" / "metadata.json")
    parser = ConfigParser()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parser.read_meta(path)
    read = parser.get_parsed_content("_meta_")
    assert read == json.loads(Path(path).read_text(encoding="utf-8"))


def test_the_metadata_says_logits_where_the_network_gives_logits(metadata: dict[str, Any]) -> None:
    """Words of the bundle specification: probabilities are that, and lie in [0, 1]."""
    network = load_classifier(ROOT / "bundle" / "models" / "model.pt")
    with torch.no_grad():
        found = network(random_slices((96, 96), seed=8)[0][None])
    assert not torch.allclose(found.sum(dim=1), torch.ones(1)), "these would be probabilities"
    assert float(found.min()) < 0
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert pred["type"] == "tuples"
    assert pred["value_range"] == []
    assert "logit" in metadata["pred_classes"]


def test_the_readme_has_the_sections_of_the_zoos_template() -> None:
    text = (ROOT / "bundle" / "docs" / "README.md").read_text(encoding="utf-8")
    sections = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    wanted = (
        "Authors", "Tags", "Model Description", "Data", "Preprocessing", "Training configuration", "Input",
        "Output", "Performance", "MONAI Bundle Commands", "System Configuration", "Limitations", "Citation",
        "References", "License",
    )  # fmt: skip
    assert [section for section in sections if section in wanted] == list(wanted)
    assert RESEARCH_NOTICE in " ".join(text.split())
    assert "for demonstration only: no diagnostic value" in text


def test_verify_bundle_properties(bundle: Path, tmp_path: Path) -> None:
    make_ct_volume(tmp_path / "ct.nii.gz")
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.yaml"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=str(bundle / "configs" / "logging.conf"),
        workflow_type="infer", bundle_root=str(bundle), dataset_dir=str(tmp_path),
    )  # fmt: skip
    workflow.initialize()
    assert workflow.check_properties() == []


def test_verify_data_shape(bundle: Path) -> None:
    verify_net_in_out(
        net_id="network_def", meta_file=str(bundle / "configs" / "metadata.json"), device="cpu",
        config_file=str(bundle / "configs" / "inference.yaml"), bundle_root=str(bundle),
    )  # fmt: skip


@torch.no_grad()
def test_verify_torchscript(bundle: Path, tmp_path: Path) -> None:
    """No exemption: the classifier exports with the defaults of the verb and gives the same logits."""
    ckpt_export(
        config_file=str(bundle / "configs" / "inference.yaml"), filepath=str(tmp_path / "verify_model.ts"),
        bundle_root=str(bundle),
    )  # fmt: skip
    image = random_slices((96, 80))[0][None]
    expected = load_classifier(bundle / "models" / "model.pt")(image)
    assert torch.equal(torch.jit.load(str(tmp_path / "verify_model.ts"))(image), expected)


def _run(python: Path, bundle: Path, configs: Sequence[str], processes: int, **settings: Any) -> None:
    paths = [str(bundle / "configs" / name) for name in configs]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc_per_node={processes}"]
    command = [
        str(python), *(launcher if processes > 1 else []), "-m", "monai.bundle", "run",
        "--config_file", str(paths),
        *[word for name, value in settings.items() for word in (f"--{name}", str(value))],
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=bundle, capture_output=True, text=True, timeout=280, check=False,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("part", "layout"), TRAIN)
def test_train_evaluate_infer(
    bundle: Path, python: Path, tmp_path: Path, part: str, layout: str, processes: int
) -> None:
    """ci/unit_tests: training, evaluation and inference on synthetic data, alone and distributed."""
    settings: dict[str, Any] = dict(SHORT)
    if part == "segmentation":
        data = make_cncb(tmp_path / "data", patients=5, slices=2)
        # The networks of the small bundle.
        proposals = {"detector_settings#rpn_top_training": 60, "detector_settings#rpn_top_testing": 60}
        settings |= TINY_DETECTOR | proposals
    else:
        data = make_covidx(tmp_path / "data", per_class=4) / "images"
        # Mode s keeps rows and needs one process.
        settings["mode"] = "s" if processes == 1 else "s_bn"
    start, run = bundle / "models" / "model.pt", tmp_path / "run"
    overlay = [f"multi_gpu_train_{part}.yaml"] if processes > 1 else []
    _run(
        python, bundle, [f"train_{part}.yaml", *overlay], processes, dataset_dir=data, layout=layout,
        output_dir=run, weights=start, epochs=1, **settings,
    )  # fmt: skip
    _run(
        python, bundle, [f"evaluate_{part}.yaml"], 1, dataset_dir=data, layout=layout, output_dir=run,
    )  # fmt: skip
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8")), "the evaluation left its figures"
    if part == "classifier":
        make_ct_volume(tmp_path / "ct.nii.gz")
        models = run / "MANIFEST.sha256"
        digest = subprocess.run(
            ["sha256sum", "model.pt"], cwd=run, capture_output=True, text=True, check=True
        )
        models.write_text(digest.stdout, encoding="utf-8")
        _run(
            python, bundle, ["inference.yaml"], 1, dataset_dir=tmp_path / "ct.nii.gz",
            output_dir=tmp_path / "found", weights=run / "model.pt",
        )  # fmt: skip
        (result,) = (tmp_path / "found").glob("*/result.json")
        assert json.loads(result.read_text(encoding="utf-8"))["status"] == "assessed"
