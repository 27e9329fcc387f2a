"""Tests of orders that expire: what is sent, and what a client says about one without a result."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fastlib.client.aio
import fastlib.client.client
from fastlib import (
    HistoryReport,
    HistoryResult,
    OrderReport,
    QueryHistory,
    ResultContainer,
    Suspend,
    TaskContainer,
    ValidationError,
)
from fastlib.client import HostOfflineError, MigfraClient, NoResultError
from fastlib.clock import Clock
from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions, connect
from tests.support.client.factory import PATIENCE, ClientFactory, Daemon, success
from tests.support.mosquitto import Mosquitto
from tests.support.transport.broker_clock import wait_until_expired
from tests.support.waiting import wait_until

IN_MEMORY = pytest.mark.parametrize("options", ["memory"], indirect=True)

SOON = 0.2
"""A timeout in seconds that passes at once. In memory, a message is sent before."""

SENT_BEFORE = 0.5
"""A timeout in seconds before which a message is sent, also to a real broker."""


def failure_of(handle: Any) -> NoResultError:
    with pytest.raises(NoResultError) as caught:
        handle.result(PATIENCE)
    return caught.value


def sent_in_time(attempt: Callable[[float], Any]) -> Any:
    """Return the handle of an attempt that ended before its order expired.

    An attempt sends an order with the timeout that it gets, in seconds, and lets something happen
    before the order expires. It says nothing if a busy machine was too slow for that.
    """
    for seconds in (0.3, 1.5, 8.0):
        handle = attempt(seconds)
        if handle.container.expires - datetime.now(UTC) > timedelta(seconds=0.1):
            return handle
        with suppress(NoResultError):
            handle.result(PATIENCE)
    raise AssertionError("each order expired before the attempt ended")


def wait_for_arrival(daemon: Daemon, handle: Any) -> None:
    """Wait until an order is at its daemon, so its client listens, or it is too late for that."""
    wait_until(
        lambda: handle.done() or handle.id in {one.id for one in daemon.received}, "the order"
    )


def wait_for_progress(handle: Any) -> None:
    """Wait until an order's progress is known, or it is too late for it."""
    wait_until(lambda: handle.progress is not None or handle.done(), "the progress")


def shown(client: Any, status: str, host: str = "hostA") -> None:
    """Wait until the client knows that a host's daemon has this status."""
    wait_until(
        lambda: host in client.presences and client.presences[host].status == status, "the presence"
    )


# --- what is sent ---------------------------------------------------------------------------------


def test_order_expires_with_its_timeout(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    before = datetime.now(UTC)
    handle = client.suspend("hostA", "vm1", timeout=3)
    after = datetime.now(UTC)
    (container,) = daemon.wait()
    late = timedelta(seconds=3)
    assert before + late - timedelta(milliseconds=1) <= container.expires <= after + late
    assert container == handle.container


@IN_MEMORY
def test_order_without_timeout_waits_without_limit(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    client.suspend("hostA", "vm1", timeout=None)
    client.suspend("hostA", "vm2", expires=None)
    assert [container.expires for container in daemon.wait(2)] == [None, None]


@IN_MEMORY
def test_expiry_may_be_given_as_time_or_as_time_from_now(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    when = datetime(2100, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    client.suspend("hostA", "vm1", expires=when)
    client.suspend("hostA", "vm2", expires=timedelta(days=1), timeout=None)
    absolute, relative = daemon.wait(2)
    assert absolute.expires == datetime(2100, 1, 1, 12, tzinfo=UTC)
    left = relative.expires - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)


@IN_MEMORY
def test_container_keeps_its_own_expiry_unless_another_is_given(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    when = datetime(2100, 1, 1, tzinfo=UTC)
    container = TaskContainer(tasks=[Suspend(vm_name="vm1")], expires=when)
    client.submit("hostA", container)
    client.submit("hostA", container, expires=None)
    assert [one.expires for one in daemon.wait(2)] == [when, None]


@IN_MEMORY
def test_expiry_without_zone_is_refused(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    with pytest.raises(ValidationError, match="zone"):
        client.suspend("hostA", "vm1", expires=datetime(2100, 1, 1))
    client.suspend("hostA", "vm2")
    assert [container.tasks[0].vm_name for container in daemon.wait()] == ["vm2"]


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_invalid_tolerance_is_refused(tolerance: float):
    with pytest.raises(ValueError, match="number of seconds from 0"):
        MigfraClient.connect(MemoryOptions(broker=MemoryBroker()), clock_tolerance=tolerance)


# --- what became of an order ----------------------------------------------------------------------


def test_daemon_that_is_offline_has_never_begun_the_order(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("offline", instance="first")
    shown(client, "offline")
    error = failure_of(client.suspend("hostA", "vm1", timeout=SENT_BEFORE))
    assert (error.outcome, error.reason) == (
        "never begun",
        "its daemon was offline until the order had expired",
    )
    assert "was never begun, and cannot begin any more" in str(error)


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
    assert "has not shown that it honours 'expires'" in error.reason


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


def test_client_that_lost_its_connection_does_not_know_what_the_daemon_did():
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
    handle = mine.suspend("hostA", "vm1", id="constant", timeout=1.5)
    daemon.wait(2)
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
                assert "the broker was not heard of" in error.reason
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


# --- without a broker -----------------------------------------------------------------------------


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
        assert ": no result; the order was never begun, and cannot begin any more: " in str(error)
        assert "; it was given to the client 20" in str(error)
        broker.start()  # and it does not come late
        daemon = clients.daemon()
        assert client.suspend("hostA", "vm2").id == daemon.wait()[0].id
        clients.close()


@IN_MEMORY
def test_order_that_has_expired_already_is_not_sent(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    past = datetime(2000, 1, 1, tzinfo=UTC)
    assert failure_of(client.suspend("hostA", "vm1", expires=past)).outcome == "never begun"
    client.suspend("hostA", "vm2")
    assert [container.tasks[0].vm_name for container in daemon.wait()] == ["vm2"]


# --- at the broker --------------------------------------------------------------------------------


def test_broker_does_not_deliver_expired_orders_with_mqtt_5(mosquitto: Mosquitto):
    """With MQTT 3.1.1 it delivers them, and the daemon refuses them by their key `expires`."""
    clients = ClientFactory(
        lambda **o: MqttOptions(host="127.0.0.1", port=mosquitto.port, retry_min=0.05, **o), None
    )
    session = {"client_id": "fast-migfra-away", "persistent": True}
    clients.daemon("away", **session).communicator.close()
    five, three = clients.client(protocol="5"), clients.client()
    late = [five.suspend("away", "mqtt-5", timeout=1)]
    late.append(three.suspend("away", "mqtt-3", timeout=1))
    five.suspend("away", "waits", expires=None)
    for handle in late:
        failure_of(handle)
    wait_until_expired(five.communicator)
    received = clients.daemon("away", **session).wait(2)
    assert sorted(container.tasks[0].vm_name for container in received) == ["mqtt-3", "waits"]
    clients.close()


@pytest.mark.parametrize(("instance", "sent"), [("first", True), (None, False)])
def test_expired_order_asks_for_its_result_where_it_is_not_begun_late(
    clients: ClientFactory, instance: str | None, sent: bool
):
    daemon, first = clients.daemon(), clients.client()
    expired = sent_in_time(lambda seconds: first.suspend("hostA", "vm1", timeout=seconds)).container
    wait_until(lambda: datetime.now(UTC) > expired.expires, "the expiry")
    daemon.presence("online", instance=instance)

    def copies() -> list[str | None]:
        return [one.id for one in daemon.received if one.id == expired.id]

    handle = clients.client().submit("hostA", expired, timeout=PATIENCE if sent else 0.1)
    if sent:
        wait_until(lambda: len(copies()) == 2, "the second copy")
        daemon.send(success(daemon.received[-1]))
        assert handle.result(PATIENCE).results[0].status == "success"
    else:
        error = failure_of(handle)
        assert error.outcome == "unknown"  # the first copy may have begun
        assert len(copies()) == 1


# --- repetitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("instance", "repeated"), [("second", True), (None, False)])
@IN_MEMORY
def test_expired_order_is_repeated_only_to_a_daemon_that_does_not_begin_it(
    clients: ClientFactory, instance: str | None, repeated: bool
):
    daemon, client = clients.daemon(), clients.client()
    handle = sent_in_time(
        lambda seconds: client.suspend("hostA", "vm1", expires=timedelta(seconds=seconds))
    )
    wait_until(lambda: datetime.now(UTC) > handle.container.expires, "the expiry")
    daemon.presence("online", instance=instance, started=2.0)
    shown(client, "online")
    last = client.suspend("hostA", "vm2")
    wait_until(lambda: daemon.received[-1].id == last.id, "the last order")
    assert [one.id for one in daemon.received].count(handle.id) == 1 + repeated


# --- only if online -------------------------------------------------------------------------------


def test_order_to_a_daemon_that_is_offline_can_be_refused(clients: ClientFactory):
    daemon = clients.daemon()
    daemon.presence("offline", instance="first")
    client = clients.client()  # at once, before it has received the presence
    with pytest.raises(HostOfflineError, match="daemon of 'hostA' is offline, so nothing was sent"):
        client.suspend("hostA", "vm1", only_if_online=True)
    assert client.suspend("hostA", "vm2", only_if_online=False).id == daemon.wait()[0].id
    daemon.presence("online", instance="second")
    shown(client, "online")
    client.suspend("hostA", "vm3", only_if_online=True)
    wait_until(lambda: daemon.received[-1].tasks[0].vm_name == "vm3", "the third order")


@IN_MEMORY
def test_host_that_never_showed_itself_is_not_refused(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    client.suspend("hostA", "vm1", only_if_online=True)
    client.suspend("hostA", "vm2", only_if_online=True)
    assert len(daemon.wait(2)) == 2


# --- what the daemon's journal says ---------------------------------------------------------------


class JournalDaemon:
    """Answers nothing but questions about its journal, which has the orders `known`."""

    def __init__(self, daemon: Daemon, since: timedelta = timedelta(days=1)) -> None:
        self.known: list[OrderReport] = []
        self._since = since
        daemon.answers(self._answer)

    def _answer(self, container: TaskContainer) -> ResultContainer | None:
        (task,) = container.tasks
        if not isinstance(task, QueryHistory):
            return None
        now = datetime.now(UTC)
        orders = [order for order in self.known if order.idempotency_key == task.key]
        report = HistoryReport(host="hostA", since=now - self._since, time=now, orders=orders)
        return ResultContainer.answer(container, [HistoryResult(status="success", history=report)])


def online(clients: ClientFactory, **options: Any) -> tuple[Daemon, Any]:
    """Return the daemon of hostA, and a client that knows that it is there."""
    daemon, client = clients.daemon(), clients.client(**({"clock_tolerance": 0.3} | options))
    daemon.presence("online", instance="first")
    shown(client, "online")
    return daemon, client


def test_daemon_that_has_begun_the_order_says_so_when_it_is_asked(clients: ClientFactory):
    daemon, client = online(clients, clock_tolerance=PATIENCE)
    journal = JournalDaemon(daemon)

    def attempt(seconds: float) -> Any:
        handle = client.suspend("hostA", "vm1", timeout=seconds)
        now = datetime.now(UTC)
        journal.known.append(
            OrderReport(
                number=1,
                idempotency_key=handle.container.idempotency_key,
                state="running",
                accepted=now,
                began=now,
                expires=handle.container.expires,
            )
        )
        ids = {handle.id}
        wait_until(lambda: handle.done() or ids <= {one.id for one in daemon.received}, "the order")
        return handle

    handle = sent_in_time(attempt)
    error = failure_of(handle)  # at once, without the tolerance
    assert (error.outcome, "as its journal says" in error.reason) == ("begun", True)
    assert [one.task for one in daemon.received[-2:]] == ["suspend vm", "query history"]


@IN_MEMORY
def test_journal_of_an_older_fastlib_does_not_know_whether_the_order_has_begun(
    clients: ClientFactory,
):
    daemon, client = online(clients)
    journal = JournalDaemon(daemon)
    handle = client.suspend("hostA", "vm1", timeout=SENT_BEFORE)
    container = handle.container
    now = datetime.now(UTC)
    journal.known.append(
        OrderReport(
            number=1,
            idempotency_key=container.idempotency_key,
            state="running",
            accepted=now,
            expires=container.expires,
        )
    )
    assert failure_of(handle).outcome == "unknown"


def test_daemon_that_never_got_the_order_says_so_when_it_is_asked(clients: ClientFactory):
    daemon, client = online(clients)
    JournalDaemon(daemon)
    error = failure_of(client.suspend("hostA", "vm1", timeout=SENT_BEFORE))
    assert (error.outcome, error.reason) == (
        "never begun",
        "its daemon had not begun it when it had expired",
    )


@IN_MEMORY
def test_journal_that_began_after_the_order_was_sent_does_not_know(clients: ClientFactory):
    daemon, client = online(clients)
    JournalDaemon(daemon, since=timedelta(0))
    assert failure_of(client.suspend("hostA", "vm1", timeout=SOON)).outcome == "unknown"


def test_daemon_that_does_not_answer_leaves_the_outcome_unknown(clients: ClientFactory):
    daemon, client = online(clients)
    error = failure_of(client.suspend("hostA", "vm1", timeout=SENT_BEFORE))
    assert error.outcome == "unknown"
    questions = [one for one in daemon.received if one.task == "query history"]
    assert len(questions) == 2
    assert {one.tasks[0].key for one in questions} == {error.request.container.idempotency_key}


@IN_MEMORY
def test_client_without_tolerance_and_a_query_itself_ask_nothing(clients: ClientFactory):
    daemon, client = online(clients, clock_tolerance=0.0)
    failure_of(client.suspend("hostA", "vm1", timeout=SOON))
    assert [one.task for one in daemon.received] == ["suspend vm"]
    _, patient = online(clients)
    failure_of(patient.history("hostA", vm_name="vm1", timeout=SOON))
    assert [one.task for one in daemon.received] == ["suspend vm", "query history"]


def test_result_after_the_question_is_returned(clients: ClientFactory):
    daemon, client = online(clients, clock_tolerance=PATIENCE)
    handle = client.suspend("hostA", "vm1", timeout=SENT_BEFORE)
    order, question = daemon.wait(2)
    assert question.task == "query history"
    daemon.send(success(order))
    assert handle.result(PATIENCE).status == "success"
