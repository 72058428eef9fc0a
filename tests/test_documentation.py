"""The commands in README and docs: every one is understood, and those of the README are run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from builders.dicom import make_ct_series
from builders.lesion_data import make_cncb
from builders.oracle import SPACING, chest_with_lesions
from covid_ct_mask_net.__main__ import build_parser
from covid_ct_mask_net.app import intake, volume

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "bundle" / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def commands(page: Path) -> list[str]:
    """Shell commands of the fenced blocks of a page, continued lines joined, comments left out."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip() and line.strip()[0] != "#"]


def steps(command: str) -> list[list[str]]:
    """The words of each part of a chain of commands, without variables set in front."""
    words = [shlex.split(part, comments=True) for part in re.split(r"&&|\|\||;|\|", command)]
    return [[w for i, w in enumerate(part) if i or not re.match(r"[A-Z_]+=", w)] for part in words if part]


COMMANDS = [(page, command) for page in PAGES for command in commands(page)]
IDS = [f"{page.relative_to(ROOT)}: {command[:60]}" for page, command in COMMANDS]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=IDS)
def test_commands_are_understood(page: Path, command: str) -> None:
    for words in steps(command):
        if Path(words[0]).name == "covid-ct-mask-net":
            try:
                build_parser().parse_args([w for w in words[1:] if w != "…"])
            except SystemExit as done:
                # Options that print something and end, such as --list-settings.
                assert done.code == 0, command  # noqa: PT017
        if "monai.bundle" in words and "--config_file" in words:
            named = words[words.index("--config_file") + 1]
            for config in re.findall(r"[\w./-]+\.(?:yaml|json)", named):
                assert (ROOT / config).is_file() or (ROOT / "bundle" / config).is_file(), config


BUNDLE_RUNS = [(page, command) for page, command in COMMANDS if "monai.bundle run " in command]


@pytest.mark.parametrize(("page", "command"), BUNDLE_RUNS, ids=[f"{c[:90]}" for _, c in BUNDLE_RUNS])
def test_options_of_bundle_runs_are_entries_of_their_configurations(page: Path, command: str) -> None:
    """MONAI takes unknown options without a word, so that a renamed entry would only be ignored."""
    for words in (step for step in steps(command) if "monai.bundle" in step):
        configs = re.findall(r"[\w./-]+\.(?:yaml|json)", words[words.index("--config_file") + 1])
        entries = {"config_file", "meta_file", "logging_file", "tracking"}
        for config in configs:
            path = ROOT / config if (ROOT / config).is_file() else ROOT / "bundle" / config
            entries |= {name.lstrip("+").split("#")[0] for name in yaml.safe_load(path.read_text())}
        options = {re.split("[=#]", word[2:])[0] for word in words if word.startswith("--")}
        # What torchrun and the like take stands before the module.
        before = {word[2:].split("=")[0] for word in words[: words.index("monai.bundle")] if word[:2] == "--"}
        assert options - before <= entries, f"{page.name}: {sorted(options - before - entries)}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path) -> None:
    """Each command of the README but the set-up, on phantoms for the paths it names; one epoch is trained."""
    make_cncb(tmp_path / "CNCB", patients=5, slices=2)
    make_ct_series(tmp_path / "dicom", hu=chest_with_lesions(), spacing=SPACING)
    series = intake.scan([tmp_path / "dicom"]).studies[0].series[0]
    for name in ("ct.nii.gz", "ct1.nii.gz", "ct2.nii.gz"):
        volume.save_nifti(volume.load(series), tmp_path / name)
    scripts = Path(sys.executable).parent
    ran = 0
    for number, command in enumerate(commands(ROOT / "README.md")):
        if "pip install" in command or "tests/run.sh" in command or "docker" in command:
            continue
        command = command.replace("/path/to/dicom", str(tmp_path / "dicom"))
        command = re.sub(r"-o (\S+)", rf"-o {tmp_path}/\1-{number}", command)
        command = re.sub(r"\bbundle/configs", str(ROOT / "bundle" / "configs"), command)
        command = re.sub(r"^python app\b(.*)-m bundle$", rf"python {ROOT}/app\1-m {ROOT}/bundle", command)
        if "train_segmentation" in command:
            command += " --epochs 1 --minimum_area 20 --detector_settings#image_min_size 64"
        done = subprocess.run(
            ["bash", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={"PATH": f"{scripts}:/usr/bin:/bin"},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}"
        ran += 1
    assert ran >= 3
