"""The context of a task: timers, progress, saved state, cancellation, retries, the communicator."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from logging import Logger, LoggerAdapter, getLogger
from math import isfinite
from typing import Any, Final, TypeVar, cast

import msgspec

from fastlib.message import TimeMeasurement
from fastlib.migfra.telemetry.logs import About, about
from fastlib.transport import AsyncCommunicator

from . import retrying
from .cancellation import Cancellation
from .expiry import Expiry

T = TypeVar("T")


class ProgressFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a task. A value that is not known is None."""

    phase: str
    """The present step, such as `copy` or `switch over`."""
    vm_name: str | None = None
    """The domain, if it is not the task's own."""
    percent: float | None = None
    transferred: int | None = None
    """Bytes that have moved."""
    total: int | None = None
    """Total bytes to move."""
    remaining: int | None = None
    """Bytes that are still to move."""
    disk_transferred: int | None = None
    """The part of `transferred` that is of disks."""
    disk_total: int | None = None
    """The part of `total` that is of disks."""
    disk_remaining: int | None = None
    """The part of `remaining` that is of disks."""
    dirty_rate: int | None = None
    """Bytes that the domain writes each second."""
    expected: float | None = None
    """Estimated seconds until the end."""
    position: int | None = None
    """The place in the queue of a task that waits; 1 is the next one."""


@dataclass(frozen=True, kw_only=True)
class DaemonServices:
    """The daemon's services for the context of a task; a test gives only those that it needs."""

    store_state: Callable[[Mapping[str, Any]], "Future[None]"] | None = None
    """Writes the saved state to the journal."""
    store_begin: Callable[[], "Future[None]"] | None = None
    """Writes to the journal that the task begins."""
    report: Callable[[ProgressFacts], object] | None = None
    """Publishes progress."""
    set_waiting: Callable[[bool], object] | None = None
    """Notes whether the task only waits for its turn in the hypervisor."""
    retried: Callable[[str, str | None], object] | None = None
    """Logs and counts a retry: its number, its reason, and its domain if not the task's own.
    """
    pauses: Callable[[], Iterator[float]] = retrying.pauses
    """Begins a series of pauses between attempts, in seconds."""
    communicator: AsyncCommunicator | None = None
    loop: asyncio.AbstractEventLoop | None = None


class Context:
    """The daemon's services for one task. Every method may be called from any thread."""

    def __init__(
        self,
        host: str,
        *,
        id: str | None = None,
        attempt: int = 0,
        log: Logger | LoggerAdapter[Logger] | None = None,
        measurement: TimeMeasurement | None = None,
        cancellation: Cancellation | None = None,
        expiry: Expiry | None = None,
        saved_state: Mapping[str, Any] | None = None,
        services: DaemonServices | None = None,
    ) -> None:
        """The daemon makes these; in a test, `Context("node01")` is enough."""
        self.host: Final = host
        """Name of the host, as in topics and in `destination`."""
        self.id: Final = id
        """Id of the task's container, None if it has none."""
        self.attempt: Final = attempt
        """0 for the first attempt. The daemon calls the method again for each retry."""
        self.log: Final = log or getLogger("fastlib.migfra.task")
        """Logs with the id of the task."""
        self.measurement: Final = (
            TimeMeasurement(enabled=False) if measurement is None else measurement
        )
        """The timers of the result."""
        self.expiry: Final = expiry or Expiry(host=host)
        """Whether the task has begun, and the latest time at which it may."""
        self._beginning = done()
        self._cancellation = cancellation or Cancellation()
        self._saved_state = dict(saved_state or {})
        self._services = services or DaemonServices()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Measure a block for the result's `time-measurement`, if the task requests it.

        The daemon measures `overall`. A timer that runs already continues.
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
        disk_transferred: int | None = None,
        disk_total: int | None = None,
        disk_remaining: int | None = None,
        dirty_rate: int | None = None,
        expected: float | None = None,
        position: int | None = None,
        vm_name: str | None = None,
    ) -> None:
        """Report the progress of the task, at any rate: the daemon bounds the rate of messages.

        Amounts are bytes, the rate bytes per second, `expected` seconds until the end. The amounts
        of disks are part of the others. `position` is the place in a queue, 1 for the next one.
        """
        if self._services.report is not None:
            self._services.report(
                ProgressFacts(
                    phase=phase,
                    vm_name=vm_name,
                    percent=percent,
                    transferred=transferred,
                    total=total,
                    remaining=remaining,
                    disk_transferred=disk_transferred,
                    disk_total=disk_total,
                    disk_remaining=disk_remaining,
                    dirty_rate=dirty_rate,
                    expected=expected,
                    position=position,
                )
            )

    @contextmanager
    def about(self, vm_name: str) -> Iterator[None]:
        """Name a domain in all log lines of the block, for a task with several domains."""
        token = about.set(About(self.id, vm_name))
        try:
            yield
        finally:
            about.reset(token)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark the block as a wait for the task's turn. Other tasks need not wait for it.

        The task's places among the limits of the daemon (`limits`) go to other tasks, and
        `query node` shows it as queued.
        """
        if self._services.set_waiting is None:
            yield
            return
        self._services.set_waiting(True)
        try:
            yield
        finally:
            self._services.set_waiting(False)

    def begin(self) -> "Future[None]":
        """Note that the task acts on a domain from now on. It can then no longer expire.

        Call it after all waits and before the first change, if the hypervisor has `begins_itself`,
        and wait for the future before that change: it is done when the journal has stored the
        begin. It may be called again. Raises TaskExpiredError if the order has expired. In a
        coroutine, `CancelScope.begin` does both.
        """
        begun = self.expiry.begun
        self.expiry.begin()
        if not begun and self._services.store_begin is not None:
            self._beginning = self._services.store_begin()
        return self._beginning

    def not_begun(self) -> None:
        """Note that the task has not begun: `recover` has found that it only waited.

        From now on it can expire, until `begin` is called. Raises TaskExpiredError if it has
        expired.
        """
        self.expiry.reset()
        self.expiry.check()

    @property
    def cancelled(self) -> bool:
        """True as soon as the task must end."""
        return self._cancellation.cancelled

    def check_cancelled(self) -> None:
        """Raise TaskCancelledError if the task must end."""
        self._cancellation.check()

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Register `callback`.

        It is called once when the task must end, at once if it is cancelled already.

        It is called in the loop or in a thread, and must not block. Returns a function that removes
        the callback.
        """
        return self._cancellation.on_cancel(callback)

    async def wait_cancelled(self) -> None:
        """Wait until the task is cancelled."""
        await self._cancellation.wait()

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`. Raises TaskCancelledError as soon as the task is cancelled.

        A plain method waits by `context.run(context.sleep(seconds))`.
        """
        await self._cancellation.sleep(seconds)

    async def retrying(
        self,
        operation: Callable[[int], Awaitable[T]],
        *,
        retries: int | None,
        vm_name: str | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        pauses: Iterator[float] | None = None,
    ) -> tuple[T, int]:
        """Await `operation(attempt)` until it succeeds; return its outcome and the retries made.

        The daemon repeats whole tasks by their retry counter. Use this for one part of a task,
        such as one domain of an evacuation, where the whole task must not be repeated::

            result, retries = await context.retrying(
                lambda attempt: self.move(vm_name, destination),
                retries=task.parameter.retry_counter,
                vm_name=vm_name,
            )

        After a HypervisorError the operation is repeated at most `retries` times. Before each
        retry the error is logged, the phase `retry` of the domain `vm_name` is published, the
        retry is counted, and `sleep(pause)` is awaited. Pauses are those of `retry` in the
        configuration; `pauses` gives others, in seconds. `sleep` is `Context.sleep`; give another
        one if more than the task's cancellation can end it.

        Raises the last error when no retry is left, the task is cancelled or its order has expired,
        TaskCancelledError if the task is cancelled during a pause, and UnsupportedError and
        FinalError at once.
        """
        most = retries or 0

        def before_retry(error: Exception, retry: int, pause: float) -> None:
            self.progress("retry", vm_name=vm_name)
            text = f"retry {retry} of {most} in {pause:.1f} s: {error}"
            if self._services.retried is None:
                self.log.warning("%s", text)
            else:
                self._services.retried(text, vm_name)

        return await retrying.retry(
            operation,
            retries=most,
            pauses=self._services.pauses() if pauses is None else pauses,
            sleep=self.sleep if sleep is None else sleep,
            cancelled=lambda: self.cancelled,
            before_retry=before_retry,
            against_retry=self.expiry.against_retry,
        )

    @property
    def saved_state(self) -> Mapping[str, Any]:
        """The value that `save_state` has saved, in this run of the daemon or an earlier one."""
        return dict(self._saved_state)

    def save_state(self, **values: Any) -> "Future[None]":
        """Save small facts in the journal with the task; `recover` finds them in `saved_state`.

        Values are what JSON has: None, truth values, finite numbers, texts, and lists and mappings
        of them with texts as keys. A tuple is loaded as a list. The future is done when they are
        stored: wait for it before an action that a later run of the daemon must find in the
        journal.

        Raises TypeError for other values, such as sets and bytes, because they would change.
        """
        check_state(values)
        self._saved_state.update(values)
        if self._services.store_state is not None:
            return self._services.store_state(dict(self._saved_state))
        return done()

    @property
    def communicator(self) -> AsyncCommunicator:
        """The daemon's communicator, for coroutines. Raises RuntimeError if there is none."""
        if self._services.communicator is None:
            raise RuntimeError("this context has no communicator")
        return self._services.communicator

    def send(self, topic: str, payload: bytes, qos: int = 1) -> "Future[None]":
        """Send a message, from a thread or a coroutine.

        The future is done when the transport has accepted the message. Wait for it only in a
        thread.
        """

        async def send() -> None:
            await self.communicator.send(payload, topic, qos)

        return self._submit(send())

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the daemon's loop and wait for its result.

        Call it only in a blocking method.
        """
        return self._submit(coroutine).result(timeout)

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._services.loop is None:
            coroutine.close()
            raise RuntimeError("this context has no loop")
        return asyncio.run_coroutine_threadsafe(coroutine, self._services.loop)


def check_state(values: Mapping[str, Any]) -> None:
    """Raise TypeError for values that JSON would change."""
    for name, value in values.items():
        _check_state(name, value)


def _check_state(place: str, value: object) -> None:
    kind = type(value)
    if (
        value is None
        or kind in (bool, int, str)
        or (kind is float and isfinite(cast(float, value)))
    ):
        return
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_state(f"{place}[{index}]", item)
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"save_state: a key of {place} must be a text; got {key!r}")
            _check_state(f"{place}[{key!r}]", item)
        return
    remedy = "; save a sorted list" if isinstance(value, set | frozenset) else ""
    if isinstance(value, bytes | bytearray):
        remedy = "; save a text, such as value.hex()"
    shown = f"{value!r}" if kind is float else f"a {kind.__name__}"
    raise TypeError(
        f"save_state: {place} must be None, a truth value, a finite number, a text, or a list or "
        f"mapping of these; got {shown}{remedy}"
    )


def done() -> "Future[None]":
    """Return a future that is done."""
    return _DONE


_DONE: Final[Future[None]] = Future()
_DONE.set_result(None)
