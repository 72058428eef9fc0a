"""Rows 67 to 73 of the catalogue of bad inputs: output folders, signals, clocks, settings, surroundings.

Requirements: REQ-OUTPUT-1, REQ-OUTPUT-2, REQ-OUTPUT-3, REQ-OUTPUT-4, REQ-SAME-1, REQ-GATE-3, REQ-LIMITS-1,
REQ-LIMITS-2, REQ-NETWORK-1,
REQ-CODE-1.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from builders.command_line import ASSESSED, CommandLine, Expected, Outcome, read_outcome, run_main
from builders.large_study import make_large_study
from builders.late import let_time_pass
from builders.memory import measured
from builders.oracle import SPACING, chest_with_lesions
from builders.planted import TOKEN, make_study
from covid_ct_mask_net.app.output_folder import OutputFolder
from covid_ct_mask_net.errors import ExitCode

FAILED = ExitCode.OUTPUT_FAILED
INSIDE = ("--set", "limits.isolation=false", "--quiet")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- 67: the output folder


def test_row_67_a_file_in_place_of_the_folder(triage: CommandLine) -> None:
    make_study(triage.inputs)
    triage.output.write_text("mine")
    code = run_main(["triage", str(triage.inputs), "-o", str(triage.output)])
    assert code == FAILED
    assert triage.output.read_text() == "mine"


def test_row_67_a_read_only_place(tmp_path: Path) -> None:
    """Not even root can make a folder below /proc."""
    from covid_ct_mask_net.errors import OutputError

    with pytest.raises(OutputError) as caught:
        OutputFolder(Path("/proc/covid-ct-mask-net"))
    assert caught.value.code == "OUTPUT_UNWRITABLE"


def test_row_67_other_files_in_the_folder(triage: CommandLine) -> None:
    make_study(triage.inputs)
    triage.output.mkdir()
    thesis = triage.output / "thesis.docx"
    thesis.write_text("mine")
    # Whatever lies in the folder afterwards is checked to be private, and this is not ours.
    thesis.chmod(0o600)
    outcome = triage()
    assert outcome.code == FAILED
    assert "OUTPUT_NOT_EMPTY" in outcome.stderr
    assert names(triage.output) == ["thesis.docx"]


@pytest.mark.shows_patients("a mistake in the paths is told with the paths as they were given")
def test_row_67_inside_of_the_input(triage: CommandLine) -> None:
    make_study(triage.inputs)
    triage.output = triage.inputs / "out"
    assert triage(names_input=True).code == ExitCode.USAGE
    assert not triage.output.exists()


def test_row_67_a_full_disk(triage: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own limit on the size of files stands for the disk: large results fail, small ones fit."""
    make_study(triage.inputs)
    earlier = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, earlier[1]))
    try:
        code = run_main(["triage", str(triage.inputs), "-o", str(triage.output), "--quiet"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, earlier)
        signal.signal(signal.SIGXFSZ, handler)
    assert code == FAILED
    assert names(triage.output) == ["audit.jsonl"]
    # Room was made: the next run does what the first one could not.
    triage.expect(Expected(ASSESSED))


# --- 68: killed at any point, told to end, two at a time


class Killer:
    """Counts the steps that change the output folder and kills the process at one of them."""

    STEPS = ("fsync", "rename", "replace", "unlink", "mkdir")

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def __call__(self, step: Callable) -> Callable:
        def counted(*arguments: object, **options: object) -> object:
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments, **options)

        return counted


def killed(arguments: list[str], at: int) -> bool:
    """Run in a child that is killed at a step; tell whether it came to its end before."""
    child = os.fork()
    if child == 0:
        killer = Killer(at)
        for name in Killer.STEPS:
            setattr(os, name, killer(getattr(os, name)))
        # Whatever happens, the child must not go on as a second pytest.
        code = ExitCode.INTERNAL
        try:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
            code = run_main(arguments)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child ended with an error"
    return os.WIFEXITED(status)


def check_whole(output: Path, complete: set[str]) -> None:
    """Each set is complete or not there at all; texts about the run are whole or not there."""
    for folder in [p for p in output.iterdir() if p.is_dir() and not p.name.startswith(".")]:
        assert {path.name for path in folder.iterdir()} == complete
        assert json.loads((folder / "result.json").read_text())["status"] == "assessed"
        for path in folder.glob("*.dcm"):
            assert pydicom.dcmread(path).SOPInstanceUID
    for name in ("worklist.json", "run.json"):
        if (output / name).exists():
            json.loads((output / name).read_text())
    if (output / "audit.jsonl").exists():
        for line in (output / "audit.jsonl").read_text().splitlines():
            json.loads(line)


def test_row_68_killed_at_any_point_leaves_no_half_result(triage: CommandLine) -> None:
    make_study(triage.inputs)
    arguments = ["triage", str(triage.inputs), "-o", str(triage.output), "--no-seg", "--no-html"]
    arguments += ["--key-images=1", *INSIDE]
    assert run_main(arguments) == 0
    (study,) = [path for path in triage.output.iterdir() if path.is_dir()]
    complete = {path.name for path in study.iterdir()}
    ended, at = False, 1
    while not ended:
        ended = killed(arguments, at)
        check_whole(triage.output, complete)
        # Each step has other neighbours in each test run of several studies; every third is enough of one.
        at += 3
    assert at > 15
    # The next run cleans up.
    killed(arguments, at - 8)
    assert run_main(arguments) == 0
    assert not [name for name in names(triage.output) if "/" not in name and name.startswith(".")]
    assert {path.name for path in study.iterdir()} == complete


def test_row_68_two_runs_do_not_mix(triage: CommandLine) -> None:
    make_study(triage.inputs)
    with OutputFolder(triage.output):
        before = names(triage.output)
        outcome = triage()
        assert outcome.code == FAILED
        assert "OUTPUT_BUSY" in outcome.stderr
        assert names(triage.output) == before
    assert triage().code == ASSESSED


def test_row_68_sigterm_ends_within_seconds(triage: CommandLine, tmp_path: Path) -> None:
    """Told to end while a study is computed: a finished study stays, the other one leaves nothing."""
    for name in "ab":
        make_study(triage.inputs / name, patient_id=f"{TOKEN}{name}")
    program = (
        "import sys, time; from builders.oracle import Oracle, oracle_pipeline\n"
        "from covid_ct_mask_net import pipeline; from covid_ct_mask_net.__main__ import main\n"
        "oracle = oracle_pipeline(); look, seen = Oracle._look, []\n"
        "def slow(self, image):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 50: print('second study', flush=True)\n"
        "    if len(seen) >= 50: time.sleep(1)\n"
        "    return look(self, image)\n"
        "Oracle._look = slow; pipeline.load_pipeline = lambda *_: oracle\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program, "triage", str(triage.inputs), "-o", str(triage.output), "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "second study\n"
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 143
        # The grace period is 5 s; the rest is for machines that are busy with other tests.
        assert time.monotonic() - start < 30
    assert "Traceback" not in said
    assert TOKEN not in said
    folders = [path for path in triage.output.iterdir() if path.is_dir()]
    assert len(folders) == 1
    assert not [name for name in names(triage.output) if Path(name).name.startswith(".")]
    last = json.loads((triage.output / "audit.jsonl").read_text().splitlines()[-1])
    assert last["EventIdentification"]["EventTypeCode"]["originalText"] == "Application Stop"
    assert last["EventIdentification"]["EventOutcomeIndicator"] == 12


def test_row_68_sigterm_while_networks_load(triage: CommandLine) -> None:
    """The thread that loads cannot be interrupted: the process ends after it, without a traceback."""
    make_study(triage.inputs / "a", patient_id=TOKEN)
    program = (
        "import sys, time; from covid_ct_mask_net import pipeline\n"
        "from covid_ct_mask_net.__main__ import main\n"
        "load = pipeline.load_pipeline\n"
        "def slow(*arguments):\n"
        "    print('loading', flush=True)\n"
        "    time.sleep(1)\n"
        "    return load(*arguments)\n"
        "pipeline.load_pipeline = slow\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["triage", str(triage.inputs), "-o", str(triage.output), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 143
    assert "Ended by SIGTERM" in said
    assert "Traceback" not in said
    assert not [path for path in triage.output.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("pause", "complete"), [(0.3, True), (60.0, False)], ids=["it ends in time", "it hangs"]
)
def test_row_68_sigterm_while_results_are_written(triage: CommandLine, pause: float, complete: bool) -> None:
    """A thread of its own writes: after SIGTERM its set is whole or not there, and the next run cleans up."""
    for name in "ab":
        make_study(triage.inputs / name, patient_id=f"{TOKEN}{name}")
    program = (
        "import sys, threading, time; from builders.oracle import oracle_pipeline\n"
        "from covid_ct_mask_net import pipeline, result_set; from covid_ct_mask_net.__main__ import main\n"
        "oracle = oracle_pipeline(); pipeline.load_pipeline = lambda *_: oracle\n"
        "write = result_set._write_durably\n"
        "def slow(path, content):\n"
        "    write(path, content)\n"
        "    if path.name == 'result.json':\n"
        "        print(threading.current_thread().name, flush=True)\n"
        f"        time.sleep({pause})\n"
        "result_set._write_durably = slow\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["triage", str(triage.inputs), "-o", str(triage.output), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("reports")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=90)
        assert process.returncode == 143
    folders = [path for path in triage.output.iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert len(folders) == int(complete)
    for folder in folders:
        assert {"result.json", "sr.dcm", "seg.dcm", "gsps.dcm"} <= {path.name for path in folder.iterdir()}
        check_whole(triage.output, {path.name for path in folder.iterdir()})
    # The next run finds no lock, and cleans up.
    assert run_main(arguments) == 0
    assert len([path for path in triage.output.iterdir() if path.is_dir()]) == 2
    assert not [name for name in names(triage.output) if Path(name).name.startswith(".")]


# --- 69: clocks and locales


def test_row_69_time_zone_and_locale_change_nothing(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(triage.inputs)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    found = []
    for zone, locale in (("UTC", "C.UTF-8"), ("Asia/Tokyo", "C"), ("America/St_Johns", "de_DE.UTF-8")):
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("LC_ALL", locale)
        time.tzset()
        outcome = triage()
        folder = outcome.output / outcome.result["pseudonym"]
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
        # The images declare no time zone: whatever ours is, the study's time must not be read in it.
        assert "TimezoneOffsetFromUTC" not in pydicom.dcmread(folder / "sr.dcm")
    monkeypatch.undo()
    time.tzset()
    assert found[0] == found[1] == found[2]


# --- 70: settings


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--set", "limits.study_secs=1"), "there are"),
        (("--set", "limits.minimum_side=-1"), "not negative"),
        (("--set", "limits.minimum_slices=5000"), "above limits.maximum_slices"),
        (("--settings", "gone.yaml"), "cannot be read"),
        (("--key-images", "9"), "0 to 3"),
        (("--no-such-option",), "unrecognized"),
        (("--engine", "quick"), "choose from"),
    ],
)
def test_row_70_mistakes_in_settings(triage: CommandLine, options: tuple[str, ...], told: str) -> None:
    make_study(triage.inputs, hu=None)
    outcome = triage(*options)
    assert outcome.code == ExitCode.USAGE
    assert told in outcome.stderr
    assert not triage.output.exists()


def test_row_70_limits_do_what_they_say(triage: CommandLine) -> None:
    make_study(triage.inputs)
    outcome = triage("--set", "limits.file_bytes=10000", "--set", "limits.isolation=false")
    assert outcome.run["files"]["refused"] == {"FILE_SIZE": 40}
    # The result of an input without studies stays on the worklist of its folder.
    triage.output = triage.folder / "second"
    triage.expect(Expected(ExitCode.REFUSED_INPUT, "VOXELS"), "--set", "limits.voxels=1000")


def test_row_70_the_time_for_the_input_is_limited(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(triage.inputs)
    let_time_pass(monkeypatch, files=39)
    outcome = triage("--set", "limits.intake_seconds=60")
    assert outcome.code == ExitCode.REFUSED_INPUT
    assert outcome.result["status"] == "assessed"
    assert outcome.warnings().count("INTAKE_INCOMPLETE") == 1
    assert outcome.run["files"]["refused"] == {"TIME_LIMIT": 1}
    assert "INTAKE_INCOMPLETE: Looking through the input took longer than 60 s" in outcome.stderr


def test_row_70_the_time_of_a_study_is_limited(triage: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    from covid_ct_mask_net.app import volume

    make_study(triage.inputs)
    load = volume.load
    monkeypatch.setattr(volume, "load", lambda *a, **o: (load(*a, **o), time.sleep(1.1))[0])
    outcome = triage.expect(Expected(ExitCode.REFUSED_INPUT, "TIME_LIMIT"), "--set", "limits.study_seconds=1")
    assert outcome.result["triage"] is None


# --- 71 and 73: surroundings


_BARE = """
import os, pwd, socket, sys

def refused(*_, **__):
    raise OSError("no network")

def unknown(_):
    raise KeyError("no such user")

def guard(event, arguments):
    # Named relative to an open folder: that of a tree which is removed.
    if event == "os.remove" and arguments[1] != -1:
        return
    writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if event in ("os.mkdir", "os.rename", "os.remove") or writes:
        path = os.path.abspath(os.fsdecode(arguments[0])) if not isinstance(arguments[0], int) else "/dev/"
        if not path.startswith((sys.argv[1], sys.argv[2], "/dev/")):
            raise PermissionError(13, "read-only file system", path)

socket.socket.connect = socket.socket.bind = refused
pwd.getpwuid = unknown
sys.addaudithook(guard)
from covid_ct_mask_net.__main__ import main
sys.exit(main(sys.argv[3:]))
"""


def test_row_71_no_home_no_name_nothing_writable_but_the_output(triage: CommandLine) -> None:
    make_study(triage.inputs)
    temporary = triage.folder / "tmp"
    temporary.mkdir()
    options = ["-o", str(triage.output), "--slices", "every=60", "--engine", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", _BARE, str(triage.output), str(temporary), "triage", str(triage.inputs),
         *options],
        cwd="/", capture_output=True, text=True, timeout=280, check=False,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_outcome(0, "", "", triage.output).result["status"] == "assessed"
    assert list(temporary.iterdir()) == []
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_row_71_no_home_and_no_folder_for_temporary_files(triage: CommandLine) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BARE, str(triage.output), str(triage.output), "triage", str(triage.inputs)],
        cwd="/", capture_output=True, text=True, timeout=60, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("NO_TEMPORARY_FOLDER: ")
    assert "TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not triage.output.exists()


# --- 72: slices that are too large for memory

SMALL_MEMORY = ("--set", "limits.reduce_voxels=400000", "--set", "limits.reduce_side=96")


def enlarge(hu: NDArray, spacing: tuple[float, float, float]) -> dict[str, object]:
    """The phantom with each pixel four times, at the same place in the patient."""
    fine = (spacing[0], spacing[1] / 2, spacing[2] / 2)
    origin = (-80.0 - fine[2] / 2, -80.0 - fine[1] / 2, -50.0)
    return {"hu": hu.repeat(2, axis=1).repeat(2, axis=2), "spacing": fine, "origin": origin}


def turned(properties: dict[str, Any]) -> dict[str, Any]:
    """The same chest, its slices stored from left to right and from posterior to anterior."""
    hu, spacing, origin = (properties[name] for name in ("hu", "spacing", "origin"))
    far = [o + (n - 1) * s for o, n, s in zip(origin, hu.shape[::-1], spacing[::-1], strict=True)]
    return {
        **properties,
        "hu": hu[:, ::-1, ::-1],
        "orientation": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
        "origin": (far[0], far[1], origin[2]),
    }


def from_the_other_end(properties: dict[str, Any]) -> dict[str, Any]:
    """The same chest, feet first: slices run down, their columns to the patient's right."""
    hu, spacing, origin = (properties[name] for name in ("hu", "spacing", "origin"))
    far = [o + (n - 1) * s for o, n, s in zip(origin, hu.shape[::-1], spacing[::-1], strict=True)]
    return {
        **properties,
        "hu": hu[::-1, :, ::-1],
        "orientation": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        "origin": (far[0], origin[1], far[2]),
    }


def in_patient(outcome: Outcome) -> dict[str, set[tuple[float, float, float]]]:
    """Corners of the segmented pixels (mm, LPS), by segment."""
    dataset = pydicom.dcmread(outcome.output / outcome.result["pseudonym"] / "seg.dcm")
    labels = {s.SegmentNumber: s.SegmentLabel for s in dataset.SegmentSequence}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    plane = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    found: dict[str, set[tuple[float, float, float]]] = {label: set() for label in labels.values()}
    for frame, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        label = labels[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        rows, columns = np.nonzero(frame)
        for row, column in zip(rows, columns, strict=True):
            for edge in (-0.5, 0.5):
                shift = plane[0] * spacing[1] * (column + edge) + plane[1] * spacing[0] * (row + edge)
                found[label].add(tuple(np.round(origin + shift, 2)))
    return found


@pytest.mark.parametrize(
    "change", [dict, turned, from_the_other_end], ids=["as it is", "turned", "feet first"]
)
def test_row_72_large_slices_are_reduced_and_results_lie_where_the_lesions_are(
    triage: CommandLine, change: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    fine = change(enlarge(chest_with_lesions(), SPACING))
    make_study(triage.inputs, **fine)
    whole = triage("--set", "limits.isolation=false")
    assert whole.code == ASSESSED
    reduced = triage.expect(Expected(ASSESSED, warnings=["MATRIX_REDUCED"]), *SMALL_MEMORY)
    assert "MATRIX_REDUCED" not in whole.warnings()
    (sentence,) = (w["sentence"] for w in reduced.result["warnings"] if w["code"] == "MATRIX_REDUCED")
    assert "40 slices of 192 x 192 pixels" in sentence
    assert "to 96 x 96 of 3.50 x 3.50 mm" in sentence
    # The geometry is that of the images.
    assert reduced.result["geometry"]["shape"] == [192, 192, 40]
    assert reduced.result["geometry"]["spacing_mm"] == whole.result["geometry"]["spacing_mm"]
    assert len(reduced.result["slices"]) == len(whole.result["slices"])
    assert [lesion["side"] for lesion in reduced.result["lesions"]] == ["right", "left"]
    for one, other in zip(reduced.result["lesions"], whole.result["lesions"], strict=True):
        assert {**one, "volume_ml": 0, "centroid_mm": 0} == {**other, "volume_ml": 0, "centroid_mm": 0}
        assert one["volume_ml"] == pytest.approx(other["volume_ml"], rel=0.01)
        assert one["centroid_mm"] == pytest.approx(other["centroid_mm"], abs=0.1)
    for one, other in zip(reduced.result["slices"], whole.result["slices"], strict=True):
        assert one["sop_instance_uid"] == other["sop_instance_uid"]
        for mine, its in zip(one["detections"], other["detections"], strict=True):
            # The oracle draws boxes half a pixel short, and pixels are twice as large.
            assert mine["box"] == pytest.approx(its["box"], abs=0.51)


def test_row_72_every_object_is_in_pixels_of_the_images(triage: CommandLine) -> None:
    """What was found on reduced slices of 96 x 96 is the same place as on a scan of 96 x 96."""
    make_study(triage.inputs, hu=chest_with_lesions(), spacing=SPACING)
    coarse = triage()
    place = in_patient(coarse)
    outlines = corners(coarse)
    for path in triage.inputs.iterdir():
        path.unlink()
    make_study(triage.inputs, **enlarge(chest_with_lesions(), SPACING))
    reduced = triage(*SMALL_MEMORY)
    folder = reduced.output / reduced.result["pseudonym"]
    images = {str(d.SOPInstanceUID): d for d in map(pydicom.dcmread, triage.inputs.iterdir())}
    segmentation = pydicom.dcmread(folder / "seg.dcm")
    assert segmentation.pixel_array.shape[1:] == (192, 192)
    for groups in segmentation.PerFrameFunctionalGroupsSequence:
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        image = images[source.ReferencedSOPInstanceUID]
        assert groups.PlanePositionSequence[0].ImagePositionPatient == image.ImagePositionPatient
        assert source.SpatialLocationsPreserved == "YES"
    # Corners of blocks are corners of two by two pixels.
    assert set(place) == set(in_patient(reduced))
    for label, points in in_patient(reduced).items():
        assert place[label] <= points
        assert np.min(list(points), axis=0) == pytest.approx(np.min(list(place[label]), axis=0))
        assert np.max(list(points), axis=0) == pytest.approx(np.max(list(place[label]), axis=0))
    # Outlines of the presentation state: twice as many pixels from the corner of the image.
    assert {key: np.array(value) * 2 for key, value in outlines.items()}.keys() == corners(reduced).keys()
    for key, points in corners(reduced).items():
        np.testing.assert_allclose(points, np.array(outlines[key]) * 2)
    assert b"MATRIX_REDUCED" in (folder / "sr.dcm").read_bytes()
    assert (folder / "sc-1.dcm").is_file()


def corners(outcome: Outcome) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Outlines of the presentation state by image (number of the slice) and order on it."""
    folder = outcome.output / outcome.result["pseudonym"]
    order = [s["sop_instance_uid"] for s in outcome.result["slices"]]
    found = {}
    for annotation in pydicom.dcmread(folder / "gsps.dcm").GraphicAnnotationSequence:
        place = order.index(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID)
        for number, graphic in enumerate(annotation.GraphicObjectSequence):
            points = np.array(graphic.GraphicData, dtype=float).reshape(-1, 2)
            found[annotation.GraphicLayer, place, number] = [tuple(p) for p in points]
    return found


def test_row_72_nifti_volumes_are_treated_alike(triage: CommandLine) -> None:
    hu = chest_with_lesions().repeat(2, axis=1).repeat(2, axis=2).transpose(2, 1, 0)
    affine = np.diag([-SPACING[2] / 2, -SPACING[1] / 2, SPACING[0], 1.0])
    path = triage.inputs / "ct.nii.gz"
    nibabel.Nifti1Image(hu.astype(np.int16), affine).to_filename(path)
    whole = triage()
    reduced = triage.expect(Expected(ASSESSED, warnings=["MATRIX_REDUCED"]), *SMALL_MEMORY)
    assert reduced.result["geometry"] == whole.result["geometry"]
    assert [lesion["side"] for lesion in reduced.result["lesions"]] == ["right", "left"]
    for one, other in zip(reduced.result["slices"], whole.result["slices"], strict=True):
        for mine, its in zip(one["detections"], other["detections"], strict=True):
            assert mine["box"] == pytest.approx(its["box"], abs=0.51)
    triage.expect(
        Expected(ExitCode.REFUSED_INPUT, "NIFTI_SIZE"), "--set", "limits.voxels=368639", *SMALL_MEMORY
    )


def test_row_72_what_cannot_be_reduced_enough_is_refused(triage: CommandLine) -> None:
    make_study(triage.inputs)
    refused = triage.expect(
        Expected(ExitCode.REFUSED_INPUT, "VOXELS"), "--set", "limits.voxels=368639", *SMALL_MEMORY
    )
    assert "reduce_side" in refused.result["reasons"][0]["sentence"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_row_72_two_thousand_slices_of_1024_in_4_gb(tmp_path: Path) -> None:
    """Program and readers together; read, decoded, computed and written by the shipped weights."""
    make_large_study(tmp_path / "in")
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    command = [sys.executable, "-m", "covid_ct_mask_net", "triage", str(tmp_path / "in")]
    command += ["-o", str(tmp_path / "out"), "--slices", "every=2", "--quiet"]
    run = measured(command, environment, timeout=2000)
    assert run.code == 0, run.stderr[-3000:]
    result = read_outcome(0, "", "", tmp_path / "out").result
    assert result["status"] == "assessed"
    assert "MATRIX_REDUCED" in [warning["code"] for warning in result["warnings"]]
    assert result["geometry"]["shape"] == [1024, 1024, 2000]
    assert run.together_mb < 4000, f"{run.together_mb:.0f} MB, the program alone {run.alone_mb:.0f} MB"


@pytest.mark.parametrize("option", ["--config", "--config_file", "--meta_file", "--evaluator#amp"])
def test_row_73_configurations_are_no_option(triage: CommandLine, option: str) -> None:
    make_study(triage.inputs, hu=None)
    outcome = triage(option, "evil.yaml")
    assert outcome.code == ExitCode.USAGE
    assert not triage.output.exists()


def test_row_73_variables_of_libraries_change_nothing(
    triage: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(triage.inputs)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    plain = triage().result
    for name in (
        "MONAI_ALLOW_PICKLE",
        "MONAI_EVAL_EXPR",
        "MONAI_RUN_DEBUG",
        "MONAI_DEBUG",
        "MONAI_DATA_DIRECTORY",
    ):
        monkeypatch.setenv(name, "1")
    assert triage().result == plain


def test_row_73_input_that_looks_like_a_bundle_is_not_run(triage: CommandLine) -> None:
    """Code beside the images, and in the working folder, is not imported."""
    make_study(triage.inputs)
    trap = f"open({str(triage.folder / 'pwned')!r}, 'w').close()\n"
    for folder in (triage.inputs, Path.cwd()):
        for name in ("pydicom.py", "sitecustomize.py", "numpy.py", "covid_ct_mask_net.py"):
            (folder / name).write_text(trap)
        (folder / "configs").mkdir()
        (folder / "configs" / "inference.yaml").write_text(f"imports:\n  - $exec({trap!r})\n")
    outcome = triage("--set", "limits.read_seconds=31")
    assert outcome.code == ASSESSED
    assert not (triage.folder / "pwned").exists()
