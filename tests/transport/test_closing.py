"""`close` waits only while delivery is possible, and reports undelivered messages."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from fastlib.client import AsyncMigfraClient, MigfraClient
from fastlib.transport import (
    ConnectError,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    Undelivered,
    UndeliveredError,
    connect,
    connect_async,
)
from fastlib.transport.link import CLOSE_SECONDS
from fastlib.transport.mqtt.connection_state import SILENT_SECONDS, ConnectionState
from tests.support.mosquitto import Mosquitto
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until

NEVER = 1000.0
"""Seconds until the next try to connect: no test waits for it."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def state() -> ConnectionState:
    state = ConnectionState("me", client_id="me", retry_min=1, retry_max=2, clock=Clock())
    state.start_opening(10)
    state.connected()
    state.opened.set_result(None)
    return state


def lose(state: ConnectionState) -> None:
    state.connection_lost()
    state.connecting()


def fail(state: ConnectionState) -> None:
    state.unreachable(OSError("refused"))
    state.try_ended()


def test_connected_state_waits_for_the_deadline_by_default(state: ConnectionState):
    state.start_closing(None)
    assert not state.is_done(outbox_empty=False)
    state.clock.now = CLOSE_SECONDS  # type: ignore[attr-defined]
    assert state.is_done(outbox_empty=False)


def test_failed_try_ends_the_closing_by_default(state: ConnectionState):
    state.start_closing(None)
    lose(state)
    assert not state.is_done(outbox_empty=False)
    fail(state)
    assert state.is_done(outbox_empty=False)


def test_failed_try_before_the_closing_causes_another_one(state: ConnectionState):
    lose(state)
    fail(state)
    assert not state.must_try_now
    state.start_closing(None)
    assert state.must_try_now
    assert not state.is_done(outbox_empty=False)
    state.connecting()
    assert not state.must_try_now
    fail(state)
    assert state.is_done(outbox_empty=False)


def test_running_try_counts_for_the_closing(state: ConnectionState):
    lose(state)
    state.start_closing(None)
    fail(state)
    assert state.is_done(outbox_empty=False)


def test_timeout_waits_for_a_broker_that_is_away(state: ConnectionState):
    state.start_closing(5)
    lose(state)
    fail(state)
    assert not state.must_try_now
    assert not state.is_done(outbox_empty=False)
    state.clock.now = 5  # type: ignore[attr-defined]
    assert state.is_done(outbox_empty=False)


def test_closing_continues_on_renewed_connection(state: ConnectionState):
    state.start_closing(None)
    lose(state)
    state.connected()
    assert not state.is_done(outbox_empty=False)
    assert state.is_done(outbox_empty=True)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def options(broker: Mosquitto) -> MqttOptions:
    return MqttOptions(host="127.0.0.1", port=broker.port, retry_min=NEVER, retry_max=NEVER)


def away(communicator: Any) -> bool:
    return isinstance(communicator.last_error, ConnectError)


def test_close_ends_and_reports_when_the_broker_has_died(broker: Mosquitto):
    one = connect(options(broker))
    client = MigfraClient.connect(options(broker))
    loop = asyncio.new_event_loop()
    other = loop.run_until_complete(connect_async(options(broker)))
    coroutines = loop.run_until_complete(AsyncMigfraClient.connect(options(broker)))
    broker.kill()
    for communicator in (one, client.communicator, other, coroutines.communicator):
        wait_until(lambda c=communicator: away(c), "the loss of the connection")

    delivery = one.send(b"12345", "a")
    with pytest.raises(
        UndeliveredError, match=r"closed: .*cannot reach .*Connection refused"
    ) as end:
        one.close()
    assert [(m.topic, m.size, m.sent) for m in end.value.messages] == [("a", 5, False)]
    with pytest.raises(UndeliveredError):
        delivery.wait(0)

    handle = client.suspend("hostA", "vm1", timeout=None)
    with pytest.raises(UndeliveredError, match=r"closed: .*cannot reach .*fast/migfra/hostA/task"):
        client.close()
    with pytest.raises(UndeliveredError) as failed:
        handle.result(0)
    assert not failed.value.messages[0].sent

    async def close() -> None:
        await other.send(b"12345", "a")
        with pytest.raises(UndeliveredError, match=r"closed: .*cannot reach"):
            await other.close()
        handle = await coroutines.suspend("hostA", "vm1", timeout=None)
        with pytest.raises(UndeliveredError, match=r"closed: .*cannot reach"):
            await coroutines.close()
        with pytest.raises(UndeliveredError):
            await handle

    loop.run_until_complete(close())
    loop.close()


def test_end_of_a_block_raises_undelivered_messages(broker: Mosquitto):
    def work() -> None:
        with connect(options(broker)) as one:
            broker.kill()
            wait_until(lambda: away(one), "the loss of the connection")
            one.send(b"", "a")

    with pytest.raises(UndeliveredError, match=r"closed: .*cannot reach"):
        work()


def test_close_retries_once_and_delivers(broker: Mosquitto):
    one = connect(options(broker))
    broker.kill()
    wait_until(lambda: away(one), "the loss of the connection")
    broker.start()
    delivery: Future[None] = one.send(b"", "a").future
    one.close()
    assert delivery.result(0) is None


def test_traffic_continues_during_closing(state: ConnectionState):
    state.start_closing(None)
    for number in range(4):
        state.clock.now += SILENT_SECONDS - 1  # type: ignore[attr-defined]
        assert state.wants_ping
        state.moved(number)
        assert not state.wants_ping
        assert not state.is_done(outbox_empty=False)


def test_closing_ends_if_the_broker_is_silent(state: ConnectionState):
    state.clock.now += 100  # type: ignore[attr-defined]
    state.start_closing(None)
    state.moved(1)
    assert state.wait_seconds(100) == SILENT_SECONDS
    state.clock.now += SILENT_SECONDS  # type: ignore[attr-defined]
    state.moved(1)
    assert state.is_done(outbox_empty=False)
    assert "does not answer" in str(state.last_error)


def test_timeout_waits_for_a_silent_broker(state: ConnectionState):
    state.start_closing(60)
    state.clock.now += 59  # type: ignore[attr-defined]
    assert not state.wants_ping
    assert not state.is_done(outbox_empty=False)


def test_close_ends_and_reports_when_the_broker_is_frozen(broker: Mosquitto):
    """The end of the default time would be an error without the cause."""
    one = connect(options(broker))
    broker.freeze()
    try:
        one.send(b"12345", "a", 1)
        with pytest.raises(UndeliveredError, match=r"closed: .* does not answer") as end:
            one.close()
        assert [(m.topic, m.sent) for m in end.value.messages] == [("a", True)]
    finally:
        broker.thaw()


def test_close_ends_when_the_broker_is_frozen_between_two_connections(broker: Mosquitto):
    with Proxy(broker.port) as proxy:
        one = connect(
            MqttOptions(host="127.0.0.1", port=proxy.port, retry_min=0.05, retry_max=NEVER)
        )
        broker.freeze()
        try:
            proxy.cut()
            wait_until(lambda: not one.is_connected, "the loss of the connection")
            one.send(b"12345", "a", 1)
            with pytest.raises(UndeliveredError, match=r"closed: .* does not answer"):
                one.close()
        finally:
            broker.thaw()


def test_close_waits_for_a_large_message_on_a_slow_network(broker: Mosquitto):
    """The broker says nothing for longer than a silent one may."""
    with Proxy(broker.port, buffer=8192) as proxy:
        proxy.rate = 30_000
        one = connect(MqttOptions(host="127.0.0.1", port=proxy.port))
        delivery = one.send(b"x" * 30_000 * int(SILENT_SECONDS + 2), "a", 1)
        one.close()
        assert delivery.future.result(0) is None


# --- a close that an exception ends ---------------------------------------------------------------


class HeldLink:
    """Lets the link of a communicator end only when the test says so."""

    def __init__(self, communicator: Any) -> None:
        self.ended: Future[tuple[Undelivered, ...]] = Future()
        self.calls = 0
        self._link = communicator._core.link
        self._close = self._link.close
        self._link.close = self._held_close

    def _held_close(self, timeout: float | None, publish_will: bool = False) -> Any:
        self.calls += 1
        return self.ended

    def end(self, undelivered: tuple[Undelivered, ...] = ()) -> None:
        self._close(0)
        self.ended.set_result(undelivered)


LEFT = (Undelivered("a", 1, 1, sent=False),)


@pytest.mark.parametrize("undelivered", [(), LEFT])
def test_second_close_continues_a_cancelled_one(undelivered: tuple[Undelivered, ...]) -> None:
    async def scenario() -> None:
        communicator = await connect_async(MemoryOptions(broker=MemoryBroker()))
        held = HeldLink(communicator)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(communicator.close(), 0.01)
        second = asyncio.create_task(communicator.close())
        third = asyncio.create_task(communicator.close())
        await asyncio.sleep(0)
        await third  # like each call during another one
        assert not second.done()
        assert held.calls == 2
        held.end(undelivered)
        if undelivered:
            with pytest.raises(UndeliveredError) as caught:
                await second
            assert caught.value.messages == undelivered
        else:
            await second
        await communicator.close()
        assert held.calls == 2

    asyncio.run(scenario())


def test_second_close_continues_one_that_an_interrupt_has_ended() -> None:
    communicator = connect(MemoryOptions(broker=MemoryBroker()))
    held = HeldLink(communicator)
    finish = communicator._callbacks.finish
    for error in KeyboardInterrupt(), SystemExit():

        def interrupted(timeout: float, error: BaseException = error) -> None:
            raise error

        communicator._callbacks.finish = interrupted  # type: ignore[method-assign]
        with pytest.raises(type(error)):
            communicator.close()
    assert held.calls == 0
    communicator._callbacks.finish = finish  # type: ignore[method-assign]
    held.end(LEFT)
    with pytest.raises(UndeliveredError):
        communicator.close()
    communicator.close()
    assert held.calls == 1


def test_client_closes_its_communicator_after_a_cancelled_close() -> None:
    async def scenario() -> None:
        client = await AsyncMigfraClient.connect(MemoryOptions(broker=MemoryBroker()))
        held = HeldLink(client.communicator)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.close(), 0.01)
        held.end(LEFT)
        with pytest.raises(UndeliveredError):
            await client.close()

    asyncio.run(scenario())
