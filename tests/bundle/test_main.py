"""The command line: one exit code and one sentence for everything that is expected."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from covid_ct_mask_net import RESEARCH_NOTICE, __main__, __version__
from covid_ct_mask_net.errors import (
    CovidCTMaskNetError,
    ExitCode,
    NotAssessableError,
    OutputError,
    RefusedInputError,
    UntrustedModelError,
    UsageError,
)


def _command(monkeypatch: pytest.MonkeyPatch, outcome: object, debug: bool | None = None) -> None:
    """Let ``work`` be the only command; it returns or raises the outcome."""

    def run(_: argparse.Namespace) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    module = ModuleType("command_of_a_test")
    defaults = {"run": run} if debug is None else {"run": run, "debug": debug}
    module.add_parser = lambda parsers: parsers.add_parser("work").set_defaults(**defaults)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(__main__, "COMMANDS", (module.__name__,))


@pytest.mark.parametrize("code", list(ExitCode))
def test_the_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch, code: ExitCode) -> None:
    _command(monkeypatch, code)
    assert __main__.main(["work"]) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError, 2),
        (NotAssessableError, 3),
        (RefusedInputError, 4),
        (UntrustedModelError, 5),
        (OutputError, 6),
        (CovidCTMaskNetError, 70),
    ],
)
def test_expected_failures_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type, code: int
) -> None:
    _command(monkeypatch, error("REASON", "It is so; do this."))
    assert __main__.main(["work"]) == code
    printed = capsys.readouterr()
    assert printed.err == "REASON: It is so; do this.\n"
    assert printed.out == ""


def test_an_interrupt_says_what_is_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _command(monkeypatch, KeyboardInterrupt())
    assert __main__.main(["work"]) == 130
    assert "results of studies that were finished are complete" in capsys.readouterr().err


@pytest.mark.parametrize(("debug", "shown"), [(None, True), (True, True), (False, False)])
def test_defects_are_internal_and_their_traceback_is_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: bool | None, shown: bool
) -> None:
    """Commands on studies have --debug, because tracebacks may name paths; the others show them."""
    _command(monkeypatch, ZeroDivisionError("/data/patient"), debug)
    assert __main__.main(["work"]) == ExitCode.INTERNAL
    printed = capsys.readouterr().err
    assert printed.splitlines()[-1].startswith("INTERNAL: The command stopped with ZeroDivisionError;")
    assert ("Traceback" in printed) is shown
    assert ("/data/patient" in printed) is shown


def test_a_user_who_cannot_be_settled_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsettled() -> None:
        raise UsageError("NO_TEMPORARY_FOLDER", "There is none.")

    _command(monkeypatch, ExitCode.DONE)
    monkeypatch.setattr(__main__, "settle_user", unsettled)
    assert __main__.main(["work"]) == ExitCode.USAGE
    assert capsys.readouterr().err == "NO_TEMPORARY_FOLDER: There is none.\n"


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["triage"], ["triage", "in"]])
def test_wrong_arguments_are_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(arguments)
    assert caught.value.code == ExitCode.USAGE
    assert "usage: covid-ct-mask-net" in capsys.readouterr().err


def test_version_and_help_carry_the_notice(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as caught:
            __main__.main([option])
        assert caught.value.code == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert RESEARCH_NOTICE in printed
        assert option == "--help" or __version__ in printed


def test_every_command_is_there_and_helps(capsys: pytest.CaptureFixture[str]) -> None:
    parser = __main__.build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    assert len(commands.choices) == len(__main__.COMMANDS)
    for name in commands.choices:
        with pytest.raises(SystemExit) as caught:
            __main__.main([name, "--help"])
        assert caught.value.code == 0
        assert "usage" in capsys.readouterr().out


def test_a_part_that_is_not_installed_has_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the bundle runs alone; a command that lacks a package of somebody else is a defect."""
    monkeypatch.setattr(__main__, "COMMANDS", ("covid_ct_mask_net.gone.commands.work",))
    parser = __main__.build_parser()
    with pytest.raises(SystemExit):
        parser.parse_args(["work"])

    def broken(_: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(__main__.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        __main__.build_parser()


def test_the_program_ends_with_the_code_after_what_was_registered_and_written(tmp_path: Path) -> None:
    """All output arrives, through a pipe too, and what was registered for the end runs once."""
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, sys\n"
        "from covid_ct_mask_net import __main__\n"
        "def main():\n"
        "    atexit.register(lambda: print('registered'))\n"
        "    sys.stdout.write('out' * 100000)\n"
        "    sys.stderr.write('err')\n"
        "    return 6\n"
        "__main__.main = main\n"
        "__main__.program()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert done.stdout == "out" * 100000 + "registered\n"
    assert done.stderr == "err"
