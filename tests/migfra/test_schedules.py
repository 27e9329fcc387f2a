"""Orders under a virtual clock (the loop; the broker and the daemons are to come)."""

import asyncio
import threading

import pytest

from tests.support.schedules.loop import Deadlock, run


def test_a_day_of_waiting_passes_at_once_and_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()

        async def wait(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, loop.time()))

        await asyncio.gather(wait("day", 86400), wait("second", 1), wait("hour", 3600))
        return seen

    assert run(main()) == [("second", 1), ("hour", 3600), ("day", 86400)]


def test_a_timeout_ends_by_the_virtual_clock() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 600)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(600)


def test_waiting_for_what_never_comes_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no timer"):
        run(main())


def test_a_thread_runs_in_the_thread_of_the_loop_and_after_what_was_ready() -> None:
    async def main() -> list[object]:
        seen: list[object] = []
        loop = asyncio.get_running_loop()
        loop.call_soon(seen.append, "ready before")
        seen.append(await asyncio.to_thread(threading.current_thread))
        return seen

    assert run(main()) == ["ready before", threading.main_thread()]


def test_an_error_in_a_thread_reaches_the_one_who_waits() -> None:
    def fail() -> None:
        raise OSError("disk full")

    async def main() -> None:
        await asyncio.to_thread(fail)

    with pytest.raises(OSError, match="disk full"):
        run(main())
