"""A connection that is being made is awaited, or entered by `async with`."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastlib.client import AsyncMigfraClient, ClientError
from fastlib.transport import (
    ClosedError,
    ConnectError,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    Opening,
    connect_async,
)
from tests.support.mosquitto import free_port

Connect = Callable[[MemoryOptions], Opening[Any]]
CONNECT: list[Connect] = [connect_async, AsyncMigfraClient.connect]
both = pytest.mark.parametrize("connect", CONNECT, ids=["communicator", "client"])


async def is_closed(opened: Any) -> bool:
    """Return whether a communicator or a client refuses work."""
    try:
        if isinstance(opened, AsyncMigfraClient):
            await opened.query("a", timeout=0.1)
        else:
            await opened.send(b"", "a")
    except (ClosedError, ClientError):
        return True
    return False


@both
def test_async_with_opens_and_closes(connect: Connect) -> None:
    async def scene() -> None:
        async with connect(MemoryOptions(broker=MemoryBroker())) as opened:
            assert not await is_closed(opened)
        assert await is_closed(opened)

    asyncio.run(scene())


@both
def test_await_leaves_the_end_to_the_caller(connect: Connect) -> None:
    async def scene() -> None:
        opened = await connect(MemoryOptions(broker=MemoryBroker()))
        assert not await is_closed(opened)
        async with opened as same:
            assert same is opened
        assert await is_closed(opened)

    asyncio.run(scene())


@both
def test_error_of_the_block_is_raised_after_the_end(connect: Connect) -> None:
    seen = []

    async def scene() -> None:
        async with connect(MemoryOptions(broker=MemoryBroker())) as opened:
            seen.append(opened)
            raise LookupError("of the block")

    async def ended() -> None:
        with pytest.raises(LookupError, match="of the block"):
            await scene()
        assert await is_closed(seen[0])

    asyncio.run(ended())


@both
def test_tasks_take_it_as_a_coroutine(connect: Connect) -> None:
    async def scene() -> None:
        opened = await asyncio.create_task(connect(MemoryOptions(broker=MemoryBroker())))
        async with opened, asyncio.timeout(5):
            assert not await is_closed(opened)

    asyncio.run(scene())


@both
def test_cancelled_task_ends_the_connection_attempt(connect: Callable[..., Opening[Any]]) -> None:
    async def scene() -> None:
        task = asyncio.create_task(connect(MqttOptions(host="127.0.0.1", port=free_port())))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())


def test_block_is_not_entered_without_a_connection() -> None:
    async def scene() -> None:
        options = MqttOptions(host="127.0.0.1", port=free_port())
        async with connect_async(options, timeout=0.1):
            pytest.fail("entered")

    with pytest.raises(ConnectError):
        asyncio.run(scene())


def test_forgotten_await_is_reported() -> None:
    opening: list[Opening[Any]] = [connect_async(MemoryOptions(broker=MemoryBroker()))]
    with pytest.warns(RuntimeWarning, match="never awaited"):
        opening.clear()


def test_second_use_is_an_error() -> None:
    async def scene() -> None:
        opening = connect_async(MemoryOptions(broker=MemoryBroker()))
        await (await opening).close()
        with pytest.raises(RuntimeError, match="already awaited"):
            await opening

    asyncio.run(scene())
