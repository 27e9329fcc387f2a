"""Tests of a client's errors about an order that got no result in time."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fastlib.client.aio
import fastlib.client.client
from fastlib import (
    Suspend,
)
from fastlib.client import MigfraClient
from fastlib.clock import Clock
from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions, connect
from tests.support.client.factory import IN_MEMORY, PATIENCE, ClientFactory, success
from tests.support.client.unanswered import (
    SENT_BEFORE,
    SOON,
    failure_of,
    sent_in_time,
    shown,
    wait_for_arrival,
    wait_for_progress,
)
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until


def test_daemon_that_is_offline_has_never_begun_the_order(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("offline", instance="first")
    shown(client, "offline")
    error = failure_of(client.suspend("hostA", "vm1", timeout=SENT_BEFORE))
    assert (error.outcome, error.reason) == (
        "never begun",
        "its daemon was offline until the order had expired",
    )
    assert "was never begun and will not begin" in str(error)


@IN_MEMORY
def test_order_waits_for_the_tolerance_of_clocks_beyond_its_timeout(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client(clock_tolerance=0.2)
    daemon.presence("offline", instance="first")
    shown(client, "offline")
    handle = client.suspend("hostA", "vm1", timeout=SOON)
    expires = handle.container.expires
    assert failure_of(handle).outcome == "never begun"
    assert datetime.now(UTC) >= expires + timedelta(seconds=0.2)


@IN_MEMORY
def test_result_in_the_tolerance_of_clocks_is_returned(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client(clock_tolerance=PATIENCE)
    daemon.presence("online", instance="first")
    shown(client, "online")
    handle = client.suspend("hostA", "vm1", timeout=SOON)
    (container,) = daemon.wait()
    wait_until(lambda: datetime.now(UTC) > container.expires, "the expiry")
    daemon.send(success(container))
    assert handle.result(PATIENCE).status == "success"


@pytest.mark.parametrize("status", ["online", "offline"])
@IN_MEMORY
def test_older_daemon_may_begin_an_order_at_any_time(clients: ClientFactory, status: str):
    daemon, client = clients.daemon(), clients.client(clock_tolerance=PATIENCE)
    daemon.presence(status)
    shown(client, status)
    error = failure_of(client.suspend("hostA", "vm1", timeout=SOON))
    assert error.outcome == "unknown"
    assert "has not reported that it honours 'expires'" in error.reason


@IN_MEMORY
def test_host_without_presence_may_begin_an_order_at_any_time(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client(clock_tolerance=PATIENCE)
    handle = client.suspend("hostA", "vm1", timeout=SOON)
    daemon.wait()
    error = failure_of(handle)
    assert (error.outcome, "C++ daemon" in error.reason) == ("unknown", True)
    assert "fastlib log" not in str(error)  # such a daemon keeps no journal


@IN_MEMORY
def test_order_without_expiry_can_begin_at_any_time(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("offline", instance="first")
    shown(client, "offline")
    error = failure_of(client.suspend("hostA", "vm1", timeout=SOON, expires=None))
    assert (error.outcome, error.reason) == (
        "unknown",
        "it has no 'expires', so its daemon can begin it at any time",
    )


class JumpingClock(Clock):
    """The wall clock jumps by `ahead` seconds."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead


@pytest.mark.parametrize("ahead", [7200.0, -7200.0])
def test_jump_of_the_clock_proves_nothing(ahead: float):
    clock, broker = JumpingClock(), MemoryBroker()
    clients = ClientFactory(lambda **named: MemoryOptions(broker=broker, **named), None)
    daemon = clients.daemon()
    with (
        connect(MemoryOptions(broker=broker)) as communicator,
        MigfraClient(communicator, clock_tolerance=0, clock=clock) as client,
    ):
        daemon.presence("offline", instance="first")
        shown(client, "offline")
        handle = client.suspend("hostA", "vm1", timeout=SOON, expires=timedelta(hours=1))
        clock.ahead = ahead
        error = failure_of(handle)
        assert (error.outcome, "can begin it until" in error.reason) == ("unknown", True)
    clients.close()


@IN_MEMORY
def test_order_that_expires_after_the_timeout_can_begin_until_then(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("offline", instance="first")
    shown(client, "offline")
    when = datetime(2100, 1, 1, tzinfo=UTC)
    error = failure_of(client.suspend("hostA", "vm1", timeout=SOON, expires=when))
    assert (error.outcome, "until 2100-01-01" in error.reason) == ("unknown", True)


def test_daemon_that_was_there_in_between_may_have_begun_the_order(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()

    def attempt(seconds: float) -> Any:
        daemon.presence("offline", instance="first")
        shown(client, "offline")
        handle = client.suspend("hostA", "vm1", timeout=seconds)
        daemon.presence("online", instance="second")
        shown(client, "online")
        daemon.presence("offline", instance="second")
        shown(client, "offline")
        return handle

    handle = sent_in_time(attempt)
    error = failure_of(handle)
    assert (error.outcome, error.reason) == (
        "unknown",
        "its daemon may have begun it, and has not answered",
    )
    command = f"fastlib log {handle.id} --host hostA"
    assert f"`{command}`, or `client.history('hostA', order_id='{handle.id}')`" in str(error)


@IN_MEMORY
def test_daemon_that_ended_after_the_sending_may_have_begun_the_order(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()

    def attempt(seconds: float) -> Any:
        daemon.presence("online", instance="first")
        shown(client, "online")
        handle = client.suspend("hostA", "vm1", timeout=seconds)
        daemon.presence("offline", instance="first")
        return handle

    assert failure_of(sent_in_time(attempt)).outcome == "unknown"


@IN_MEMORY
def test_starting_daemon_may_have_begun_the_order(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("offline", instance="first")
    shown(client, "offline")

    def attempt(seconds: float) -> Any:
        handle = client.suspend("hostA", "vm1", timeout=seconds)
        daemon.presence("online", retain=False, started=None, instance="second")  # a claim
        return handle

    assert failure_of(sent_in_time(attempt)).outcome == "unknown"
    assert client.presences["hostA"].status == "offline"  # it has not begun


def test_outcome_is_unknown_after_a_lost_connection_of_the_client():
    broker = MemoryBroker()
    clients = ClientFactory(lambda **named: MemoryOptions(broker=broker, **named), None)
    daemon, client = clients.daemon(), clients.client(client_id="scheduler")
    daemon.presence("offline", instance="first")
    shown(client, "offline")

    def attempt(seconds: float) -> Any:
        handle = client.suspend("hostA", "vm1", timeout=seconds)
        broker.cut("scheduler")
        broker.mend("scheduler")
        return handle

    def attempt_without_return(seconds: float) -> Any:
        broker.mend("scheduler")
        handle = client.suspend("hostA", "vm1", timeout=seconds)
        broker.cut("scheduler")
        return handle

    assert failure_of(sent_in_time(attempt)).outcome == "unknown"
    assert failure_of(sent_in_time(attempt_without_return)).outcome == "unknown"
    clients.close()


def test_progress_shows_that_an_order_has_begun_also_without_a_listener(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("online", instance="first")
    shown(client, "online")

    def attempt(seconds: float) -> Any:
        handle = client.migrate("vm1", "hostA", "hostB", timeout=seconds)
        key = handle.container.idempotency_key
        wait_for_arrival(daemon, handle)
        daemon.progress(f"id: {handle.id}\nidempotency-key: {key}\nvm-name: vm1\nphase: memory\n")
        wait_for_progress(handle)
        return handle

    error = failure_of(sent_in_time(attempt))
    assert (error.outcome, error.reason) == ("begun", "its daemon reported the phase 'memory'")
    assert "fastlib log" in str(error)
    assert "not connected" not in str(error)


def test_progress_in_the_queue_does_not_show_that_an_order_has_begun(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("online", instance="first")
    shown(client, "online")

    def attempt(seconds: float) -> Any:
        handle = client.migrate("vm1", "hostA", "hostB", timeout=seconds)
        wait_for_arrival(daemon, handle)
        daemon.progress(f"id: {handle.id}\nphase: queued\nposition: 2\n")
        wait_for_progress(handle)
        return handle

    error = failure_of(sent_in_time(attempt))
    assert error.outcome == "unknown"
    assert "last seen in phase 'queued'" in str(error)


def test_progress_and_result_of_another_order_with_the_same_id_are_ignored(clients: ClientFactory):
    daemon = clients.daemon()
    mine, other = clients.client(), clients.client()
    daemon.presence("online", instance="first")
    shown(mine, "online")
    shown(other, "online")
    theirs = other.suspend("hostA", "vm2", id="constant")
    (container,) = daemon.wait()

    def attempt(seconds: float) -> Any:
        handle = mine.suspend("hostA", "vm1", id="constant", timeout=seconds)
        key = handle.container.idempotency_key
        wait_until(lambda: handle.done() or key in {one.idempotency_key for one in daemon.received})
        return handle

    handle = sent_in_time(attempt)
    key = container.idempotency_key
    daemon.progress(f"id: constant\nidempotency-key: {key}\nphase: memory\n")
    daemon.send(success(container))
    assert theirs.result(PATIENCE).vm_name == "vm2"
    assert failure_of(handle).outcome == "unknown"
    assert handle.progress is None


@IN_MEMORY
def test_answer_from_the_journal_is_a_result(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    when = datetime(2026, 1, 1, tzinfo=UTC)
    daemon.answers(lambda container: msgspec.structs.replace(success(container), executed=when))
    answer = client.submit("hostA", Suspend(vm_name="vm1")).result(PATIENCE)
    assert answer.executed == when


@pytest.mark.parametrize("is_async", [False, True])
def test_broker_that_is_silent_may_hide_a_daemon(
    is_async: bool,
    client_loop: asyncio.AbstractEventLoop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """A dead connection is noticed late; until then the client has no news of the daemon."""
    for module in (fastlib.client.client, fastlib.client.aio):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.2)
    with Mosquitto(tmp_path / "broker") as broker:
        clients = ClientFactory(
            lambda **o: MqttOptions(host="127.0.0.1", port=broker.port, **o),
            client_loop if is_async else None,
        )
        daemon, client = clients.daemon(), clients.client()
        daemon.presence("offline", instance="first")
        shown(client, "offline")
        handles = [
            client.suspend("hostA", f"vm{number}", timeout=SENT_BEFORE) for number in range(2)
        ]
        daemon.wait(2)
        broker.freeze()
        try:
            for handle in handles:
                error = failure_of(handle)
                assert error.outcome == "unknown"
                assert "the broker has not answered" in error.reason
        finally:
            broker.thaw()
        clients.close()


@IN_MEMORY
def test_look_for_a_daemon_repeats_nothing_for_watchers(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    watch = client.watch(presence=True)
    daemon.presence("offline", instance="first")
    shown(client, "offline")
    for number in range(3):
        assert failure_of(client.suspend("hostA", f"vm{number}", timeout=SOON)).outcome == (
            "never begun"
        )
    daemon.presence("online", instance="second")
    assert [next(watch).message.status for _ in range(2)] == ["offline", "online"]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_order_that_never_left_is_never_begun(protocol: Any, tmp_path: Path):
    with Mosquitto(tmp_path / "broker") as broker:
        clients = ClientFactory(
            lambda **o: MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.05, **o), None
        )
        client = clients.client(protocol=protocol)
        broker.stop()
        wait_until(lambda: not client.communicator.is_connected, "the loss of the connection")
        error = failure_of(client.suspend("hostA", "vm1", timeout=0.2))
        assert (error.outcome, error.reason) == (
            "never begun",
            "it expired before it could be sent",
        )
        assert ": no result; the order was never begun and will not begin: " in str(error)
        assert "; it was submitted to the client 20" in str(error)
        assert "not connected" not in str(error)  # it would change nothing
        broker.start()  # and it does not come late
        daemon = clients.daemon()
        assert client.suspend("hostA", "vm2").id == daemon.wait()[0].id
        clients.close()


def test_error_says_that_the_client_has_lost_the_broker(tmp_path: Path):
    """The daemon may have answered meanwhile, and is not the one to look at."""
    with Mosquitto(tmp_path / "broker") as broker:
        clients = ClientFactory(
            lambda **o: MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.05, **o), None
        )
        daemon, client = clients.daemon(), clients.client(timeout=PATIENCE)
        for seconds in (1, 8, 40):  # on a busy machine it may pass before the loss
            handle = client.migrate("vm1", "hostA", "hostB", timeout=seconds, expires=None)
            wait_for_arrival(daemon, handle)
            broker.stop()
            wait_until(lambda: not client.communicator.is_connected, "the loss of the connection")
            is_lost_first = not handle.done()
            error = str(failure_of(handle))
            broker.start()
            if is_lost_first:
                break
            wait_until(lambda: client.communicator.is_connected, "the connection")
        assert is_lost_first
        assert (
            "; this client is not connected to the broker now, so it may miss a result; " in error
        )
        clients.close()


@IN_MEMORY
def test_order_that_has_expired_already_is_not_sent(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    past = datetime(2000, 1, 1, tzinfo=UTC)
    assert failure_of(client.suspend("hostA", "vm1", expires=past)).outcome == "never begun"
    client.suspend("hostA", "vm2")
    assert [container.tasks[0].vm_name for container in daemon.wait()] == ["vm2"]
