import asyncio
import logging
import threading
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from fastlib.migfra.journal import commit_thread
from fastlib.migfra.journal.commit_thread import CommitThread

VALUE: ContextVar[str] = ContextVar("value", default="none")


@pytest.fixture
def writer() -> Iterator[CommitThread]:
    writer = CommitThread("the writer")
    yield writer
    writer.shutdown()


async def call(writer: CommitThread, function: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(writer, function, *arguments)


def test_calls_run_in_order_in_one_thread_that_is_not_the_loops(writer: CommitThread) -> None:
    seen: list[tuple[int, threading.Thread]] = []

    def note(number: int) -> int:
        seen.append((number, threading.current_thread()))
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(call(writer, note, number) for number in range(20)))

    assert asyncio.run(main()) == list(range(20))
    assert [number for number, _ in seen] == list(range(20))
    (thread,) = {thread for _, thread in seen}
    assert thread is not threading.main_thread()
    assert (thread.name, thread.daemon) == ("the writer", True)


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt("wrong")])
def test_call_raises_its_error_and_the_thread_continues(
    writer: CommitThread, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    async def main() -> None:
        future = asyncio.get_running_loop().run_in_executor(writer, fail)
        await asyncio.wait((future,))
        assert future.exception() is error
        assert await call(writer, lambda: "goes on") == "goes on"

    asyncio.run(main())


def test_cancelled_call_runs_all_the_same_and_its_outcome_is_dropped(
    writer: CommitThread, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go, ran = threading.Event(), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait()
        ran.set()

    async def main() -> None:
        future = asyncio.get_running_loop().run_in_executor(writer, wait)
        while not begun.is_set():
            await asyncio.sleep(0)
        future.cancel()
        go.set()
        await call(writer, lambda: None)
        assert future.cancelled()

    asyncio.run(main())
    assert ran.is_set()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_log_lines_of_the_thread_have_the_context_of_its_start(writer: CommitThread) -> None:
    async def main() -> str:
        VALUE.set("of the start")
        return str(await call(writer, VALUE.get))

    assert asyncio.run(main()) == "of the start"


def test_idle_thread_ends_and_the_next_call_starts_another(
    writer: CommitThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_thread, "IDLE_SECONDS", 0.001)

    async def main() -> None:
        first = await call(writer, threading.current_thread)
        await asyncio.to_thread(first.join)
        second = await call(writer, threading.current_thread)
        assert second is not first

    asyncio.run(main())


def test_shutdown_lets_the_thread_finish_its_work_and_end(writer: CommitThread) -> None:
    async def main() -> None:
        thread = await call(writer, threading.current_thread)
        last = asyncio.get_running_loop().run_in_executor(writer, lambda: "done")
        writer.shutdown()
        writer.shutdown()
        assert await last == "done"
        await asyncio.to_thread(thread.join)

    asyncio.run(main())


def test_waiting_thread_holds_nothing_of_its_last_call(writer: CommitThread) -> None:
    class Result:
        pass

    async def main() -> None:
        held = weakref.ref(await call(writer, Result))
        while held() is not None:  # the thread lets go of it right after its answer
            await asyncio.sleep(0)

    asyncio.run(main())


def test_outcome_for_a_loop_that_has_ended_is_dropped(writer: CommitThread) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait() -> threading.Thread:
        begun.set()
        go.wait()
        return threading.current_thread()

    async def begin() -> None:
        asyncio.get_running_loop().run_in_executor(writer, wait)
        while not begun.is_set():
            await asyncio.sleep(0)

    async def main() -> Any:
        go.set()
        return await call(writer, lambda: "goes on")

    asyncio.run(begin())
    assert asyncio.run(main()) == "goes on"


@pytest.fixture
def patient() -> Iterator[CommitThread]:
    writer = CommitThread("the writer", lambda: False)
    yield writer
    writer.shutdown()


def test_outcome_that_is_not_urgent_waits_until_the_loop_takes_it(
    patient: CommitThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_thread, "LONGEST_SECONDS", 3600.0)

    async def main() -> None:
        first, second = (
            asyncio.get_running_loop().run_in_executor(patient, lambda number=number: number)
            for number in (1, 2)
        )
        while len(patient._outcomes) < 2:
            await asyncio.sleep(0)
        assert not first.done()
        patient.take()
        assert (await first, await second) == (1, 2)

    asyncio.run(main())


def test_outcome_that_is_not_urgent_comes_late(
    patient: CommitThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_thread, "LONGEST_SECONDS", 0.001)

    async def main() -> None:
        assert await call(patient, lambda: "late") == "late"
        assert await call(patient, lambda: "late again") == "late again"

    asyncio.run(main())


def test_thread_that_ends_reports_the_outcome_that_waits(
    patient: CommitThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_thread, "LONGEST_SECONDS", 3600.0)

    async def main() -> None:
        future = asyncio.get_running_loop().run_in_executor(patient, lambda: "the last")
        while not patient._outcomes:
            await asyncio.sleep(0)
        patient.shutdown()
        assert await future == "the last"

    asyncio.run(main())
