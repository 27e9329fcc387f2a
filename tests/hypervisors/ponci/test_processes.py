"""The reasons for processes that have not ended, from `/proc`."""

import subprocess
import sys

import pytest

from fastlib.migfra.hypervisors.ponci.processes import blocked, processes_of, why_alive
from tests.support.ponci.workload import Stuck
from tests.support.waiting import wait_until

TRACED = """
import ctypes, os, signal
child = os.fork()
if child == 0:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)  # PTRACE_TRACEME
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(child, 0)
print(child, flush=True)
input()
os.kill(child, signal.SIGKILL)
"""
KERNEL_THREAD = 2
"""kthreadd, the parent of all threads of the kernel."""


def test_blocked_process_is_reported():
    with Stuck() as stuck:
        assert blocked([stuck.pid]) == frozenset()
        assert why_alive([stuck.pid]) == f"1 process ({stuck.pid}) not ended yet: wait for that"
        stuck.wait()
        wait_until(lambda: stuck.is_stuck, "a process that waits in the kernel")
        assert blocked([0, stuck.pid]) == {stuck.pid}
        assert why_alive([stuck.pid]) == (
            f"1 process ({stuck.pid}) waiting in the kernel (state D), such as for a device or a "
            "file server: check that"
        )
        assert processes_of([0, stuck.pid]) == {0, stuck.pid}


def test_traced_process_is_reported():
    with subprocess.Popen(
        [sys.executable, "-c", TRACED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tracer:
        traced = int(tracer.stdout.readline())
        said = why_alive([traced])
        tracer.communicate("\n")
    assert said == (
        f"1 process ({traced}) held by the process {tracer.pid}, which traces them: end that one"
    )


def test_processes_are_grouped_by_reason():
    with Stuck() as stuck:
        said = why_alive([stuck.pid, 0])
    assert said == (
        f"1 process ({stuck.pid}) not ended yet: wait for that; "
        "1 process (0) of another PID namespace (0): end them there"
    )
    assert why_alive([stuck.pid]) == ""  # it has ended meanwhile
    assert processes_of([stuck.pid]) == frozenset()


def test_thread_of_the_kernel_is_reported(monkeypatch):
    """The test may run in a PID namespace that has none."""
    stat = f"{KERNEL_THREAD} (a) b) S 0 0 0 0 -1 2129984 0 0"
    status = "Name:\ta) b\nState:\tS (sleeping)\nTracerPid:\t0\n"
    monkeypatch.setattr(
        "fastlib.migfra.hypervisors.ponci.processes.read",
        lambda path: status if path.name == "status" else stat,
    )
    assert why_alive([KERNEL_THREAD]) == (
        f"1 process ({KERNEL_THREAD}) of the kernel, which cannot be killed: move them to another "
        "group"
    )


@pytest.mark.parametrize("processes", [[], [0, 0]])
def test_empty_group_has_no_blocked_processes(processes):
    assert blocked(processes) == frozenset()
