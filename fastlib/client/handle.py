"""What a client gives for a task that was sent: where its result will be."""

import asyncio
import threading
from collections.abc import Callable, Generator
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from fastlib.message import Result, ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.transport.futures import wait, wait_async

from .errors import ClientError
from .request import Request

if TYPE_CHECKING:
    from .aio import AsyncMigfraClient
    from .client import MigfraClient

R = TypeVar("R")

log = getLogger("fastlib.client")

inside = threading.local()
"""Has the `communicator` of a client in a thread that runs the client's callbacks."""


class _Handle(Generic[R]):
    """What the handles of both clients have in common."""

    def __init__(self, request: Request, pick: Callable[[ResultContainer], R]) -> None:
        self._request: Final = request
        self._pick: Final = pick

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
        """What was sent, with its id."""
        return self._request.container

    @property
    def progress(self) -> Progress | None:
        """The last report of progress, if the daemon sends such and somebody asked for them."""
        return self._request.progress

    def done(self) -> bool:
        """True if there is a result, or an error in its stead."""
        return self._request.future.done()

    def _call(self, callback: Callable[[Self], object]) -> None:
        try:
            callback(self)
        except Exception:
            log.exception("%s: %r failed", self._request, callback)

    def __repr__(self) -> str:
        state = "answered" if self.done() else "waiting"
        return f"<{type(self).__name__} {self._request}: {state}>"


class Handle(_Handle[R]):
    """A task that was sent; its result is here when it comes. A `MigfraClient` makes them."""

    def __init__(
        self, client: "MigfraClient", request: Request, pick: Callable[[ResultContainer], R]
    ) -> None:
        super().__init__(request, pick)
        self._client: Final = client

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result, at most `timeout` seconds, or until the client gives up.

        A task that failed is a result as well, with the status `error`. Raises WaitTimeoutError
        after `timeout` seconds, which changes nothing, NoResultError when the client has given
        up, NotUnderstoodError, UnexpectedResultError and ClientClosedError.
        """
        own = getattr(inside, "communicator", None) is self._client.communicator
        if own and not self.done():
            raise ClientError(
                f"{self._request}: its result cannot be waited for in a callback of the client, "
                "which would keep it from coming; use `add_done_callback`"
            )
        return self._pick(wait(self._request.future, timeout, f"the result of {self._request}"))

    def add_done_callback(self, callback: Callable[["Handle[R]"], object]) -> None:
        """Call `callback(handle)` when it is done, at once if it is; errors are logged.

        It is called in a thread of the client and must not wait for other results.
        """
        self._request.future.add_done_callback(lambda _: self._call(callback))

    def on_progress(self, callback: Callable[[Progress], None]) -> None:
        """Call `callback` for each further report of progress, in a thread of the client.

        Only the fastlib daemon sends such. `submit(…, on_progress=…)` misses none.
        """
        self._request.listeners.append(callback)
        self._client.listen_to_progress()

    def cancel(self, timeout: float | None = 60.0) -> "Handle[Result]":
        """Ask the daemon to end the task. The answer to that is the result of what this returns.

        This handle then gets the result that the task ended with: an error, or a success if it
        was too late. A C++ peer does not understand it.
        """
        return self._client.cancel(self.host, self.id, timeout=timeout)


class AsyncHandle(_Handle[R]):
    """`Handle` for coroutines; awaiting it gives the result. An `AsyncMigfraClient` makes them."""

    def __init__(
        self, client: "AsyncMigfraClient", request: Request, pick: Callable[[ResultContainer], R]
    ) -> None:
        super().__init__(request, pick)
        self._client: Final = client

    async def result(self, timeout: float | None = None) -> R:
        """See `Handle.result`."""
        return self._pick(
            await wait_async(self._request.future, timeout, f"the result of {self._request}")
        )

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()

    def add_done_callback(self, callback: Callable[["AsyncHandle[R]"], object]) -> None:
        """Call `callback(handle)` in the loop when it is done, soon if it is; errors are logged."""
        loop = asyncio.get_running_loop()
        self._request.future.add_done_callback(
            lambda _: loop.call_soon_threadsafe(self._call, callback)
        )

    async def on_progress(self, callback: Callable[[Progress], None]) -> None:
        """See `Handle.on_progress`. The callback is a plain function, called in the loop."""
        self._request.listeners.append(callback)
        await self._client.listen_to_progress()

    async def cancel(self, timeout: float | None = 60.0) -> "AsyncHandle[Result]":
        """See `Handle.cancel`."""
        return await self._client.cancel(self.host, self.id, timeout=timeout)
