"""Graphs that end in any thread and order leave the process able to handle signals.

Only on a processor with AMX does OpenVINO's plugin set a stack for signals: elsewhere this always passes.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import signal, threading
import numpy as np
import openvino as ov
from openvino import opset13 as ops
from covid_ct_mask_net.engines.base import Precision
from covid_ct_mask_net.engines.cache import GraphCache
from covid_ct_mask_net.engines.programs import Compiler, Worker

def ran():
    compiler, worker = Compiler(Precision.FLOAT32, Precision.FLOAT32, GraphCache(None)), Worker()
    x = ops.parameter([1, 3], np.float32)
    program = compiler.program(ov.Model([ops.relu(x)], [x]), Precision.FLOAT32)
    worker.run(program, np.ones((1, 3), np.float32))
    return [compiler, worker, program]

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

first, second = ran(), []
{work}
told = []
signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
signal.raise_signal(signal.SIGTERM)
print("told", *told)
"""


@pytest.mark.parametrize(
    "work",
    ["in_thread(first.clear)", "second = ran(); first.clear(); second.clear()"],
    ids=["in another thread", "in the order in which they were made"],
)
def test_the_process_handles_signals_after_its_graphs_ended(work: str) -> None:
    program = _PROGRAM.format(work=work)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "told 15\n"), done.stderr
