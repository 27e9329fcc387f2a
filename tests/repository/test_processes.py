"""Tests of the helper that gives child processes default signal handling."""

import gc
import os
import signal
import subprocess
import sys
import warnings

import pytest

from tests.support.processes import SIGNALS, give_children_default_signals, niceness

CHILD = """
import signal, sys
number = signal.Signals[sys.argv[1]]
blocked = number in signal.pthread_sigmask(signal.SIG_BLOCK, ())
print(signal.getsignal(number) is signal.SIG_IGN, blocked)
"""

PARENT = """
import signal, subprocess, sys
from tests.support.processes import give_children_default_signals
number = signal.Signals[sys.argv[1]]
signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
if sys.argv[2] == "repair":
    give_children_default_signals()
subprocess.run([sys.executable, "-c", sys.argv[3], number.name], check=True)
"""


def state_in_child(number: signal.Signals, mode: str) -> str:
    """Whether a child of a parent that ignores and blocks a signal does so, too."""
    command = [sys.executable, "-c", PARENT, number.name, mode, CHILD]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_children_inherit_ignored_signals_by_default():
    assert state_in_child(signal.SIGINT, "leave") == "True True"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=lambda n: n.name)
def test_children_get_default_signals_after_repair(number):
    assert state_in_child(number, "repair") == "False False"


def test_this_process_ignores_no_signal():
    assert [n.name for n in SIGNALS if signal.getsignal(n) is signal.SIG_IGN] == []


def test_repair_keeps_existing_handlers():
    before = [signal.getsignal(number) for number in SIGNALS]
    give_children_default_signals()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_niceness_is_inherited_by_children():
    child = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert int(done.stdout) == niceness() == os.nice(0)


def test_warning_of_a_process_left_behind_names_its_command_and_its_test():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        process = subprocess.Popen(["sleep", "60"])
        pid = process.pid
        del process
        gc.collect()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert f"subprocess {pid} is still running" in str(caught[1].message)
    assert str(caught[0].message).startswith(
        "['sleep', '60'] of tests/repository/test_processes.py::"
    )
