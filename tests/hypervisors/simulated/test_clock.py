"""Virtual time: jumps, order, and waits for real work."""

import asyncio
import threading

import pytest

from fastlib.migfra.errors import TaskCancelledError
from fastlib.migfra.hypervisors.simulated import Clock, run_virtual
from fastlib.migfra.hypervisors.simulated.clock import wall_time
from fastlib.migfra.hypervisors.simulated.scope import ClockScope
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import Context


def test_virtual_time_advances_to_next_timer():
    async def main():
        order = []

        async def sleeper(seconds):
            await asyncio.sleep(seconds)
            order.append((seconds, asyncio.get_running_loop().time()))

        await asyncio.gather(*map(sleeper, (86_400, 0.5, 3600)))
        return order

    assert run_virtual(main()) == [(0.5, 0.5), (3600, 3600), (86_400, 86_400)]


def test_executor_calls_take_no_virtual_time():
    async def main():
        before = threading.get_ident()
        assert await asyncio.to_thread(threading.get_ident) == before
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0


def test_virtual_loop_receives_calls_from_other_threads():
    async def main():
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        threading.Timer(0.01, loop.call_soon_threadsafe, [event.set]).start()
        await event.wait()
        return loop.time()

    assert run_virtual(main()) == 0


def test_clock_runs_at_its_speed():
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
