"""The requests that wait for an answer, and which answer belongs to which. No network here."""

import heapq
import secrets
import threading
import time
from collections.abc import Iterable
from itertools import count
from logging import getLogger

import msgspec

from fastlib.message import ResultContainer, Task, TaskContainer
from fastlib.message.topics import check_name

from .errors import (
    ClientClosedError,
    IdTakenError,
    NoResultError,
    NotUnderstoodError,
    UnexpectedResultError,
)
from .request import Request

log = getLogger("fastlib.client")

UNKNOWN = "unknown"
"""Title of the answer to a message that a daemon could not read."""

MAX_DOUBTS = 5
"""How many strange answers an error tells of."""


class Book:
    """Requests by host and id. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[str, Request]] = {}
        self._count = 0
        self._deadlines: list[tuple[float, int, Request]] = []
        """A heap, in which what is answered stays until it would outweigh what is not."""
        self._numbers = count(1)
        self._prefix = secrets.token_hex(8)
        self._closed: str | None = None
        """Why no more is taken."""

    def enter(
        self, host: str, work: TaskContainer | Task | Iterable[Task], timeout: float | None
    ) -> Request:
        """A new request, with an id that no other has.

        Raises ValidationError for what is no container or no host, IdTakenError, and
        ClientClosedError.
        """
        check_name(host, "host")
        container = _contained(work)
        number = next(self._numbers)
        if container.id is None:
            container = msgspec.structs.replace(container, id=f"{self._prefix}-{number}")
        request = Request(host, container, timeout, time.monotonic())
        with self._lock:
            if self._closed is not None:
                raise ClientClosedError(self._closed)
            waiting = self._waiting.setdefault(host, {})
            if request.id in waiting:
                raise IdTakenError(f"{request} is on its way already; take another id")
            waiting[request.id] = request
            self._count += 1
            if request.deadline is not None:
                heapq.heappush(self._deadlines, (request.deadline, number, request))
                if len(self._deadlines) > 2 * self._count + 100:
                    self._deadlines = [one for one in self._deadlines if not one[2].future.done()]
                    heapq.heapify(self._deadlines)
        return request

    def drop(self, request: Request) -> bool:
        """Forget a request; False if it was not waiting any more."""
        with self._lock:
            return self._drop(request)

    def _drop(self, request: Request) -> bool:
        waiting = self._waiting.get(request.host)
        if waiting is None or waiting.get(request.id) is not request:
            return False
        del waiting[request.id]
        self._count -= 1
        if not waiting:
            del self._waiting[request.host]
        return True

    def of(self, host: str) -> list[Request]:
        """The requests that wait for a host, oldest first."""
        with self._lock:
            return list(self._waiting.get(host, {}).values())

    def waits_for(self, host: str) -> bool:
        """True if a request waits for a host."""
        with self._lock:
            return host in self._waiting

    def find(self, host: str, id: str | None) -> Request | None:
        """The request with an id."""
        with self._lock:
            return None if id is None else self._waiting.get(host, {}).get(id)

    def __len__(self) -> int:
        with self._lock:
            return self._count

    def answered(self, host: str, results: ResultContainer, *, keeps_ids: bool = False) -> None:
        """Results of a host have come, ours or others'.

        `keeps_ids` is True if its daemon answers with the id also what it could not read: an
        answer without one is then not to us, whose messages all have one.
        """
        unknown = results.result == UNKNOWN
        if results.id is None:
            if unknown and not keeps_ids:
                self._not_understood(host, _reason(results))
            return
        request = self.find(host, results.id)
        if request is None or not self.drop(request):
            return  # another scheduler's, or a repetition
        if unknown:
            request.future.set_exception(
                NotUnderstoodError(request, _reason(results), certain=True)
            )
        elif results.result != request.container.declaration.result:
            request.future.set_exception(
                UnexpectedResultError(f"{request} was answered with '{results.result}'")
            )
        else:
            request.future.set_result(results)

    def _not_understood(self, host: str, reason: str) -> None:
        """A peer could not read a message and has lost its id. It may be another scheduler's.

        It is taken for an answer only if exactly one request can be meant: a peer answers so at
        once, so one that has shown life is not. Otherwise it is kept for the error in the end.
        """
        with self._lock:
            waiting = self._waiting.get(host, {}).values()
            silent = [request for request in waiting if not request.alive]
            if len(silent) == 1:
                self._drop(silent[0])
            else:
                self._doubt(silent, f"it answered, without an id, that it cannot read: {reason}")
        if len(silent) == 1:
            silent[0].future.set_exception(NotUnderstoodError(silent[0], reason, certain=False))

    def unreadable(self, host: str, error: Exception) -> None:
        """A host has answered something that cannot be read; the errors in the end tell of it."""
        with self._lock:
            waiting = self._waiting.get(host, {}).values()
            self._doubt(waiting, f"it answered something that cannot be read: {error}")

    def failed(self, request: Request, error: BaseException) -> None:
        """The transport could not send a request."""
        if self.drop(request):
            request.future.set_exception(error)

    @staticmethod
    def _doubt(requests: Iterable[Request], text: str) -> None:
        for request in requests:
            if len(request.doubts) < MAX_DOUBTS:
                request.doubts.append(text)

    @property
    def next_deadline(self) -> float | None:
        """Monotonic time at which `expire` has something to do."""
        with self._lock:
            while self._deadlines and self._deadlines[0][2].future.done():
                heapq.heappop(self._deadlines)
            return self._deadlines[0][0] if self._deadlines else None

    def expire(self) -> list[Request]:
        """Take out the requests whose time is over; `give_up` ends them."""
        now = time.monotonic()
        late = []
        with self._lock:
            while self._deadlines and self._deadlines[0][0] <= now:
                request = heapq.heappop(self._deadlines)[2]
                if self._drop(request):
                    late.append(request)
        return late

    def close(self, why: str) -> None:
        """End every request with a ClientClosedError, and those to come."""
        with self._lock:
            self._closed = self._closed or why
            left = [request for waiting in self._waiting.values() for request in waiting.values()]
            self._waiting.clear()
            self._count = 0
            self._deadlines.clear()
        for request in left:
            request.future.set_exception(ClientClosedError(f"{request}: {why}"))


def give_up(request: Request, known: str) -> None:
    """End a request that was not answered in time; `known` is what is known of the host."""
    sent = "delivered to the broker" if request.delivered else "not confirmed by the broker yet"
    at = request.sent.isoformat(sep=" ", timespec="seconds")
    facts = [f"sent {at}, {sent}", known, *request.doubts]
    if request.progress is not None:
        facts.append(f"last seen in phase {request.progress.phase!r}")
    text = f"{request}: no result within {request.timeout:g} s; {'; '.join(filter(None, facts))}"
    request.future.set_exception(NoResultError(request, text))


def _contained(work: TaskContainer | Task | Iterable[Task]) -> TaskContainer:
    if isinstance(work, TaskContainer):
        return work
    return TaskContainer(tasks=[work] if isinstance(work, Task) else list(work))


def _reason(results: ResultContainer) -> str:
    return "; ".join(r.details for r in results.results if r.details) or "it gave no reason"
