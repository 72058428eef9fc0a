"""What stands around the engines."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from covid_ct_mask_net.errors import RefusedInputError, UsageError
from covid_ct_mask_net.training import bundle_run
from covid_ct_mask_net.training.bundle_run import (
    absolute,
    expected_failure,
    fixed_setting,
    network_of,
    prepare_process,
    run_training,
    sentence_hook,
    tensorboard_installed,
    training_device,
)


def test_failures_of_ours_are_found_among_causes() -> None:
    ours = UsageError("CODE", "Sentence.")
    outer = RuntimeError("while evaluating")
    outer.__cause__ = ours
    assert expected_failure(outer) is ours
    assert expected_failure(RuntimeError("other")) is None


def test_a_failure_ends_a_process_in_one_sentence_and_its_code() -> None:
    program = (
        "from covid_ct_mask_net.training.bundle_run import prepare_process\n"
        "from covid_ct_mask_net.errors import RefusedInputError\n"
        "prepare_process(1)\n"
        "raise RuntimeError('outer') from RefusedInputError('MASK_VALUE', 'The mask x.png holds 9.')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "MASK_VALUE: The mask x.png holds 9."
    assert "Traceback" not in done.stderr
    assert done.returncode == int(RefusedInputError.exit_code)


def test_other_failures_are_traced(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("unexpected")
    sentence_hook(ValueError, error, None)
    assert "ValueError: unexpected" in capsys.readouterr().err


def test_processes_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    drawn = []
    for _ in range(2):
        prepare_process(4)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]
    assert sys.excepthook is sentence_hook


def test_a_finished_run_is_not_started_over() -> None:
    class Done:
        class state:  # noqa: N801
            epoch, max_epochs = 3, 3

        def run(self) -> None:
            raise AssertionError("started over")

    class State:
        resumed = False

        def resume(self, trainer: Done) -> None:
            self.resumed = trainer.state.epoch == 3

    state = State()
    run_training(Done(), state, resume=True)  # type: ignore[arg-type]
    assert state.resumed


def test_a_supply_is_closed_however_the_training_ends() -> None:
    class Broken:
        class state:  # noqa: N801
            epoch, max_epochs = 0, 3

        def run(self) -> None:
            raise RuntimeError("no more memory")

    class State:
        def begin(self) -> None:
            pass

    ended = []
    with ExitStack() as supply:
        supply.callback(lambda: ended.append(True))
        with pytest.raises(RuntimeError, match="no more memory"):
            run_training(Broken(), State(), resume=False, supply=supply)  # type: ignore[arg-type]
        assert ended == [True]


def test_small_helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_device().type in ("cpu", "cuda")
    monkeypatch.chdir(tmp_path)
    assert absolute("run") == str(tmp_path / "run")
    network = torch.nn.Linear(1, 1)
    assert network_of(network) is network
    assert network_of(torch.nn.DataParallel(network)) is network
    monkeypatch.setattr(bundle_run.importlib.util, "find_spec", lambda _: None)
    assert not tensorboard_installed()


def test_settings_that_an_overlay_does_not_use_are_refused() -> None:
    fixed_setting("augmentation", 0, 0.0, "set another")
    with pytest.raises(UsageError, match=r"schedule is 'step', but is always 'cosine' .*: set another\."):
        fixed_setting("schedule", "step", "cosine", "set another")
