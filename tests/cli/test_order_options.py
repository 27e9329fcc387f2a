"""`fastlib send` and the task commands: expiry, ids, keys, answers from the journal."""

import argparse
import json
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from fastlib import Result, ResultContainer, TaskContainer
from fastlib.cli.arguments.values import expiry
from fastlib.display.message_text import summarize
from tests.support.shell import Daemon, run, silence, success
from tests.support.waiting import try_with_more_time, wait_until

NOON = datetime(2100, 1, 1, 12, tzinfo=UTC)
FILE = """\
task: stop vm
list: [{vm-name: vm1}]
id: constant
expires: "2100-01-01T12:00:00Z"
idempotency-key: mine
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text(FILE)
    return str(path)


# --- until when -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", timedelta(seconds=90)),
        ("0.5s", timedelta(seconds=0.5)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("2100-01-01T12:00:00Z", NOON),
        ("2100-01-01 13:00:00+01:00", NOON),
        ("never", "never"),
    ],
)
def test_expiry_is_a_duration_a_time_or_never(text, expected):
    assert expiry(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "-1", "5w", "1e3", "1 m", "2100-01-01T12:00:00", "99999999d", "Never", "٣"],
)
def test_other_expiry_is_refused_with_examples(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"such as 90s, .* or never; got "):
        expiry(text)


@pytest.mark.parametrize(
    "command", [["stop", "vm1", "--host", "hostA"], ["cancel", "x", "--host", "hostA"]]
)
def test_task_command_expires_with_its_timeout(command, env, daemon):
    before = datetime.now(UTC)
    assert run(*command, "--timeout", "100", env=env).returncode == 0
    expires = daemon.arrived[0].expires
    assert timedelta(seconds=99) < expires - before < timedelta(seconds=200)


@pytest.mark.parametrize(
    ("given", "expires"),
    [(["--expires", "2100-01-01T12:00:00Z"], NOON), (["--expires", "never"], None)],
)
@pytest.mark.parametrize("wait", [[], ["--no-wait"]])
def test_task_command_sends_the_given_expiry(given, expires, wait, env, daemon):
    assert run("stop", "vm1", "--host", "hostA", *given, *wait, env=env).returncode == 0
    daemon.wait()
    assert daemon.arrived[0].expires == expires


def test_expiry_of_the_file_holds_unless_another_is_given(file, env, daemon):
    for more in ([], ["--expires", "never"]):
        assert run("send", "hostA", "--no-wait", file, *more, env=env).returncode == 0
    daemon.wait(2)
    assert [container.expires for container in daemon.arrived] == [NOON, None]


def test_order_without_answer_has_an_outcome(env, daemon):
    daemon.answer = silence
    daemon.presence("{status: offline, instance: one}")

    def stop(timeout):
        done = run("stop", "vm1", "--host", "hostA", "--timeout", timeout, env=env)
        assert (done.returncode, done.stdout) == (3, "")
        assert "the order was never begun and will not begin: its daemon was off" in done.stderr

    try_with_more_time(stop)


# --- to whom --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["stop", "vm1", "--host", "hostA"], ["stop", "vm1", "--host", "hostA", "--no-wait"]]
)
def test_offline_daemon_can_be_left_alone(command, env, daemon):
    daemon.presence("{status: offline, instance: one}")
    done = run(*command, "--only-if-online", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "error: the daemon of 'hostA' is offline, so nothing was sent; start it, or leave out "
        "--only-if-online to let the order wait until it expires\n"
    )
    daemon.presence("{status: online, instance: two, started: 1.0}")
    assert run(*command, "--only-if-online", env=env).returncode == 0
    daemon.wait()
    assert len(daemon.received) == 1


# --- as which order -------------------------------------------------------------------------------


def test_commands_with_one_id_are_one_order_and_others_are_orders_of_their_own(env, daemon):
    for more in (["--id", "same"], ["--id", "same"], [], []):
        assert run("stop", "vm1", "--host", "hostA", *more, env=env).returncode == 0
    daemon.wait(4)
    first, second, third, fourth = daemon.arrived
    assert (first.id, second.id) == ("same", "same")
    assert (first.idempotency_key, second.idempotency_key) == ("same", "same")
    assert len({first.idempotency_key, third.idempotency_key, fourth.idempotency_key, None}) == 4


def test_file_with_an_id_is_one_order_until_it_gets_a_new_id(env, daemon):
    text = "task: stop vm\nlist: [{vm-name: vm1}]\nid: constant\n"
    for more in ([], ["--id", "other"], ["--new-id"], ["--idempotency-key", "given"]):
        done = run("send", "hostA", "--no-wait", "-", *more, env=env, stdin=text)
        assert (done.returncode, done.stderr) == (0, "")
    daemon.wait(4)
    plain, named, new, keyed = daemon.arrived
    assert (plain.id, plain.idempotency_key) == ("constant", "constant")
    assert (named.id, named.idempotency_key) == ("other", "other")
    assert (keyed.id, keyed.idempotency_key) == ("constant", "given")
    assert not {new.id, new.idempotency_key} & {None, "constant"}


def test_key_of_the_file_stays_and_a_new_id_replaces_id_and_key(file, env, daemon):
    for more in ([], ["--id", "other"], ["--new-id"], ["--idempotency-key", "given"]):
        done = run("send", "hostA", "--no-wait", file, *more, env=env)
        assert (done.returncode, done.stderr) == (0, "")
    daemon.wait(4)
    plain, named, new, keyed = daemon.arrived
    assert (plain.id, plain.idempotency_key) == ("constant", "mine")
    assert (named.id, named.idempotency_key) == ("other", "mine")
    assert (keyed.id, keyed.idempotency_key) == ("constant", "given")
    assert new.id not in (None, "constant")
    assert new.idempotency_key not in (None, "mine")


def test_new_ids_make_documents_with_the_same_id_distinct(file, env, daemon):
    twice = f"{FILE}---\n{FILE}"
    assert run("send", "hostA", "--no-wait", "-", env=env, stdin=twice).returncode == 1
    done = run("send", "hostA", "--no-wait", "-", "--new-id", env=env, stdin=twice)
    assert done.returncode == 0
    daemon.wait(2)
    assert len({container.id for container in daemon.arrived}) == 2
    assert len({container.idempotency_key for container in daemon.arrived}) == 2


@pytest.mark.parametrize("option", ["--id", "--idempotency-key"])
def test_one_id_or_key_is_for_one_task(option, env):
    done = run("send", "hostA", "--no-wait", "-", option, "x", env=env, stdin=f"{FILE}---\n{FILE}")
    assert done.returncode == 2
    assert f"{option} is for one task container; - has 2" in done.stderr


def test_id_and_new_id_exclude_each_other(file, env):
    done = run("send", "hostA", "--no-wait", file, "--id", "x", "--new-id", env=env)
    assert done.returncode == 2
    assert "not allowed with argument" in done.stderr


# --- answers from the journal ---------------------------------------------------------------------


def from_journal(container: TaskContainer):
    return msgspec.structs.replace(success(container), executed=NOON)


def test_answer_from_the_journal_is_marked(file, env, daemon):
    daemon.answer = from_journal
    done = run("send", "hostA", file, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "hostA constant vm stopped: vm1: success\n"
        "  answered from the journal: executed at 2100-01-01T12:00:00Z, not executed again\n"
    )
    done = run("stop", "vm1", "--host", "hostA", env=env)
    assert "answered from the journal" in done.stdout


@pytest.mark.parametrize(
    ("details", "told"),
    [
        ("never begun, and never will be: the order expired", "expired, refused"),
        ("cancelled before it began", "cancelled, ended"),
    ],
)
def test_answer_to_an_order_that_never_began_does_not_say_that_it_was_executed(
    file, env, daemon, details: str, told: str
):
    def never_begun(container: TaskContainer):
        answer = from_journal(container)
        failed = [
            msgspec.structs.replace(result, status="error", details=details)
            for result in answer.results
        ]
        return msgspec.structs.replace(answer, results=failed)

    daemon.answer = never_begun
    done = run("send", "hostA", file, env=env)
    assert done.returncode == 1
    assert done.stdout.endswith(
        f"  answered from the journal: {told} at 2100-01-01T12:00:00Z, never executed\n"
    )


def test_answer_from_the_journal_is_marked_in_json(file, env, daemon):
    daemon.answer = from_journal
    done = run("send", "hostA", file, "--format", "json", env=env)
    assert json.loads(done.stdout)["message"]["executed"] == "2100-01-01T12:00:00Z"


def test_watch_marks_an_answer_from_the_journal():
    results = ResultContainer(
        result="vm stopped", results=[Result(vm_name="vm1", status="success")], executed=NOON
    )
    assert summarize(results) == (
        "vm stopped: vm1: success; answered from the journal: executed at 2100-01-01T12:00:00Z, "
        "not executed again"
    )


# --- clocks ---------------------------------------------------------------------------------------


def test_differing_clock_is_reported_on_standard_error_for_the_hosts_of_the_command(
    env, daemon, mosquitto
):
    wrong = '{status: online, instance: two, started: 1.0, time: "2100-01-01T12:00:00Z"}'
    daemon.presence(wrong)
    with Daemon(mosquitto, "hostB") as other:
        other.presence(wrong)
        done = run("stop", "vm1", "--host", "hostA", env=env)
        both = run("log", "vm1", "--timeout", "0.1", env=env)
    assert done.returncode == 0
    assert "hostB" not in done.stderr
    assert set(re.findall(r"(host.): its clock is", both.stderr)) == {"hostA", "hostB"}
    assert "hostA: its clock is " in done.stderr
    assert "synchronize both clocks" in done.stderr
    wait_until(lambda: len(daemon.received) == 2, "the order and the question")
