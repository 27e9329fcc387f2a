"""All requests that wait for a result, and the matching of results to requests. No I/O."""

import heapq
import secrets
import threading
from collections.abc import Callable, Iterable
from itertools import count

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.topics import check_name
from fastlib.transport.errors import ClosedError

from .errors import (
    ClientClosedError,
    IdTakenError,
    NotUnderstoodError,
    UnexpectedResultError,
)
from .ids import new_id
from .matching import Match, is_certain, match
from .request import PendingRequest

UNKNOWN = "unknown"
"""The `result` of the answer to a message that a daemon could not read."""

MAX_POSSIBLE_ANSWERS = 5
"""The maximum number of possible answers that an error lists."""


class PendingRequests:
    """Requests by host and id. Every method may be called from any thread."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, dict[str, PendingRequest]] = {}
        self._count = 0
        self._deadlines: list[tuple[float, int, PendingRequest]] = []
        """A heap. It also holds finished requests, until these are more than half of it."""
        self._numbers = count(1)
        self._closed: ClientClosedError | None = None

    def add(self, host: str, container: TaskContainer, timeout: float | None) -> PendingRequest:
        """Add a request; a container without an id or an idempotency key gets a unique one.

        Raises ValidationError for an invalid container or host, IdTakenError, and
        ClientClosedError.
        """
        check_name(host, "host")
        sent_before = container.idempotency_key is not None
        number = next(self._numbers)
        if container.id is None or container.idempotency_key is None:
            container = msgspec.structs.replace(
                container,
                id=new_id() if container.id is None else container.id,
                idempotency_key=container.idempotency_key or secrets.token_hex(16),
            )
        request = PendingRequest(host, container, timeout, self._clock, sent_before=sent_before)
        with self._lock:
            if self._closed is not None:
                raise ClientClosedError(self._closed.reason)
            waiting = self._waiting.setdefault(host, {})
            if request.id in waiting:
                raise IdTakenError(f"{request} is in flight already; use another id")
            waiting[request.id] = request
            self._count += 1
            if request.deadline is not None:
                self._push(request, number)
                if len(self._deadlines) > 2 * self._count + 100:
                    self._deadlines = [one for one in self._deadlines if not one[2].future.done()]
                    heapq.heapify(self._deadlines)
        return request

    def _push(self, request: PendingRequest, number: int) -> None:
        assert request.deadline is not None
        heapq.heappush(self._deadlines, (request.deadline, number, request))

    def remove(self, request: PendingRequest) -> bool:
        """Remove a request; return False if it was not pending."""
        with self._lock:
            return self._remove(request)

    def _remove(self, request: PendingRequest) -> bool:
        waiting = self._waiting.get(request.host)
        if waiting is None or waiting.get(request.id) is not request:
            return False
        del waiting[request.id]
        self._count -= 1
        if not waiting:
            del self._waiting[request.host]
        return True

    def for_host(self, host: str) -> list[PendingRequest]:
        """Return the pending requests to a host, oldest first."""
        with self._lock:
            return list(self._waiting.get(host, {}).values())

    def has_any(self, host: str) -> bool:
        """Return True if a request to a host is pending."""
        with self._lock:
            return host in self._waiting

    def find(
        self, host: str, id: str | None, key: str | None, digest: str | None
    ) -> PendingRequest | None:
        """Return the pending request to a host with an id, unless its key or digest differs.

        `key` and `digest` are the idempotency key and the request digest that a daemon has given.
        """
        request = self._with_id(host, id)
        if request is None or match(request, key, digest) == "other":
            return None
        return request

    def _with_id(self, host: str, id: str | None) -> PendingRequest | None:
        with self._lock:
            return None if id is None else self._waiting.get(host, {}).get(id)

    def _with_digest(self, host: str, digest: str) -> PendingRequest | None:
        return next((one for one in self.for_host(host) if one.digest == digest), None)

    def __len__(self) -> int:
        with self._lock:
            return self._count

    def resolve(self, host: str, results: ResultContainer, *, keeps_ids: bool = False) -> None:
        """Complete the request that these results of a host belong to, if this client sent it.

        `keeps_ids` is True if the daemon repeats the id of a message that it could not read. Then
        an answer without an id belongs to another client, or to a message that was too large.
        """
        key, digest = results.idempotency_key, results.request_digest
        is_unknown = results.result == UNKNOWN
        request = self._with_id(host, results.id)
        if request is None and digest is not None and (results.id is None or is_unknown):
            # The id of a text that cannot be read may be lost, and a long one is abbreviated.
            request = self._with_digest(host, digest)
        if request is None:
            # Otherwise it is for another client, or repeated.
            if results.id is None and digest is None and is_unknown:
                self._not_understood(host, _reason(results), keeps_ids=keeps_ids)
            return
        found = match(request, key, digest)
        if found == "other":
            return
        if is_unknown:
            self._resolve_unknown(request, _reason(results), found)
        elif self.remove(request):
            self._resolve_known(request, results, found)

    def _resolve_known(
        self, request: PendingRequest, results: ResultContainer, found: Match
    ) -> None:
        if results.result == request.container.declaration.result:
            request.future.set_result(results)
            return
        doubt = (
            ""
            if found == "proven"
            else ("; the answer may belong to another order with the same id")
        )
        request.future.set_exception(
            UnexpectedResultError(f"{request} was answered with '{results.result}'{doubt}")
        )

    def _resolve_unknown(self, request: PendingRequest, reason: str, found: Match) -> None:
        """Handle the answer that a message cannot be read, which has the id of a request."""
        if found == "possible" and request.understood:
            with self._lock:
                self._note([request], f"the host answered that it cannot read a message: {reason}")
        elif self.remove(request):
            certain = is_certain(request, found)
            request.future.set_exception(NotUnderstoodError(request, reason, certain=certain))

    def _not_understood(self, host: str, reason: str, *, keeps_ids: bool) -> None:
        """Handle the answer of a peer that could not read a message and has lost its id.

        The message may be another client's. The answer completes a request only if exactly one
        request fits. A peer sends such an answer at once, so a request with progress does not fit.
        Otherwise the answer is noted for a later error.
        """
        with self._lock:
            waiting = self._waiting.get(host, {}).values()
            silent = [request for request in waiting if not request.understood]
            is_meant = len(silent) == 1 and not keeps_ids
            if is_meant:
                self._remove(silent[0])
            else:
                self._note(
                    silent,
                    f"the host answered, without an id, that it cannot read a message: {reason}",
                )
        if is_meant:
            silent[0].future.set_exception(NotUnderstoodError(silent[0], reason, certain=False))

    def add_unreadable(self, host: str, error: Exception) -> None:
        """Note an unreadable answer of a host for the errors of its pending requests."""
        with self._lock:
            waiting = self._waiting.get(host, {}).values()
            self._note(waiting, f"the host sent an answer that cannot be read: {error}")

    def fail(self, request: PendingRequest, error: BaseException) -> None:
        """Complete a request with an error of the transport."""
        if self.remove(request):
            request.future.set_exception(error)

    @staticmethod
    def _note(requests: Iterable[PendingRequest], text: str) -> None:
        for request in requests:
            if len(request.possible_answers) < MAX_POSSIBLE_ANSWERS:
                request.possible_answers.append(text)

    @property
    def next_deadline(self) -> float | None:
        """The monotonic time at which the next request expires."""
        with self._lock:
            while self._deadlines and self._deadlines[0][2].future.done():
                heapq.heappop(self._deadlines)
            return self._deadlines[0][0] if self._deadlines else None

    def pop_expired(
        self, seconds_to_wait: Callable[[PendingRequest], float]
    ) -> list[PendingRequest]:
        """Remove and return the requests whose deadline has passed.

        `seconds_to_wait` returns for how long a request waits beyond its deadline.
        """
        now = self._clock.monotonic()
        expired = []
        with self._lock:
            while self._deadlines and self._deadlines[0][0] <= now:
                _, number, request = heapq.heappop(self._deadlines)
                if self._waiting.get(request.host, {}).get(request.id) is not request:
                    continue
                longer = seconds_to_wait(request)
                if longer > 0:
                    request.deadline = now + longer
                    self._push(request, number)
                else:
                    self._remove(request)
                    expired.append(request)
        return expired

    def close(self, reason: ClosedError | None = None) -> None:
        """Fail all pending requests with a ClientClosedError, and refuse further ones.

        `reason` is that of the error.
        """
        with self._lock:
            self._closed = self._closed or ClientClosedError(reason)
            left = [request for waiting in self._waiting.values() for request in waiting.values()]
            self._waiting.clear()
            self._count = 0
            self._deadlines.clear()
        for request in left:
            request.future.set_exception(ClientClosedError(reason, request))


def _reason(results: ResultContainer) -> str:
    return "; ".join(r.details for r in results.results if r.details) or "the host gave no reason"
