"""Observe all messages between schedulers and daemons."""

import asyncio
import queue
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from fastlib.codec.errors import MessageError
from fastlib.message import Message
from fastlib.message.topics import PRESENCE
from fastlib.transport.futures import bounded

from .errors import ClientClosedError

M = TypeVar("M", bound=Message)


class ObservedMessage(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """One message that a watch has observed."""

    host: str
    """The host whose daemon sent or received the message."""
    topic: str
    time: datetime
    """The time of arrival: local time with its offset."""
    payload: bytes
    message: M | None
    """The decoded message; None if the payload is invalid, or if `is_forgotten`."""
    error: MessageError | None = None
    """The problems of an invalid payload."""

    @property
    def is_forgotten(self) -> bool:
        """True if the presence of the host was deleted at the broker.

        `fastlib forget` does so. The host no longer belongs to the cluster.
        """
        return not self.payload and PRESENCE.parse(self.topic) is not None


class _End:
    """The last entry of a watch's queue."""

    def __init__(self, error: ClientClosedError | None) -> None:
        self._error = error

    def raise_error(self) -> None:
        """Raise the error if there is one, a new one for each reader."""
        if self._error is not None:
            raise ClientClosedError(self._error.reason)


class Watch(Generic[M]):
    """Iterator over the observed messages, from its creation on.

    It ends with `close`, with the end of its `with` block, or when the program closes the client or
    the communicator. If the communicator fails, it raises ClientClosedError after the last message.
    Unread messages stay in memory.
    """

    def __init__(self, unwatch: Callable[[Any], None]) -> None:
        self._unwatch = unwatch
        self._queue: queue.SimpleQueue[ObservedMessage[M] | _End] = queue.SimpleQueue()
        self._ended = False

    def put(self, observed: ObservedMessage[M]) -> None:
        """Queue a message. Called by the client."""
        self._queue.put(observed)

    def end(self, error: ClientClosedError | None = None) -> None:
        """Queue the end, with the error if the communicator has failed. Called by the client."""
        self._queue.put(_End(error))

    def get(self, timeout: float | None = None) -> ObservedMessage[M] | None:
        """Return the next message, or None after `timeout` seconds without one or at the end.

        Raises ClientClosedError at the end if the communicator has failed.
        """
        try:
            observed = self._queue.get(timeout=bounded(timeout))
        except queue.Empty:
            return None
        if isinstance(observed, _End):
            self._ended = True
            self._queue.put(observed)  # for the next call, and the other readers
            observed.raise_error()
            return None
        return observed

    @property
    def ended(self) -> bool:
        """True if all messages were read and the watch has ended."""
        return self._ended

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ObservedMessage[M]:
        observed = self.get()
        if observed is None:
            raise StopIteration
        return observed

    def close(self) -> None:
        """End the watch."""
        self._unwatch(self)
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncWatch(Generic[M]):
    """`Watch` for coroutines: `async for observed in watch`."""

    def __init__(self, unwatch: Callable[[Any], None]) -> None:
        self._unwatch = unwatch
        self._queue: asyncio.Queue[ObservedMessage[M] | _End] = asyncio.Queue()

    def put(self, observed: ObservedMessage[M]) -> None:
        """Queue a message. Called by the client, in the loop."""
        self._queue.put_nowait(observed)

    def end(self, error: ClientClosedError | None = None) -> None:
        """Queue the end, with the error if the communicator has failed. Called by the client."""
        self._queue.put_nowait(_End(error))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObservedMessage[M]:
        observed = await self._queue.get()
        if isinstance(observed, _End):
            self._queue.put_nowait(observed)  # for the next call, and the other readers
            observed.raise_error()
            raise StopAsyncIteration
        return observed

    def close(self) -> None:
        """End the watch."""
        self._unwatch(self)
        self.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
