"""A communicator for coroutines whose event loop has ended, or is another one."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from fastlib.transport import AsyncCommunicator, LoopError, ReceivedMessage, connect, connect_async
from tests.support.waiting import wait_until


async def ignore(message: ReceivedMessage) -> None:
    """Do nothing."""


async def subscribed(options: Any) -> AsyncCommunicator:
    one = await connect_async(options)
    await one.subscribe("a/b", ignore)
    return one


def test_message_after_the_end_of_the_loop_ends_the_communicator(
    options: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    one = asyncio.run(subscribed(options()))
    with connect(options()) as other:
        other.subscribe("a/b")
        other.send(b"x", "a/b").future.result(60)
        assert other.receive(timeout=60).payload == b"x"  # the sender notices nothing
        wait_until(lambda: not one.is_connected)
        other.send(b"y", "a/b").future.result(60)
        assert other.receive(timeout=60).payload == b"y"
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "its event loop has ended without `close`" in errors[0].getMessage()
    assert errors[0].exc_info is None


def test_communicator_is_closed_in_another_loop(options: Callable[..., Any]) -> None:
    one = asyncio.run(subscribed(options()))
    asyncio.run(one.close())
    wait_until(lambda: not one.is_connected)


def test_communicator_is_closed_while_its_own_loop_runs(
    options: Callable[..., Any], loop: asyncio.AbstractEventLoop
) -> None:
    one = asyncio.run_coroutine_threadsafe(subscribed(options()), loop).result(60)
    asyncio.run(one.close())
    assert not one.is_connected


def test_callback_in_another_loop_is_refused(options: Callable[..., Any]) -> None:
    one = asyncio.run(subscribed(options()))

    async def other_loop() -> None:
        with pytest.raises(LoopError, match="belongs to another event loop"):
            await one.subscribe("a/c", ignore)
        await one.close()

    asyncio.run(other_loop())
