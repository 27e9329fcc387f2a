"""The progress of tasks that a command waits for: lines in a pipe, bars on a terminal."""

import io
import re
import signal
from functools import partial

from rich.console import Console

from fastlib import Evacuate, TaskContainer
from fastlib.cli.output.progress_table import ProgressTable
from fastlib.message.node import Progress
from tests.support.modules import missing_package
from tests.support.shell import Running, run, run_on_terminal, silence, success

REPORT = "{title: migrate vm, id: m1, vm-name: vm1, phase: %s, percent: %s, transferred: 1048576}"


MIGRATE = ("migrate", "vm1", "--from", "hostA", "--to", "hostB", "--id", "m1")


def test_progress_is_printed_as_lines_in_pipe(env, daemon):
    def answer(container):
        for phase, percent in (
            ("check", 0), ("memory", 3), ("memory", 9), ("memory", 14), ("'memory\\e[31m'", 15),
        ):  # fmt: skip
            daemon.progress(REPORT % (phase.replace("'", '"'), percent))
        return success(container)

    daemon.answer = answer
    done = run(*MIGRATE, env=env)
    assert (done.returncode, done.stdout) == (0, "hostA m1 vm migrated: vm1: success\n")
    assert done.stderr.splitlines() == [
        "hostA m1 migrate vm: vm1: check 0 %",
        "hostA m1 migrate vm: vm1: memory 3 %",
        "hostA m1 migrate vm: vm1: memory 14 %",
        r"hostA m1 migrate vm: vm1: memory\x1b[31m 15 %",
    ]


def test_each_place_in_the_queue_is_printed_in_pipe(env, daemon):
    def answer(container):
        for place in (3, 3, 2, 1):
            daemon.progress(
                f"{{title: migrate vm, id: m1, vm-name: vm1, phase: queued, position: {place}}}"
            )
        daemon.progress(REPORT % ("memory", 1))
        return success(container)

    daemon.answer = answer
    done = run(*MIGRATE, env=env)
    assert done.stderr.splitlines() == [
        *(f"hostA m1 migrate vm: vm1: queued, place {place}" for place in (3, 2, 1)),
        "hostA m1 migrate vm: vm1: memory 1 %",
    ]


def test_progress_is_shown_as_bar_on_terminal(env, daemon):
    daemon.answer = silence
    with Running(*MIGRATE, env=env, terminal=("stdout", "stderr")) as command:
        task = daemon.wait()
        command.until(r"hostA: migrate vm vm1 \(id m1\) .*sent", "terminal")
        daemon.progress(REPORT % ('"mem\\e]0;title\\a"', 42))
        command.until(r"mem\\x1b\]0;title\\x07 42 % +1 MiB", "terminal")
        daemon.result(success(task))
        assert command.wait() == 0
    assert command.text("terminal").rstrip().endswith("hostA m1 vm migrated: vm1: success")
    assert b"\033]0;" not in command.read["terminal"]
    assert command.read["terminal"].rindex(b"\033[?25h") > command.read["terminal"].rindex(
        b"\033[?25l"
    )  # the cursor is there again


def test_sigterm_removes_the_bar_and_shows_the_cursor(env, daemon):
    daemon.answer = silence
    with Running(*MIGRATE, env=env, terminal=("stdout", "stderr")) as command:
        daemon.wait()
        command.until(r"hostA: migrate vm vm1 \(id m1\) .*sent", "terminal")
        command.process.terminate()
        assert command.wait() == -signal.SIGTERM
    assert "'migrate vm' on 'hostA' continues" in command.text("terminal")
    shown = command.read["terminal"]
    assert shown.rindex(b"\033[?25h") > shown.rindex(b"\033[?25l")


def test_evacuation_shows_bar_per_domain_and_prints_results_to_pipe(env, daemon):
    daemon.answer = silence
    arguments = ("evacuate", "--from", "hostA", "--to", "hostB", "--id", "e1")
    with Running(*arguments, env=env, terminal=("stderr",)) as command:
        task = daemon.wait()
        for name in ("vm1", "vm2"):
            daemon.progress(f"{{title: migrate vm, id: e1, vm-name: {name}, phase: memory}}")
        command.until("hostA: migrate vm vm2 .*memory", "terminal")
        daemon.result(success(task))
        assert command.wait() == 0
    assert command.text("stdout") == "hostA e1 node evacuated: success\n"


def test_missing_rich_prints_progress_lines_on_terminal(env, daemon):
    def answer(container):
        daemon.progress(REPORT % ("memory", 42))
        return success(container)

    daemon.answer = answer
    with missing_package("rich"):
        shown, status = run_on_terminal(*MIGRATE, env=env, terminal=("stderr",))
    assert status == 0
    assert shown == "hostA m1 migrate vm: vm1: memory 42 %\n"


def test_bars_of_an_evacuation_fit_80_columns():
    table = ProgressTable()
    table.begin("hostB", TaskContainer(tasks=[Evacuate(destinations=["hostA"])], id="e1"), 0.0)
    report = partial(Progress, task="evacuate node", id="e1")
    table.report("hostB", report(vm_name="n/a", phase="place"), 1.0)
    facts = {"percent": 9, "transferred": 88 << 20, "total": 1 << 30, "expected": 19}
    table.report("hostB", report(vm_name="vm1", phase="downtime", **facts), 1.0)
    table.report("hostB", report(vm_name="vm2", phase="queued", position=1), 2.0)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(table.render(5.0, 80, 24))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines.pop(1) == "(id e1)"
    assert len(lines) == 3
    assert all(re.search(r" 0:00:0[345]$", line) for line in lines), lines
    assert "place" not in lines[0], "the task has begun with its domains"
    assert lines[1].startswith("hostB: evacuate node vm1")
    assert re.search("━.* downtime 9 % +19 s left", lines[1])
    assert "queued, place 1" in lines[2]
