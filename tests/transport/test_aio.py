"""Tests of the communicator for coroutines: iteration and cancellation."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from fastlib.transport import (
    AsyncCommunicator,
    Communicator,
    ConnectError,
    MemoryBroker,
    MemoryOptions,
    ReceivedMessage,
    SubscriptionError,
    UndeliveredError,
    WaitTimeoutError,
    connect_async,
)
from fastlib.transport.aio import MESSAGES_IN_A_ROW


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


@in_a_loop
async def test_messages_iterates_until_close() -> None:
    broker = MemoryBroker()
    async with await connect_async(MemoryOptions(broker=broker)) as one:
        await one.subscribe("a/#")
        for number in range(3):
            await (await one.send(b"%d" % number, "a/b"))
        seen = []
        async for message in one.messages("a/#"):
            seen.append(message.payload)
            if len(seen) == 3:
                asyncio.get_running_loop().call_soon(asyncio.create_task, one.close())
    assert seen == [b"0", b"1", b"2"]


@in_a_loop
async def test_cancelled_receive_loses_no_message() -> None:
    async with await connect_async(MemoryOptions(broker=MemoryBroker())) as one:
        await one.subscribe("a")
        for number in range(200):
            waiting = asyncio.create_task(one.receive("a"))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            await one.send(b"%d" % number, "a")
            waiting.cancel()
            try:
                message = await waiting
            except asyncio.CancelledError:
                message = await one.receive("a", timeout=60)
            assert message.payload == b"%d" % number


@in_a_loop
async def test_other_tasks_run_while_there_is_always_a_message() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with await connect_async(MemoryOptions(broker=MemoryBroker())) as one:
        await one.subscribe("a")
        for number in range(5 * MESSAGES_IN_A_ROW):
            await one.send(b"%d" % number, "a")
        task = asyncio.create_task(other())
        for number in range(5 * MESSAGES_IN_A_ROW):
            assert (await one.receive("a")).payload == b"%d" % number
            assert turns == number // MESSAGES_IN_A_ROW
        task.cancel()


@in_a_loop
async def test_readers_get_messages_in_order() -> None:
    async with await connect_async(MemoryOptions(broker=MemoryBroker())) as one:
        await one.subscribe("a")
        waiting = [asyncio.create_task(one.receive("a", timeout=60)) for _ in range(50)]
        await asyncio.sleep(0)
        for number in range(50):
            await one.send(b"%d" % number, "a")
        assert [int((await task).payload) for task in waiting] == list(range(50))


@in_a_loop
async def test_unsubscribe_ends_waiting_receive() -> None:
    async with await connect_async(MemoryOptions(broker=MemoryBroker())) as one:
        await one.subscribe("a")
        waiting = asyncio.create_task(one.receive("a"))
        await asyncio.sleep(0)
        await one.unsubscribe("a")
        with pytest.raises(SubscriptionError, match="unsubscribed"):
            await waiting


@in_a_loop
async def test_subscribe_times_out_while_cut_off() -> None:
    broker = MemoryBroker()
    one = await connect_async(MemoryOptions(broker=broker, client_id="a"))
    broker.cut("a")
    with pytest.raises(WaitTimeoutError):
        await one.subscribe("a", timeout=0.01)
    await one.send(b"", "a")
    with pytest.raises(UndeliveredError):
        await one.close(timeout=0.01)


def test_both_communicators_have_the_same_methods() -> None:
    """The async class has the methods of the sync class, iteration, and `send_now`."""

    def names(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert names(AsyncCommunicator) - names(Communicator) == {
        "messages",
        "open",
        "send_now",
    }
    assert names(Communicator) <= names(AsyncCommunicator)


@in_a_loop
async def test_on_close_callback_runs_in_the_loop() -> None:
    one = await connect_async(MemoryOptions(broker=MemoryBroker()))
    called = asyncio.Event()
    loop = asyncio.get_running_loop()
    one.on_close(lambda error: called.set() if asyncio.get_running_loop() is loop else None)
    one.on_close(lambda error: pytest.fail("taken back"))()
    await one.close()
    async with asyncio.timeout(20):
        await called.wait()


@in_a_loop
async def test_wait_for_callbacks_has_a_timeout() -> None:
    async with connect_async(MemoryOptions(broker=MemoryBroker())) as one:
        may_return, returned = asyncio.Event(), asyncio.Event()

        async def callback(message: ReceivedMessage) -> None:
            await may_return.wait()
            await one.wait_for_callbacks()  # a callback does not wait for itself
            returned.set()

        await one.subscribe("a", callback)
        await one.send(b"", "a")
        with pytest.raises(WaitTimeoutError, match="callbacks have not returned within 0 s"):
            await one.wait_for_callbacks(0)
        may_return.set()
        await one.wait_for_callbacks(20)
        assert returned.is_set()


@in_a_loop
async def test_failed_open_closes_the_link() -> None:
    broker = MemoryBroker()
    broker.cut("a")
    with pytest.raises(ConnectError, match=r"within 0.01 s"):
        await connect_async(MemoryOptions(broker=broker, client_id="a"), timeout=0.01)


@in_a_loop
async def test_unfinished_callbacks_are_cancelled_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = await connect_async(MemoryOptions(broker=MemoryBroker()))
    started = asyncio.Event()

    async def never_ends(_: ReceivedMessage) -> None:
        started.set()
        await asyncio.Event().wait()

    await one.subscribe("a", never_ends)
    for _ in range(3):
        await one.send(b"", "a")
    await started.wait()
    await one.close(timeout=0.01)
    assert "closed before callbacks have seen 2 messages" in caplog.text


@in_a_loop
async def test_callback_may_close_the_communicator() -> None:
    one = await connect_async(MemoryOptions(broker=MemoryBroker()))
    closed = asyncio.Event()

    async def close(_: ReceivedMessage) -> None:
        await one.close()
        closed.set()

    await one.subscribe("a", close)
    await one.send(b"", "a")
    await closed.wait()
    assert not one.is_connected
