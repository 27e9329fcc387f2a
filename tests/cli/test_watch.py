"""`fastlib watch`: lines in a pipe, a live table on a terminal."""

import io
import json
import re
import signal
from datetime import datetime, timedelta
from functools import partial

import pytest
from rich.console import Console

from fastlib.cli.commands.watch import _EPILOG
from fastlib.cli.output.cluster_table import render
from fastlib.client import ObservedMessage
from fastlib.display.cluster_state import MAX_TASKS, ClusterState
from fastlib.extras import install_command
from fastlib.message import Message, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK
from tests.support.modules import missing_package
from tests.support.shell import (
    CONTROL,
    Daemon,
    Output,
    Running,
    run,
    run_on_terminal,
    silence,
)

TASK_TEXT = "{task: stop vm, list: [{vm-name: vm1}], id: s1}"
RESULT_TEXT = "{result: vm stopped, list: [{vm-name: vm1, status: success}], id: s1}"
FAILED_TEXT = (
    r'{result: vm stopped, list: [{vm-name: vm2, status: error, details: "no\e[31m\nroute"}]}'
)
PROGRESS_TEXT = "{title: stop vm, id: s1, vm-name: vm1, phase: waiting, percent: 50}"
NOW = datetime.now().astimezone()


def publish(daemon: Daemon) -> None:
    """Publish a message of each kind, and an unreadable one."""
    daemon.communicator.send(TASK_TEXT.encode(), TASK(daemon.host)).wait(30)
    daemon.progress(PROGRESS_TEXT)
    daemon.result(RESULT_TEXT)
    daemon.result(FAILED_TEXT)
    daemon.result('{result: "\\e]0;title\\a"')


def publish_after_presence(daemon: Daemon, stdout: Output) -> None:
    """Publish once the command shows the retained presence, which shows that it has subscribed."""
    stdout.until("presence")
    publish(daemon)


@pytest.fixture
def present(mosquitto):
    """A daemon with a retained presence."""
    with Daemon(mosquitto, "hostW") as daemon:
        daemon.answer = silence
        daemon.presence()
        yield daemon


WATCH = ("watch", "--host", "hostW", "--presence", "--tasks", "--progress", "--count", "6")


# --- in a pipe ------------------------------------------------------------------------------------


def test_watch_prints_one_line_per_message(env, present):
    done = run(*WATCH, env=env, during=partial(publish_after_presence, present))
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert CONTROL.search(text) is None
    lines = text.splitlines()
    times = [datetime.fromisoformat(line.split()[0]) for line in lines]
    assert times[1:] == sorted(times[1:])
    said = sorted(line.partition(" ")[2] for line in lines)
    unreadable = said.pop(-4 if said[-1].startswith("hostW task") else -3)
    assert said == [
        "hostW presence - online qemu 1.0",
        "hostW progress s1 stop vm: vm1: waiting 50 %",
        r"hostW result - vm stopped: vm2: error: no\x1b[31m\nroute",
        "hostW result s1 vm stopped: vm1: success",
        "hostW task s1 stop vm: vm1",
    ]
    assert unreadable.startswith("hostW result - cannot be read: ")


def test_watch_prints_one_json_object_per_message(env, present):
    during = partial(publish_after_presence, present)
    done = run(*WATCH, "--format", "json", env=env, during=during)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert CONTROL.search(text) is None
    rows = [json.loads(line) for line in text.splitlines()]
    assert {row["host"] for row in rows} == {"hostW"}
    assert all(row.keys() == {"time", "host", "kind", "id", "message", "error"} for row in rows)
    by = {(row["kind"], row["id"]): row for row in rows if row["error"] is None}
    assert by.keys() == {
        ("presence", None),
        ("task", "s1"),
        ("progress", "s1"),
        ("result", "s1"),
        ("result", None),
    }
    for key, kind, source in (
        (("task", "s1"), TaskContainer, TASK_TEXT),
        (("result", "s1"), ResultContainer, RESULT_TEXT),
        (("progress", "s1"), Progress, PROGRESS_TEXT),
    ):
        assert by[key]["message"] == kind.from_yaml(source).emit()
    (unreadable,) = (row for row in rows if row["error"] is not None)
    assert (unreadable["kind"], unreadable["message"]) == ("result", None)


@pytest.mark.parametrize("form", ["text", "json"])
def test_watch_reports_host_that_is_forgotten(form, env, mosquitto):
    with Daemon(mosquitto, "hostF") as dead:
        dead.presence("{status: offline}")

        def forget(stdout):
            stdout.until("offline")
            dead.communicator.send(b"", PRESENCE("hostF"), retain=True)

        arguments = ("watch", "--host", "hostF", "--presence", "--count", "2", "--format", form)
        done = run(*arguments, env=env, during=forget)
    assert (done.returncode, done.stderr) == (0, "")
    line = done.stdout.splitlines()[1]
    if form == "json":
        row = json.loads(line)
        del row["time"]
        assert row == {
            "host": "hostF", "kind": "presence", "id": None, "message": None, "error": None,
        }  # fmt: skip
    else:
        assert line.endswith(" hostF presence - forgotten: its presence was deleted")


def test_watch_shows_only_chosen_hosts_and_kinds(env, present, daemon):
    def publish_until_shown(stdout):
        while "\n" not in stdout.text():  # the command does not report that it has subscribed
            publish(daemon)
            publish(present)

    arguments = ("watch", "--host", "hostW", "--count", "1")
    done = run(*arguments, env=env, during=publish_until_shown)
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert " hostW result " in line


@pytest.mark.parametrize("line", re.findall(r"^  (fastlib [^|\n]*)", _EPILOG, re.MULTILINE))
def test_example_in_help_succeeds(line, env):
    assert run(*line.split()[1:], "--timeout", "0.1", env=env).returncode == (
        3 if "--count" in line else 0
    )


def test_watch_ends_after_timeout(env):
    done = run("watch", "--timeout", "0.1", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = run("watch", "--timeout", "0.1", "--count", "1", "--host", "nobody", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_ends_in_order_after_signal(number, env, present):
    with Running("watch", "--presence", env=env) as watch:
        watch.until("hostW presence")
        watch.process.send_signal(number)
        assert watch.wait() == 0
    assert watch.text("stderr") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "argument --count: expected a number from 1; got '0'"),
        (["--timeout", "x"], "argument --timeout: expected a number of seconds above 0; got 'x'"),
        (["--host", "a/b"], "argument --host: expected a name without"),
        (["--hst", "a"], "unknown option --hst (did you mean '--host'?)"),
    ],
)
def test_wrong_usage_is_one_error_line(arguments, words, env):
    done = run("watch", *arguments, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


# --- on a terminal --------------------------------------------------------------------------------

SCREEN = ("stdout", "stderr")


def test_terminal_shows_live_table(env, present):
    with Running("watch", "--host", "hostW", env=env, terminal=SCREEN) as watch:
        watch.until(r"hosts\n.*\nhostW +online +qemu +1.0 +0:00:\d\d ago", "terminal")
        present.communicator.send(TASK_TEXT.encode(), TASK("hostW")).wait(30)
        watch.until(r"running and queued\n.*\nhostW +s1 +stop vm vm1 +sent", "terminal")
        present.progress(PROGRESS_TEXT)
        watch.until(r"stop vm vm1 +waiting 50 % +\S+ +0:00:\d\d\b", "terminal")
        publish(present)
        watch.until(r"last results\n.*\n.* hostW +result cannot be read", "terminal")
        watch.until(r"hostW +s1 +vm stopped: vm1: success", "terminal")
        watch.until(r"hostW +vm stopped: vm2: error: no\\x1b\[31m\\nroute", "terminal")
        watch.interrupt()
        assert watch.wait() == 0
    shown = watch.read["terminal"]
    assert b"\033]0;" not in shown
    assert b"no\033" not in shown
    assert re.search(rb"\033\[[0-9;]*32m[^\033]*vm1: success", shown)
    assert shown.rindex(b"\033[?25h") > shown.rindex(b"\033[?25l")  # the cursor is there again


def test_live_table_drops_host_that_is_forgotten(env, mosquitto):
    with (
        Daemon(mosquitto, "hostF") as dead,
        Running("watch", "--host", "hostF", env=env, terminal=SCREEN) as watch,
    ):
        dead.presence("{status: offline}")
        watch.until(r"hostF +offline", "terminal")
        before = len(watch.text("terminal"))
        assert run("forget", "hostF", env=env).returncode == 0
        watch.until_value(
            lambda: re.search(r"hosts\n *none yet", watch.text("terminal")[before:]),
            lambda: "table without hosts",
        )
        watch.interrupt()
        assert watch.wait() == 0


PRESENCE_ONCE = ("watch", "--presence", "--host", "hostW", "--count", "1")


def test_dumb_terminal_shows_lines(env, present):
    shown, status = run_on_terminal(*PRESENCE_ONCE, env=env | {"TERM": "dumb"}, terminal=SCREEN)
    assert status == 0
    assert re.fullmatch(r"\S+ hostW presence - online qemu 1.0\n", shown)


def test_terminal_without_rich_shows_note_and_lines(env, present):
    with missing_package("rich", "fastlib.cli.output.cluster_table"):
        shown, status = run_on_terminal(*PRESENCE_ONCE, env=env, terminal=SCREEN)
    assert status == 0
    note, line = shown.splitlines()
    assert note == (
        "fastlib watch: note: the live table needs rich, which is not installed: "
        f"{install_command('terminal')}"
    )
    assert line.endswith(" hostW presence - online qemu 1.0")


def test_table_has_no_colours_if_environment_refuses_them(env, present):
    with Running("watch", "--host", "hostW", env=env | {"NO_COLOR": "1"}, terminal=SCREEN) as watch:
        watch.until(r"hostW +online", "terminal")
        watch.interrupt()
        assert watch.wait() == 0
    assert re.search(rb"\033\[[0-9;]*3[0-7]", watch.read["terminal"]) is None


# --- what the table shows -------------------------------------------------------------------------


def seen(topic, kind: type[Message], text: str, host: str = "hostA", age: float = 0.0):
    return ObservedMessage(
        host=host,
        topic=topic(host),
        time=NOW - timedelta(seconds=age),
        payload=text.encode(),
        message=kind.from_yaml(text),
    )


def shown(state: ClusterState, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=100, height=height, color_system=None)
    console.print(render(state, NOW, height, 100))
    text = console.file.getvalue()
    return "\n".join(line.rstrip() for line in text.split("\n"))


def test_table_of_empty_cluster_shows_placeholders():
    text = shown(ClusterState())
    assert text.count("none yet") == 3


def test_task_is_pending_until_its_result():
    state = ClusterState()
    state.add(seen(TASK, TaskContainer, TASK_TEXT, age=75))
    assert re.search(r"hostA +s1 +stop vm vm1 +sent +0:01:15\n", shown(state))
    state.add(seen(RESULT, ResultContainer, RESULT_TEXT, host="hostB"))
    assert "stop vm vm1" in shown(state)  # another host's id
    state.add(seen(RESULT, ResultContainer, RESULT_TEXT))
    assert state.tasks == {}
    assert [(ended.host, ended.id, ended.failed) for ended in state.results] == [
        ("hostA", "s1", False),
        ("hostB", "s1", False),
    ]


def test_result_without_id_answers_oldest_task_without_id():
    state = ClusterState()
    for name in ("vm1", "vm2"):
        state.add(seen(TASK, TaskContainer, f"{{task: stop vm, list: [{{vm-name: {name}}}]}}"))
    state.add(seen(TASK, TaskContainer, "task: quit"))
    state.add(seen(RESULT, ResultContainer, FAILED_TEXT))
    assert [task.names for task in state.tasks.values()] == [["vm2"], []]
    state.add(seen(RESULT, ResultContainer, "{result: never heard of, list: []}"))
    assert len(state.tasks) == 2


def test_progress_of_unseen_task_adds_it():
    state = ClusterState()
    for name in ("vm1", "vm2"):
        text = f"{{id: e1, vm-name: {name}, phase: memory, percent: 30}}"
        state.add(seen(PROGRESS, Progress, text))
    state.add(seen(PROGRESS, Progress, "{phase: nobody's}"))
    assert [*state.tasks] == [("hostA", "e1", 0)]
    assert len(re.findall(r"hostA +e1 +vm\d +memory 30 %", shown(state))) == 2


def test_progress_of_whole_task_is_shown_until_that_of_its_domains():
    state = ClusterState()
    begin = "{id: e1, title: evacuate node, vm-name: n/a, phase: place}"
    state.add(seen(PROGRESS, Progress, begin))
    assert re.search(r"hostA +e1 +evacuate node +place", shown(state))
    text = "{id: e1, title: evacuate node, vm-name: vm1, phase: queued, position: 2}"
    state.add(seen(PROGRESS, Progress, text))
    assert re.search(r"hostA +e1 +evacuate node vm1 +queued, place 2", shown(state))
    assert "n/a" not in shown(state)
    assert len(re.findall("evacuate node", shown(state))) == 1


def test_degraded_host_shows_its_reason_once():
    state = ClusterState()
    degraded = "{status: online, hypervisor: qemu, degraded: the disk is full}"
    for _ in range(2):
        state.add(seen(PRESENCE, Presence, degraded))
    text = shown(state)
    assert re.search(r"hostA +degraded +qemu", text)
    assert text.count("degraded: the disk is full") == 1
    state.add(seen(PRESENCE, Presence, "{status: online, hypervisor: qemu}"))
    assert re.search(r"hostA +online +qemu", shown(state))
    state.add(seen(PRESENCE, Presence, degraded))
    assert shown(state).count("degraded: the disk is full") == 2


def test_host_without_presence_is_unknown_and_offline_host_is_offline():
    state = ClusterState()
    state.add(seen(RESULT, ResultContainer, RESULT_TEXT))
    state.add(seen(PRESENCE, Presence, "status: offline", host="hostB", age=5))
    text = shown(state)
    assert re.search(r"hostA +unknown +0:00:00 ago", text)
    assert re.search(r"hostB +offline +0:00:05 ago", text)


def test_offline_host_shows_since_when():
    state = ClusterState()
    today = NOW.replace(hour=0, minute=0, second=1, microsecond=0)
    for host, time in (("hostA", today), ("hostB", today - timedelta(days=3))):
        text = f"{{status: offline, time: '{time.isoformat()}'}}"
        state.add(seen(PRESENCE, Presence, text, host=host))
    text = shown(state)
    assert re.search(r"hostA +offline +since 00:00:01\n", text)
    assert re.search(
        rf"hostB +offline +since {today - timedelta(days=3):%Y-%m-%d} 00:00:01\n", text
    )


def forgotten(host: str) -> ObservedMessage[Message]:
    topic = PRESENCE(host)
    return ObservedMessage(host=host, topic=topic, time=NOW, payload=b"", message=None)


def test_forgotten_host_and_its_tasks_disappear():
    state = ClusterState()
    for host in ("hostA", "hostB"):
        state.add(seen(PRESENCE, Presence, "{status: offline}", host=host))
        state.add(seen(TASK, TaskContainer, TASK_TEXT, host=host))
    state.add(forgotten("hostA"))
    state.add(forgotten("nobody"))
    assert "hostA" not in shown(state)
    assert [*state.hosts] == ["hostB"]
    assert [key[0] for key in state.tasks] == ["hostB"]


def test_hosts_are_in_natural_order():
    state = ClusterState()
    for number in (10, 9, 2, 1):
        state.add(seen(PRESENCE, Presence, "{status: online}", host=f"node{number}"))
    assert re.findall(r"node\d+", shown(state)) == ["node1", "node2", "node9", "node10"]


@pytest.mark.parametrize("height", [16, 24, 50])
def test_table_of_large_cluster_fits_terminal(height):
    state = ClusterState()
    for number in range(MAX_TASKS + 5):
        host = f"host{number % 100}"
        task = f"{{task: stop vm, list: [{{vm-name: vm{number}}}], id: '{number}'}}"
        state.add(seen(TASK, TaskContainer, task, host=host))
        state.add(seen(PRESENCE, Presence, "status: online", host=host))
        if number % 3 == 0:
            state.add(seen(RESULT, ResultContainer, FAILED_TEXT, host=host))
    assert len(state.tasks) == MAX_TASKS
    assert ("host0", "0", 0) not in state.tasks
    text = shown(state, height)
    assert text.count("\n") < height
    assert text.count(" more\n") == 3
    assert "hosts (100)" in text
    assert f"running and queued ({MAX_TASKS})" in text
