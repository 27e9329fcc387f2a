"""`fastlib forget`: it deletes the presence of a dead host, and refuses that of a living one."""

import re

import pytest

from fastlib import NodeReport, NodeResult, ResultContainer
from fastlib.cli import host_search
from fastlib.cli.commands import forget
from fastlib.cli.commands.forget import _EPILOG
from fastlib.message.topics import PRESENCE
from fastlib.transport import MqttOptions, connect
from tests.support.mosquitto import PATIENCE
from tests.support.shell import Daemon, run, silence

OFFLINE = "{status: offline, hypervisor: qemu, version: '1.0', time: 2026-11-01T08:00:00Z}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Wait for no presence that this broker sends later, and long for answers."""
    monkeypatch.setattr(host_search, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(forget, "ANSWER_SECONDS", float(PATIENCE))


def retained(mosquitto, host):
    """The presence that the broker keeps; None if there is none."""
    found = []
    options = MqttOptions(host="127.0.0.1", port=mosquitto.port)
    with connect(options) as communicator:
        communicator.subscribe(PRESENCE(host), found.append)
        # The broker answers in order, so a retained message comes before this one.
        communicator.subscribe("forget/probe")
        communicator.send(b"x", "forget/probe")
        communicator.receive(timeout=30)
    return found[0].payload.decode() if found else None


def report(container):
    node = NodeReport(host="node07", hypervisor="qemu")
    return ResultContainer.answer(container, [NodeResult(status="success", node=node)])


def test_presence_of_a_dead_host_is_deleted(mosquitto, env):
    with Daemon(mosquitto, "node07") as daemon:
        daemon.presence(OFFLINE)
        assert retained(mosquitto, "node07") == OFFLINE
        done = run("forget", "node07", env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(
            r"node07: its presence is deleted; it was offline for \d+ days \(qemu, 1\.0\)\n",
            done.stdout,
        )
        assert retained(mosquitto, "node07") is None


def test_unknown_host_is_an_error(env):
    done = run("forget", "nobody", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fastlib forget: error: nobody: the broker has no presence of it")


def test_host_that_is_alive_is_refused(mosquitto, env):
    with Daemon(mosquitto, "node07") as daemon:
        daemon.answer = report
        daemon.presence()
        done = run("forget", "node07", env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "fastlib forget: error: node07: its daemon is online and answers, so nothing is "
            "deleted; stop it first: fastlib quit --host node07\n"
        )
        assert retained(mosquitto, "node07") is not None


def test_online_host_that_is_silent_is_deleted_by_force_only(mosquitto, env):
    with Daemon(mosquitto, "node07") as daemon:
        daemon.answer = silence
        daemon.presence()
        done = run("forget", "node07", "--timeout", "0.3", env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert "it has not answered within 0.3 s. Nothing is deleted" in done.stderr
        assert "add --force" in done.stderr
        assert retained(mosquitto, "node07") is not None
        done = run("forget", "node07", "--force", env=env)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            "node07: its presence is deleted; it was online (qemu, 1.0). A running daemon reports "
            "its presence again\n"
        )
        assert retained(mosquitto, "node07") is None


def test_one_of_several_hosts_does_not_keep_the_others(mosquitto, env):
    with Daemon(mosquitto, "node07") as daemon:
        daemon.presence(OFFLINE)
        done = run("forget", "nobody", "node07", env=env)
        assert done.returncode == 1
        assert done.stderr.startswith("fastlib forget: error: nobody: ")
        assert done.stdout.startswith("node07: its presence is deleted")


@pytest.mark.parametrize("line", re.findall(r"^  (fastlib .*)$", _EPILOG, re.MULTILINE))
def test_example_in_help_succeeds(line, mosquitto, env):
    with Daemon(mosquitto, "node07") as one, Daemon(mosquitto, "node08") as two:
        one.presence(OFFLINE)
        two.presence(OFFLINE)
        done = run(*line.split()[1:], env=env)
    assert (done.returncode, done.stderr) == (0, "")
