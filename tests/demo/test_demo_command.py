"""`fastlib demo`: as lines, as JSON, on a terminal, over a real broker, large, interrupted."""

import json
import os
import re
import subprocess
import sys

import pytest

from fastlib.extras import install_command
from fastlib.transport import MqttOptions, connect
from tests.support.modules import missing_package
from tests.support.mosquitto import PATIENCE, Mosquitto, free_port
from tests.support.shell import (
    ENVIRONMENT,
    PROGRAM,
    Running,
    run,
    run_on_terminal,
    run_process,
)
from tests.support.waiting import try_with_more_time, wait_until

STEPS = [
    "3 daemons start",
    "8 VMs start",
    "a VM migrates live",
    "a pair of VMs swap hosts",
    "a VM gets new CPUs",
    "a VM is suspended",
    "a VM is resumed",
    "a host is evacuated under load",
    "a migration is cancelled half-way",
    "a daemon is killed during a migration",
    "all VMs stop",
    "all daemons quit",
]
WITHOUT_PAHO = (
    "import sys; sys.modules['paho'] = None; from fastlib.cli import main; sys.exit(main())"
)
WITHOUT_PAUSES = (
    "import sys; from fastlib.cli.commands import demo; demo.WATCHED_PAUSE = 0.0; "
    "from fastlib.cli import main; sys.exit(main())"
)
FAST = ("--speed", "100")


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory):
    with Mosquitto(tmp_path_factory.mktemp("demo-broker")) as broker:
        yield broker


def steps(text):
    return re.findall(r"\[ ?\d+/12\] ([^\r\n]*)", text)


def test_pipe_gets_lines():
    done = run("demo", *FAST)
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(done.stdout) == STEPS
    for line in (
        "    -> demo-a  start vm vm-1, vm-2, vm-3",
        "    <- demo-a  vm started: success vm-1, vm-2, vm-3",
        "    -> demo-a  migrate vm vm-3 to demo-b",
        "    query: each of 8 VMs is on exactly one host",
        "       demo-c  is offline",
        "    demo-c answers task-2.3 from its journal with the same results",
        "the demo passed",
        "  answers     each task has exactly one result, and none was executed twice",
    ):
        assert line in done.stdout.splitlines()
    assert re.search("error vm-[0-9]: cancelled; vm-[0-9] runs on demo-c", done.stdout)
    assert "the daemon ended while this was in progress" in done.stdout


def test_json_format_has_one_event_per_line():
    done = run("demo", "--format", "json", "--speed", "100", "--seed", "3")
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "begin"
    assert [event["title"] for event in events if event["event"] == "step"] == STEPS
    topics = {event["topic"] for event in events if event["event"] == "message"}
    assert "fast/migfra/demo-a/progress" in topics
    last = events[-1]
    assert (last["event"], last["ok"], last["problems"]) == ("end", True, [])
    assert sum(last["results"].values()) > last["tasks"]  # an evacuation has several


@pytest.mark.load
def test_terminal_shows_live_view():
    program = (sys.executable, "-c", WITHOUT_PAUSES)
    terminal = ("stdout", "stderr")
    with Running("demo", "--speed", "20", env={}, terminal=terminal, program=program) as shown:
        # A frame: hosts with their VMs and their memory, and a bar of a migration that moves.
        shown.until(
            r"demo-a +online .*GiB of 32\.0 GiB +vm-1 2\.0 GiB(.*\n)+?"
            r"migration +phase(.*\n)+?vm-\d from demo-b( to demo-\w)? +migrate [1-9]\d* % +[━╸╺]+",
            "terminal",
        )
        assert shown.wait() == 0
        text, raw = shown.text("terminal"), shown.read["terminal"]
    assert "<- demo-a  vm migrated: success vm-3" in text
    assert list(dict.fromkeys(steps(text))) == STEPS
    assert "the demo passed" in text
    assert raw.count(b"\033[?25l") >= 1
    assert raw.rfind(b"\033[?25h") > raw.rfind(b"\033[?25l")  # the cursor is back


def test_terminal_without_rich_shows_note_and_lines(monkeypatch):
    monkeypatch.setattr("fastlib.cli.commands.demo.WATCHED_PAUSE", 0.0)
    with missing_package("rich", "fastlib.demo.live_view"):
        shown, status = run_on_terminal("demo", *FAST, terminal=("stdout", "stderr"))
    assert status == 0
    assert install_command("terminal") in shown
    assert steps(shown) == STEPS


@pytest.mark.load
def test_demo_needs_no_optional_package():
    program = (sys.executable, "-c", WITHOUT_PAHO)
    assert run_process("demo", *FAST, program=program).returncode == 0
    done = run_process("demo", "--broker", "localhost", program=program)
    assert (done.returncode, done.stdout) == (2, "")
    assert install_command("mqtt") in done.stderr


@pytest.mark.parametrize("terminal", [(), ("stdout", "stderr")])
def test_interrupt_removes_journals_and_restores_terminal(terminal, tmp_path):
    name = "terminal" if terminal else "stdout"
    env = {"TMPDIR": str(tmp_path)}
    with Running("demo", "--speed", "5", env=env, terminal=terminal) as shown:
        shown.until("a VM migrates live", name)
        assert list(tmp_path.iterdir()) != []  # the journal
        shown.interrupt()
        assert shown.wait() == -2
        raw = shown.read[name]
        told = shown.text("terminal" if terminal else "stderr")
    assert told.endswith(
        "interrupted: the demo has ended before its last step. All its 3 daemons and 8 simulated "
        "VMs have ended.\n"
    )
    assert list(tmp_path.iterdir()) == []
    assert raw.rfind(b"\033[?25h") >= raw.rfind(b"\033[?25l")


def retained(broker):
    """Return the retained presences of daemons."""
    found = {}
    with connect(MqttOptions(host="127.0.0.1", port=broker.port)) as communicator:
        communicator.subscribe("fast/migfra/+/status", lambda m: found.update({m.topic: m.payload}))
        communicator.subscribe("end")
        communicator.send(b"end", "end")  # comes behind what was retained
        communicator.receive("end", timeout=PATIENCE)
    return found


def test_demo_over_mqtt_leaves_nothing_at_broker(mosquitto):
    real = "fast/migfra/hostA/status"
    with connect(MqttOptions(host="127.0.0.1", port=mosquitto.port)) as communicator:
        seen = []
        communicator.subscribe("fast/migfra/hostA/#", seen.append)
        communicator.send(b"status: online", real, retain=True).wait(PATIENCE)
        done = run("demo", *FAST, "--broker", f"mqtt://127.0.0.1:{mosquitto.port}")
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(done.stdout) == STEPS
    evacuated = r"<- (fastlib-demo-[0-9a-f]{6})-b  node evacuated: success vm-"
    run_of_demo = re.search(evacuated, done.stdout)
    assert run_of_demo is not None
    assert retained(mosquitto) == {real: b"status: online"}
    assert [message.topic for message in seen] == [real]
    killed = f"{run_of_demo[1]}-c"

    def sessions():
        return re.findall(rf"as {killed} \(p\d, (c\d)", "".join(mosquitto.log))

    wait_until(lambda: len(sessions()) == 3, "the last line of the broker's log")
    assert sessions() == ["c0", "c0", "c1"]  # it was kept, and is not any more


def test_interrupt_leaves_nothing_at_broker(mosquitto):
    before = retained(mosquitto)
    arguments = ("demo", "--speed", "5", "--broker", f"127.0.0.1:{mosquitto.port}")
    with Running(*arguments, env={}) as shown:
        shown.until("a VM migrates live")
        assert len(retained(mosquitto)) == len(before) + 3
        shown.interrupt()
        assert shown.wait() == -2
    assert shown.text("stderr").endswith(" have ended, and nothing of it is left at the broker.\n")
    assert retained(mosquitto) == before


def test_missing_broker_is_reported():
    port = free_port()

    def demo(timeout):
        done = run("demo", "--broker", f"127.0.0.1:{port}", "--connect-timeout", timeout)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"fastlib demo: error: no broker at 127.0.0.1:{port} within {timeout:g} s: Connection "
            "refused; start one there, or name another one by --broker\n"
        )

    try_with_more_time(demo)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--hosts", "2"), "needs 3 to 1000 hosts, not 2"),
        (("--hosts", "10", "--vms", "19"), "needs 20 to 20000 VMs on 10 hosts, not 19"),
        (("--speed", "0"), "a speed is above 0"),
        (("--seed", "-1"), "a seed is a number of 64 bits"),
        (("--username", "me"), "--username belongs to --broker"),
    ],
)
def test_wrong_usage_is_reported(arguments, words):
    done = run("demo", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.load
def test_demo_of_20_hosts(request):
    """With `--long` each host has ten VMs, else two."""
    vms = 200 if request.config.getoption("--long") else 40
    done = run("demo", *FAST, "--hosts", "20", "--vms", str(vms))
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 hosts are evacuated under load" in done.stdout
    assert f"query: each of {vms} VMs is on exactly one host" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 200


def test_demo_of_100_hosts_stays_within_memory(request):
    if not request.config.getoption("--long"):
        pytest.skip("--long")
    arguments = [*PROGRAM, "demo", "--hosts", "100", "--vms", "2000"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    with process.stdout:
        text = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert "query: each of 2,000 VMs is on exactly one host" in text
    assert used.ru_maxrss < 400 << 10  # KiB
