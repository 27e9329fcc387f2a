"""`fastlib send` waits for results, with a real broker and a stand-in for the daemon."""

import json
import re
import signal

import pytest

from fastlib.cli.sending import _ResultPrinter
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.shell import (
    CONTROL,
    PATIENT_PROGRAM,
    STOP,
    Daemon,
    Running,
    address,
    failure,
    run,
    run_on_terminal,
    silence,
    success,
)
from tests.support.waiting import try_with_more_time


def test_wait_prints_results(file, env, daemon):
    done = run("send", "hostA", file(STOP), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "hostA stop-1 vm stopped: vm1: success\nhostA stop-1 vm stopped: vm2: success\n"
    )


def test_results_are_printed_in_order_of_arrival(file, env, daemon):
    daemon.answer = lambda container: None if container.id == "slow" else success(container)
    text = "task: quit\nid: slow\n---\ntask: quit\nid: quick\n"

    def answer_slow_task(stdout):
        stdout.until("^hostA quick quit: success\n")
        daemon.result(success(daemon.received[0]))

    done = run("send", "hostA", file(text), env=env, during=answer_slow_task)
    assert done.returncode == 0
    assert done.stdout.endswith("\nhostA slow quit: success\n")


def test_failed_task_fails_command_and_its_details_are_escaped(file, env, daemon):
    daemon.answer = failure
    path = file(STOP)
    done = run("send", "hostA", path, env=env)
    assert (done.returncode, done.stderr) == (1, "")
    words = r"no such domain\x1b[31m\nsecond line"
    assert done.stdout == (
        f"hostA stop-1 vm stopped: vm1: error: {words}\n"
        f"hostA stop-1 vm stopped: vm2: error: {words}\n"
    )
    shown, status = run_on_terminal("send", "hostA", path, env=env)
    assert status == 1
    assert "\033[1;31mvm1: error: " in shown
    assert "domain\033" not in shown


def test_results_are_printed_as_json(file, env, daemon):
    daemon.answer = failure
    done = run("send", "hostA", file(STOP), "--format", "json", env=env)
    assert (done.returncode, done.stderr) == (1, "")
    (line,) = done.stdout.splitlines()
    assert CONTROL.search(line) is None
    found = json.loads(line)
    assert found.keys() == {"time", "host", "kind", "id", "message", "error"}
    assert (found["host"], found["kind"], found["id"]) == ("hostA", "result", "stop-1")
    assert found["message"] == failure(daemon.arrived[0]).emit()


def test_missing_result_times_out(file, env, daemon):
    daemon.answer = silence

    def send(timeout):
        done = run("send", "hostA", file(STOP), "--timeout", timeout, env=env)
        assert (done.returncode, done.stdout) == (3, "")
        assert re.fullmatch(
            r"fastlib send: error: 'stop vm' of vm1, vm2 on 'hostA' \(id 'stop-1'\): no result "
            rf"within {timeout:g} s; whether the order has begun is unknown: its daemon has "
            r"reported no presence, and a C\+\+ daemon executes an order at any time; "
            r"sent [^;]*, delivered to the broker; to find out, .*\n",
            done.stderr,
        )

    try_with_more_time(send)


def test_silent_host_is_reported(file, env, monkeypatch):
    monkeypatch.setattr("fastlib.cli.sending.ABSENCE_SECONDS", 0.1)

    def send(timeout):
        done = run("send", "nobody", file(STOP), "--timeout", timeout, "--mqtt", "5", env=env)
        assert done.returncode == 3
        assert done.stderr.startswith(
            f"waiting for 'stop vm' (id stop-1) on nobody, at most {timeout:g} s (--timeout)\n"
            "  no daemon of nobody has a presence (C++ daemons have none); check the name\n"
            "  to see the hosts with a presence: fastlib query --mqtt 5\n"
            "fastlib send: error: "
        )

    try_with_more_time(send, (0.5, 5.0, 30.0))


def test_missing_presence_is_reported_before_silence(file, env, daemon, monkeypatch):
    monkeypatch.setattr("fastlib.cli.sending.ABSENCE_SECONDS", 0.1)
    monkeypatch.setattr("fastlib.cli.sending.SILENCE_SECONDS", PATIENCE)
    report = _ResultPrinter._report_silence

    def report_and_answer(printer):
        report(printer)
        daemon.result(success(daemon.wait()))

    monkeypatch.setattr(_ResultPrinter, "_report_silence", report_and_answer)
    daemon.answer = silence
    done = run("send", "hostA", file(STOP), env=env)
    assert done.returncode == 0
    assert "no daemon of hostA has a presence" in done.stderr


def test_host_with_a_similar_name_is_suggested(file, env, daemon, monkeypatch):
    monkeypatch.setattr("fastlib.cli.sending.ABSENCE_SECONDS", 0.1)
    monkeypatch.setattr("fastlib.cli.host_search.QUIET_SECONDS", 0.0)
    daemon.presence()

    def send(timeout):
        done = run("send", "hostB", file(STOP), "--timeout", timeout, env=env)
        assert done.returncode == 3
        assert "check the name (did you mean 'hostA'?)\n" in done.stderr

    try_with_more_time(send, (2.0, 30.0))


@pytest.mark.parametrize(
    ("presence", "words"),
    [
        ("{status: online}", "is online, and has reported no progress yet"),
        ("{status: online, degraded: the disk is full}", "is degraded: the disk is full"),
        ("{status: offline, time: 2026-11-01T08:00:00Z}",
         r"is offline for \d+ days; it executes the order if it returns before that expires"),
        ("{status: offline}",
         "is offline; it executes the order if it returns before that expires"),
    ],
)  # fmt: skip
def test_wait_reports_the_presence_of_the_daemon(presence, words, file, env, daemon, monkeypatch):
    monkeypatch.setattr("fastlib.cli.sending.ABSENCE_SECONDS", 0.1)
    monkeypatch.setattr("fastlib.cli.sending.SILENCE_SECONDS", 0.2)
    daemon.answer = silence
    daemon.presence(presence)
    path = file(f"{STOP}---\ntask: quit\n")

    def send(timeout):
        done = run("send", "hostA", path, "--timeout", timeout, env=env)
        assert done.returncode == 3
        assert re.match(
            r"waiting for 'stop vm' \(id stop-1\) and 1 other on hostA, at most "
            rf"{timeout:g} s \(--timeout\)\n"
            rf"  the daemon of hostA {words}\n"
            "fastlib send: error: ",
            done.stderr,
        )

    try_with_more_time(send, (1.0, 10.0, 60.0))


def test_wait_is_not_explained_while_progress_is_shown(file, env, daemon, monkeypatch):
    daemon.presence("{status: online}")

    def answer(container):
        daemon.progress("{title: stop vm, id: stop-1, vm-name: vm1, phase: shutdown}")

    daemon.answer = answer

    def send(timeout):
        monkeypatch.setattr("fastlib.cli.sending.ABSENCE_SECONDS", 0.1 * timeout)
        monkeypatch.setattr("fastlib.cli.sending.SILENCE_SECONDS", 0.4 * timeout)
        done = run("send", "hostA", file(STOP), "--timeout", timeout, env=env)
        first, *rest = done.stderr.splitlines()
        assert first == "hostA stop-1 stop vm: vm1: shutdown"
        assert len(rest) == 1
        assert rest[0].startswith("fastlib send: error: ")

    try_with_more_time(send, (1.0, 10.0, 60.0))


def test_unreadable_task_is_reported_as_failure(file, env, daemon):
    unknown = "result: unknown\nlist: [{vm-name: unknown, status: error, details: no such task}]\n"

    def answer(container):
        daemon.result(unknown)

    daemon.answer = answer
    done = run("send", "hostA", file(STOP), env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the host could not read it: no such task" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_prints_how_to_continue(number, file, env, daemon):
    daemon.answer = silence
    arguments = ("send", "hostA", file(STOP), "--mqtt", "5")
    with Running(*arguments, env=env, program=PATIENT_PROGRAM) as command:
        daemon.wait()
        command.process.send_signal(number)
        assert command.wait() == -number
    assert command.text("stdout") == ""
    assert command.text("stderr") == (
        "'stop vm' on 'hostA' continues, its id is stop-1\n"
        "  to see its result: fastlib watch --mqtt 5 --host hostA\n"
        "  to end it: fastlib cancel stop-1 --mqtt 5 --host hostA\n"
    )


def test_result_arrives_after_broker_restart(file, tmp_path):
    """The broker forgets everything; the daemon answers again when it is asked again."""
    with Mosquitto(tmp_path / "broker") as broker, Daemon(broker) as daemon:
        daemon.answer = silence
        daemon.presence()
        with Running("send", "hostA", file(STOP), env=address(broker)) as command:
            daemon.wait()
            broker.kill()
            command.until("the connection of .* broke; trying again\n", "stderr")
            broker.start()
            daemon.answer = success
            daemon.communicator.subscribe("probe")  # confirmed: it is connected again
            daemon.presence()
            command.until("^hostA stop-1 vm stopped: vm1: success\n")
            assert command.wait() == 0
        assert {container.id for container in daemon.received} == {"stop-1"}
