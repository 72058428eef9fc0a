"""Switches of configurations."""

from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from covid_ct_mask_net.errors import UsageError
from covid_ct_mask_net.paths import bundle_root
from covid_ct_mask_net.switches import switch


@pytest.mark.parametrize("text", ["false", "False", False, 0])
def test_switches_of_the_command_line_are_no_texts(text: object) -> None:
    assert switch(text) is False
    assert switch("true") is True
    assert switch(True) is True
    with pytest.raises(UsageError, match="'maybe', but must be true or false"):
        switch("maybe")


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True)])
def test_configurations_read_switches_of_the_command_line(text: str, value: bool, tmp_path: Path) -> None:
    configs = bundle_root() / "configs"
    parser = ConfigParser()
    parser.read_config(str(configs / "inference.yaml"))
    parser["use_list_output"] = text
    assert parser.get_parsed_content("detector_def").use_list_output is value
    parser = ConfigParser()
    parser.read_config(str(configs / "evaluate_segmentation.yaml"))
    parser.update({"overlays": text, "output_dir": str(tmp_path)})
    assert parser.get_parsed_content("plan").overlays is value
