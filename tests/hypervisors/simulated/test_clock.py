"""Virtual time: leaps, order, and the real work that it waits for."""

import asyncio
import threading

import pytest

from fastlib.migfra.errors import TaskCancelledError
from fastlib.migfra.hypervisors.simulated import Clock, run_virtual
from fastlib.migfra.hypervisors.simulated.clock import wall_time
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import Context


def test_time_leaps_to_what_is_due():
    async def main():
        order = []

        async def sleeper(seconds):
            await asyncio.sleep(seconds)
            order.append((seconds, asyncio.get_running_loop().time()))

        await asyncio.gather(*map(sleeper, (86_400, 0.5, 3600)))
        return order

    assert run_virtual(main()) == [(0.5, 0.5), (3600, 3600), (86_400, 86_400)]


def test_what_runs_in_threads_takes_no_time():
    async def main():
        before = threading.get_ident()
        assert await asyncio.to_thread(threading.get_ident) == before
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


def test_a_message_from_another_thread_arrives():
    async def main():
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        threading.Timer(0.01, loop.call_soon_threadsafe, [event.set]).start()
        await event.wait()
        return loop.time()

    assert run_virtual(main()) == 0


def test_a_clock_passes_faster():
    async def main():
        clock = Clock(wall_time(), speed=60)
        await clock.sleep(120)
        return clock.now(), asyncio.get_running_loop().time()

    assert run_virtual(main()) == (120, 2)


def test_sleep_ends_when_the_task_is_cancelled():
    async def main():
        cancellation = Cancellation()
        loop = asyncio.get_running_loop()
        loop.call_later(3, cancellation.cancel)
        with ClockScope(Clock(0), Context("a", cancellation=cancellation)) as scope:
            await scope.sleep(1)
            with pytest.raises(TaskCancelledError):
                await scope.sleep(100)
            with pytest.raises(TaskCancelledError):
                await scope.sleep(0)
            assert loop.time() == 3
            await scope.hang(5)
            assert loop.time() == 8

    run_virtual(main())
