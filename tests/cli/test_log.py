"""`fastlib log`: it queries daemons at a broker, and shows the history of an order."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastlib import (
    HistoryReport,
    HistoryResult,
    OrderEvent,
    OrderReport,
    QueryHistory,
    Result,
    ResultContainer,
    TaskContainer,
)
from fastlib.cli import host_search
from fastlib.cli.commands import log
from tests.support.mosquitto import PATIENCE, Mosquitto, free_port
from tests.support.shell import (
    CONTROL,
    Daemon,
    Environment,
    address,
    run,
    run_bytes,
    run_on_terminal,
    silence,
)
from tests.support.transport.subscription_rules import ChoosyMosquitto

NOW = datetime(2026, 11, 29, 3, 12, 10, tzinfo=UTC)
SINCE = datetime(2026, 11, 1, 8, 0, tzinfo=UTC)
ONLINE = "{status: online, hypervisor: qemu, version: '1.0'}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no presence that this broker sends later, and long for answers."""
    monkeypatch.setattr(host_search, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(log, "ANSWER_SECONDS", float(PATIENCE))


@pytest.fixture
def cluster(mosquitto: Mosquitto) -> Iterator[Callable[..., Daemon]]:
    """Make daemons that are online, and have these orders."""
    with ExitStack() as stack:

        def make(host: str, *orders: OrderReport, presence: str = ONLINE, **report: Any) -> Daemon:
            daemon = stack.enter_context(Daemon(mosquitto, host))
            daemon.answer = lambda container: answer(container, host, *orders, **report)
            daemon.presence(presence)
            return daemon

        yield make


def answer(container: TaskContainer, host: str, *orders: OrderReport, **report: Any) -> Any:
    known = {"host": host, "since": SINCE, "time": NOW, "orders": orders} | report
    result = HistoryResult(status="success", history=HistoryReport(**known))
    return ResultContainer.answer(container, [result])


def order(number: int = 7, seconds: float = 0, **changed: Any) -> OrderReport:
    accepted = NOW - timedelta(seconds=130 - seconds)
    known: dict[str, Any] = {
        "number": number,
        "id": f"s-{number}",
        "task": "stop vm",
        "vm_names": ["vm1"],
        "state": "ended",
        "status": "success",
        "accepted": accepted,
        "began": accepted,
        "answered": accepted,
        "confirmed": accepted,
        "results": [Result(vm_name="vm1", status="success")],
        "events": [OrderEvent(time=accepted, event="accepted")],
    }
    return OrderReport(**(known | changed))


def first_line(text: str) -> str:
    return text.split("\n")[0]


def test_first_line_describes_state_of_order(cluster, env: Environment):
    daemon = cluster("hostA", order())
    done = run("log", "s-7", "--host", "hostA", env=env | {"TZ": "UTC"})
    assert done.returncode == 0
    assert first_line(done.stdout).startswith("'stop vm' of vm1 on hostA succeeded at ")
    assert "accepted" in done.stdout
    assert done.stderr == ""
    (asked,) = daemon.wait().tasks
    assert asked == QueryHistory(order_id="s-7", key="s-7", vm_name="s-7", limit=20)


def test_closed_output_is_no_error(cluster, env: Environment):
    cluster("hostA", order())
    done = run_bytes("log", "s-7", "--host", "hostA", env=env, closed=["stdout"])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_question_does_not_expire_at_a_daemon_whose_clock_is_ahead(cluster, env: Environment):
    daemon = cluster("hostA", order())
    assert run("log", "s-7", "--host", "hostA", env=env).returncode == 0
    daemon.wait()
    assert [container.expires for container in daemon.arrived] == [None]


def test_all_daemons_that_are_online_are_asked(cluster, env: Environment):
    cluster("hostA", order(1, 10))
    cluster("hostB", order(2, 20))
    cluster("hostC")
    done = run("log", "vm1", env=env)
    assert done.returncode == 0
    shown = done.stdout.split("\n")
    assert shown[0].startswith("'stop vm' of vm1 on hostB")
    (other,) = [line for line in shown if "on hostA" in line]
    assert other.startswith("  'stop vm' of vm1 on hostA succeeded at ")
    assert "1 other order, the newest first" in done.stdout


def test_orders_with_one_id_are_each_shown(cluster, env: Environment):
    orders = [order(number, number, id="test-id") for number in (3, 2, 1)]
    cluster("hostA", *orders, more=True)
    done = run("log", "test-id", "--host", "hostA", env=env)
    assert first_line(done.stdout).startswith("'stop vm' of vm1 on hostA")
    assert "order 3" in done.stdout
    assert "2 other orders, the newest first" in done.stdout
    assert "There are older orders; --limit N shows more." in done.stdout
    full = run("log", "test-id", "--host", "hostA", "--full", env=env)
    assert [f"order {number}" in full.stdout for number in (1, 2, 3)] == [True] * 3
    assert full.stdout.index("order 3") < full.stdout.index("order 1")


OPEN = {"status": None, "answered": None, "confirmed": None, "results": ()}


def test_running_order_comes_first_also_behind_newer_ones(cluster, env: Environment):
    waiting = order(3, 60, state="queued", began=None, **OPEN)
    cluster("hostA", waiting, order(2, 50), order(1, state="running", **OPEN))
    done = run("log", "vm1", "--host", "hostA", "--limit", 2, env=env)
    shown = done.stdout
    assert first_line(shown).startswith("'stop vm' of vm1 on hostA is running, begun at")
    assert shown.index("order 1") < shown.index("has not begun; accepted") < shown.index("order 3")
    assert "1 other order, the newest first" in shown
    assert "order 2" not in shown
    assert "There are older orders" not in shown
    full = run("log", "vm1", "--host", "hostA", "--full", env=env).stdout
    assert full.index("order 1") < full.index("order 3") < full.index("order 2")


def test_orders_of_host_stay_in_order_if_its_clock_has_jumped(cluster, env: Environment):
    cluster("hostA", order(2, -3600), order(1, 0))
    cluster("hostB", order(9, -60))
    done = run("log", "vm1", "--full", env=env)
    assert done.stdout.index("order 2") < done.stdout.index("order 1")
    assert done.stderr == (
        "fastlib log: note: hostA: its clock was set back between these orders; they are shown in "
        "the order in which they came\n"
    )


def test_limit_holds_for_all_hosts_together(cluster, env: Environment):
    daemon = cluster("hostA", order(1, 1), order(2, 2))
    cluster("hostB", order(3, 3), order(4, 4))
    done = run("log", "vm1", "--limit", 2, "--format", "text", env=env)
    assert done.stdout.count("'stop vm'") == 2
    assert "on hostA" not in done.stdout
    assert "There are older orders" in done.stdout
    (asked,) = daemon.wait().tasks
    assert isinstance(asked, QueryHistory)
    assert asked.limit == 2


def test_without_name_newest_orders_are_asked_for(cluster, env: Environment):
    daemon = cluster("hostA", order())
    assert run("log", "--host", "hostA", env=env).returncode == 0
    assert list(daemon.wait().tasks) == [QueryHistory(limit=20)]


# --- nothing found, nobody there ------------------------------------------------------------------


def test_unknown_order_has_exit_status_1_and_time_since_when_it_is_not_known(
    cluster, env: Environment
):
    cluster("hostA")
    done = run("log", "nope", "--host", "hostA", env=env)
    assert done.returncode == 1
    assert " ".join(done.stdout.split()).startswith(
        "No order with the id, key or domain 'nope' is known on hostA. Its journal has every "
        "order that was accepted since 2026-11-01 "
    )


def test_several_journals_know_all_orders_since_youngest_began(cluster, env: Environment):
    cluster("hostA")
    cluster("hostB", since=SINCE + timedelta(days=20))
    done = run("log", "nope", env=env)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert (
        "is known on hostA, hostB. Their journals have every order that was accepted since "
        "2026-11-21 " in said
    )


def test_offline_host_is_named_and_not_asked(cluster, env: Environment):
    cluster("hostA", order())
    away = cluster("hostB", presence="status: offline")
    done = run("log", "vm1", env=env)
    assert done.returncode == 3
    assert first_line(done.stdout).startswith("'stop vm' of vm1 on hostA succeeded")
    assert done.stderr.startswith("fastlib log: error: hostB: it is offline; ")
    assert done.stderr.endswith("if it never comes back: fastlib forget hostB\n")
    assert away.received == []


def test_silent_host_has_exit_status_3(cluster, env: Environment):
    cluster("hostA").answer = silence
    done = run("log", "vm1", "--host", "hostA", "--timeout", 0.2, env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "hostA: no answer within 0.2 s; it is online" in done.stderr


@pytest.mark.parametrize("kind", ["result", "status"])
def test_other_hosts_are_shown_if_broker_refuses_one(kind: str, tmp_path) -> None:
    refused = f"fast/migfra/hostB/{kind}"
    with (
        ChoosyMosquitto(tmp_path / "broker", refused) as broker,
        Daemon(broker, "hostA") as one,
        Daemon(broker, "hostB") as other,
    ):
        for daemon in (one, other):
            daemon.presence()
            daemon.answer = lambda container, host=daemon.host: answer(container, host, order())
        hosts = ("--host", "hostB", "--host", "hostA")
        done = run("log", "vm1", *hosts, env=address(broker))
    assert first_line(done.stdout).startswith("'stop vm' of vm1 on hostA succeeded")
    if kind == "result":
        assert done.returncode == 3
        reason = f"the broker refuses the subscription to '{refused}'"
        assert re.search(f"^fastlib log: error: hostB: .*{reason}", done.stderr, re.MULTILINE)
        assert "hostB succeeded" not in done.stdout
    else:  # the host is asked like one of a C++ daemon
        assert "hostB succeeded" in done.stdout


def test_offline_host_is_named_with_its_time(cluster, env: Environment) -> None:
    cluster("hostB", presence="{status: offline, time: 2026-11-01T08:00:00Z}")
    done = run("log", "vm1", "--host", "hostB", env=env)
    since = datetime(2026, 11, 1, 8, tzinfo=UTC).astimezone()
    assert f"hostB: it is offline since {since:%Y-%m-%d %H:%M:%S}; " in done.stderr


def test_host_without_presence_is_queried(daemon: Daemon, env: Environment):
    daemon.answer = lambda container: answer(container, "hostA", order())
    done = run("log", "vm1", "--host", "hostA", env=env)
    assert first_line(done.stdout).startswith("'stop vm' of vm1 on hostA succeeded")


def test_unknown_host_is_reported_without_presence(env: Environment):
    done = run("log", "vm1", "--host", "hostX", "--timeout", 0.2, env=env)
    assert done.returncode == 3
    assert "hostX: no answer within 0.2 s; it has reported no presence" in done.stderr


def test_broker_without_daemons_has_exit_status_3(
    env: Environment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(host_search, "SEARCH_SECONDS", 0.1)
    done = run("log", "vm1", env=env)
    assert (done.returncode, done.stdout) == (3, "")
    assert "no daemon has reported its presence at this broker; name one by --host" in done.stderr


def test_older_daemon_does_not_know_question(cluster, env: Environment):
    def unreadable(container: TaskContainer) -> ResultContainer:
        result = Result(vm_name="unknown", status="error", details="no such task")
        return ResultContainer(result="unknown", results=[result], id=container.id)

    cluster("hostA").answer = unreadable
    done = run("log", "vm1", "--host", "hostA", env=env)
    assert done.returncode == 3
    assert "hostA: it does not know 'query history'" in done.stderr


def test_error_of_daemon_is_shown(cluster, env: Environment):
    def broken(container: TaskContainer) -> ResultContainer:
        result = HistoryResult(status="error", details="the journal cannot be read: disk\x1b[31m")
        return ResultContainer.answer(container, [result])

    cluster("hostA").answer = broken
    done = run("log", "vm1", "--host", "hostA", env=env)
    assert done.returncode == 3
    assert "hostA: the journal cannot be read: disk\\x1b[31m" in done.stderr


def test_answer_to_another_question_is_shown_as_error(cluster, env: Environment):
    def confused(container: TaskContainer) -> ResultContainer:
        results = [Result(vm_name="vm1", status="success")]
        return ResultContainer(result="vm stopped", results=results, id=container.id)

    cluster("hostA").answer = confused
    done = run("log", "vm1", "--host", "hostA", env=env)
    assert done.returncode == 3
    assert "was answered with 'vm stopped'" in done.stderr


def test_degraded_daemon_is_warned_of(cluster, env: Environment):
    cluster("hostA", order(), presence="{status: online, degraded: the disk is full}")
    done = run("log", "vm1", env=env)
    assert done.returncode == 0
    assert done.stderr == "fastlib log: warning: hostA is degraded: the disk is full\n"


# --- forms ----------------------------------------------------------------------------------------


def test_json_has_one_object_for_each_host_with_times_in_utc(cluster, env: Environment):
    cluster("hostA", order())
    cluster("hostB", presence="status: offline")
    done = run("log", "vm1", "--format", "json", env=env | {"TZ": "Asia/Tokyo"})
    assert done.returncode == 3
    known, away = map(json.loads, done.stdout.splitlines())
    assert known.keys() == away.keys() == {"host", "error", "since", "time", "more", "orders"}
    assert (known["host"], known["error"], known["more"]) == ("hostA", None, False)
    assert known["since"] == "2026-11-01T08:00:00Z"
    (shown,) = known["orders"]
    assert OrderReport.load(shown) == order()
    assert shown["accepted"] == "2026-11-29T03:10:00Z"
    assert (away["host"], away["orders"], away["since"]) == ("hostB", [], None)
    assert "offline" in away["error"]


def test_terminal_gets_colours_and_its_width(cluster, env: Environment):
    cluster("hostA", order(status="error", results=[
        Result(vm_name="vm1", status="error", details="why " * 50)]))  # fmt: skip
    text, status = run_on_terminal("log", "vm1", "--host", "hostA", columns=60, env=env)
    assert status == 0
    assert text.startswith("\033[1;31m'stop vm' of vm1 on hostA failed")
    plain = text.replace("\033[1;31m", "").replace("\033[m", "")
    assert all(len(line) <= 60 for line in plain.splitlines())


def test_names_from_network_are_escaped(cluster, env: Environment):
    cluster("hostA", order(id="\x1b]0;title\x07", vm_names=["\x1b[31m"]))
    done = run("log", "--host", "hostA", "--full", env=env)
    assert not CONTROL.search(done.stdout)
    assert r"\x1b]0;title\x07" in done.stdout


@pytest.mark.parametrize("name", [b"", b"\xff"])
def test_name_that_no_message_can_hold_is_wrong_usage(name: bytes, env: Environment):
    done = run("log", name, env=env)
    assert done.returncode == 2
    assert "fastlib log: error: argument ID|VM: " in done.stderr


def test_missing_broker_has_exit_status_2():
    done = run("log", "vm1", "--broker", f"127.0.0.1:{free_port()}", "--connect-timeout", 0.1)
    assert done.returncode == 2
    assert "no broker at" in done.stderr
