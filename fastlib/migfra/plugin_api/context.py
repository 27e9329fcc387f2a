"""What a hypervisor gets with a task: timers, progress, cancellation, the communicator."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from logging import Logger, LoggerAdapter, getLogger
from typing import Any, Final, TypeVar

import msgspec

from fastlib.message import TimeMeasurement
from fastlib.transport import AsyncCommunicator

from .cancellation import Cancellation

T = TypeVar("T")


class ProgressFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How far a task has come; None is what is not known."""

    phase: str
    """What is being done, such as `copy` or `switch over`."""
    vm_name: str | None = None
    """The domain, where it is not the task's own."""
    percent: float | None = None
    transferred: int | None = None
    """Bytes that have moved."""
    total: int | None = None
    """Bytes that there are."""
    remaining: int | None = None
    """Bytes that are still to move."""
    dirty_rate: int | None = None
    """Bytes that the domain writes each second."""
    expected: float | None = None
    """Seconds until the end, as far as anyone can tell."""


class Context:
    """What a hypervisor gets with a task. Every method may be called from any thread."""

    def __init__(
        self,
        host: str,
        *,
        id: str | None = None,
        attempt: int = 0,
        log: Logger | LoggerAdapter[Logger] | None = None,
        measurement: TimeMeasurement | None = None,
        cancellation: Cancellation | None = None,
        notes: Mapping[str, Any] | None = None,
        keep: Callable[[Mapping[str, Any]], "Future[None]"] | None = None,
        report: Callable[[ProgressFacts], object] | None = None,
        communicator: AsyncCommunicator | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """The daemon makes these; in a test, `Context("node01")` will do."""
        self.host: Final = host
        """Name of the host, as it stands in topics and in `destination`."""
        self.id: Final = id
        """Id of the task's container, None if it has none."""
        self.attempt: Final = attempt
        """0 for the first try. The daemon calls the method again for each further one."""
        self.log: Final = log or getLogger("fastlib.migfra.task")
        """Logs with the id of the task."""
        self.measurement: Final = (
            TimeMeasurement(enabled=False) if measurement is None else measurement
        )
        """The timers of the result."""
        self._cancellation = cancellation or Cancellation()
        self._notes = dict(notes or {})
        self._keep = keep
        self._report = report
        self._communicator = communicator
        self._loop = loop

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Times a block for the result's `time-measurement`, if the task asked for it.

        The daemon measures `overall`. A timer that runs already goes on.
        """
        if name in self.measurement.running:
            yield
        else:
            with self.measurement.measure(name):
                yield

    def progress(
        self,
        phase: str,
        *,
        percent: float | None = None,
        transferred: int | None = None,
        total: int | None = None,
        remaining: int | None = None,
        dirty_rate: int | None = None,
        expected: float | None = None,
        vm_name: str | None = None,
    ) -> None:
        """Tell how far the task has come, as often as you like: the daemon bounds what is sent.

        Amounts are bytes, the rate bytes per second, `expected` seconds until the end.
        """
        if self._report is not None:
            self._report(
                ProgressFacts(
                    phase=phase,
                    vm_name=vm_name,
                    percent=percent,
                    transferred=transferred,
                    total=total,
                    remaining=remaining,
                    dirty_rate=dirty_rate,
                    expected=expected,
                )
            )

    @property
    def cancelled(self) -> bool:
        """True from the moment on that the task is to end."""
        return self._cancellation.cancelled

    def check_cancelled(self) -> None:
        """Raises TaskCancelledError if the task is to end."""
        self._cancellation.check()

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have `callback` called once when the task is to end, at once if it is so already.

        It is called in the loop or in a thread, and must not block. Returns a function that takes
        the callback back.
        """
        return self._cancellation.on_cancel(callback)

    async def wait_cancelled(self) -> None:
        """Wait until the task is to end."""
        await self._cancellation.wait()

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was noted, by this run of the daemon or the one before."""
        return dict(self._notes)

    def note(self, **values: Any) -> "Future[None]":
        """Keep small facts in the journal with the task; they are there again in `recover`.

        Values are what JSON has. The future is done when they are stored: wait for it before doing
        what a later run of the daemon must know of. Raises TypeError for what JSON has not.
        """
        msgspec.json.encode(values)
        self._notes.update(values)
        if self._keep is not None:
            return self._keep(dict(self._notes))
        return done()

    @property
    def communicator(self) -> AsyncCommunicator:
        """The daemon's communicator, for coroutines. Raises RuntimeError if there is none."""
        if self._communicator is None:
            raise RuntimeError("this context has no communicator")
        return self._communicator

    def send(self, topic: str, payload: bytes, qos: int = 1) -> "Future[None]":
        """Send a message, from a thread or a coroutine.

        The future is done when the transport has accepted the message; wait for it in a thread, or
        not at all.
        """

        async def send() -> None:
            await self.communicator.send(payload, topic, qos)

        return self._submit(send())

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """From a blocking method: run a coroutine in the daemon's loop and wait for its result."""
        return self._submit(coroutine).result(timeout)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("this context has no loop")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def done() -> "Future[None]":
    """A future for what needs no waiting."""
    future: Future[None] = Future()
    future.set_result(None)
    return future
