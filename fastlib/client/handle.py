"""Handles: the clients return one for each task, and it gives the task's result."""

import asyncio
import threading
from collections.abc import Callable, Generator
from logging import getLogger
from typing import Any, Final, Generic, NoReturn, Protocol, Self, TypeVar

from fastlib.argument_checks import check_callable
from fastlib.message import Result, ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.message.result import check_results
from fastlib.message.task import named_domains
from fastlib.transport import Communicator
from fastlib.transport.futures import call_when_done, wait, wait_async
from fastlib.transport.own_process import not_copied

from .errors import ClientError
from .request import PendingRequest

R = TypeVar("R", covariant=True)

log = getLogger("fastlib.client")

callback_thread = threading.local()
"""Its attribute `communicator` is set in each thread that runs a client's callbacks."""


class HandleClient(Protocol):
    """The methods of a `MigfraClient` that its handles need."""

    @property
    def communicator(self) -> Communicator:
        """The communicator whose callbacks complete the handles."""

    def cancel(self, host: str, id: str, *, timeout: float | None) -> "Handle[Result]":
        """Ask a host to end the container with an id."""


class AsyncHandleClient(Protocol):
    """The methods of an `AsyncMigfraClient` that its handles need."""

    async def cancel(self, host: str, id: str, *, timeout: float | None) -> "AsyncHandle[Result]":
        """Ask a host to end the container with an id."""


class _Handle(Generic[R]):
    """The common part of the handles of both clients."""

    def __init__(self, request: PendingRequest, extract: Callable[[ResultContainer], R]) -> None:
        self._request: Final = request
        self._extract: Final = extract

    @property
    def host(self) -> str:
        """The host that the task was sent to."""
        return self._request.host

    @property
    def id(self) -> str:
        """The container's id."""
        return self._request.id

    @property
    def container(self) -> TaskContainer:
        """The container that was sent, with its id."""
        return self._request.container

    @property
    def progress(self) -> Progress | None:
        """The last report of progress; None if the client does not listen or the host is silent."""
        return self._request.progress

    def done(self) -> bool:
        """Return True if there is a result or an error."""
        return self._request.future.done()

    def _extracted(self, answer: ResultContainer, check: bool) -> R:
        """Return the result in an answer. Raises TaskFailedError with `check`."""
        result = self._extract(answer)
        if check:
            check_results(
                answer.results,
                named=named_domains(self.container.tasks),
                task=self.container.task,
                host=self.host,
                id=self.id,
            )
        return result

    def _call(self, callback: Callable[[Self], object]) -> None:
        try:
            callback(self)
        except Exception:
            log.exception("%s: %r failed", self._request, callback)

    def __reduce__(self) -> NoReturn:
        raise not_copied(self)

    def __repr__(self) -> str:
        state = "answered" if self.done() else "waiting"
        return f"<{type(self).__name__} {self._request}: {state}>"


class Handle(_Handle[R]):
    """A task that was sent, and its result. A `MigfraClient` makes handles."""

    def __init__(
        self, client: HandleClient, request: PendingRequest, extract: Callable[[ResultContainer], R]
    ) -> None:
        super().__init__(request, extract)
        self._client: Final = client

    def result(self, timeout: float | None = None, *, check: bool = False) -> R:
        """Wait for the result, at most `timeout` seconds or until the request's own timeout.

        A task that failed also has a result, with the status `error`. With `check`, TaskFailedError
        is raised instead; it names the task, the domain, the host, the status and the details of
        each result that failed, and each domain of the order whose result is missing.

        Raises WaitTimeoutError after `timeout` seconds (the request stays pending), NoResultError
        after the request's own timeout, NotUnderstoodError, UnexpectedResultError,
        ClientClosedError, and ForkedError in a process that was forked meanwhile.
        """
        if not self.done():
            self._client.communicator.check_process()
        own = getattr(callback_thread, "communicator", None) is self._client.communicator
        if own and not self.done():
            raise ClientError(
                f"{self._request}: a callback of the client must not wait for its result, because "
                "the result cannot arrive during the callback; use `add_done_callback`"
            )
        answer = wait(self._request.future, timeout, f"the result of {self._request}")
        return self._extracted(answer, check)

    def add_done_callback(self, callback: Callable[["Handle[R]"], object]) -> None:
        """Call `callback(handle)` when it is done, or at once if it is done. Errors are logged.

        The callback runs in a thread of the client and must not wait for other results.
        """
        check_callable("callback", callback)
        call_when_done(self._request.future, lambda _: self._call(callback))

    def on_progress(self, callback: Callable[[Progress], None]) -> None:
        """Call `callback` for each further report of progress, in a thread of the client.

        Only fastlib daemons report progress. `submit(…, on_progress=…)` receives all reports.
        """
        check_callable("callback", callback)
        self._request.listeners.append(callback)

    def cancel(self, timeout: float | None = 60.0) -> "Handle[Result]":
        """Ask the daemon to end the task. Return a handle for the answer.

        The handle of the task itself then gets the task's result: an error, or a success if the
        task had ended before. C++ peers do not support it.
        """
        return self._client.cancel(self.host, self.id, timeout=timeout)


class AsyncHandle(_Handle[R]):
    """`Handle` for coroutines: await it to get the result."""

    def __init__(
        self,
        client: AsyncHandleClient,
        request: PendingRequest,
        extract: Callable[[ResultContainer], R],
    ) -> None:
        super().__init__(request, extract)
        self._client: Final = client

    async def result(self, timeout: float | None = None, *, check: bool = False) -> R:
        """See `Handle.result`."""
        what = f"the result of {self._request}"
        return self._extracted(await wait_async(self._request.future, timeout, what), check)

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    def add_done_callback(self, callback: Callable[["AsyncHandle[R]"], object]) -> None:
        """See `Handle.add_done_callback`. The callback is a plain function, called in the loop."""
        check_callable("callback", callback)
        loop = asyncio.get_running_loop()
        call_when_done(
            self._request.future, lambda _: loop.call_soon_threadsafe(self._call, callback)
        )

    async def on_progress(self, callback: Callable[[Progress], None]) -> None:
        """See `Handle.on_progress`. The callback is a plain function, called in the loop."""
        check_callable("callback", callback)
        self._request.listeners.append(callback)

    async def cancel(self, timeout: float | None = 60.0) -> "AsyncHandle[Result]":
        """See `Handle.cancel`."""
        return await self._client.cancel(self.host, self.id, timeout=timeout)
