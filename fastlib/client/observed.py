"""What can be seen of a cluster: every message between schedulers and daemons."""

import asyncio
import queue
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from fastlib.codec.errors import MessageError
from fastlib.message import Message
from fastlib.transport.futures import bounded

M = TypeVar("M", bound=Message)


class ObservedMessage(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """One message that passed."""

    host: str
    """The host whose daemon sent it, or to which it went."""
    topic: str
    time: datetime
    """When it came, in local time with its offset."""
    payload: bytes
    message: M | None
    """What it says; None if it cannot be read."""
    error: MessageError | None = None
    """Why it cannot be read."""


_END = None


class Watch(Generic[M]):
    """Sightings as they come, from the moment it is made: iterate over it, or call `next`.

    It ends with `close`, with the end of its `with` block, or when the client is closed. What is
    not taken waits in memory.
    """

    def __init__(self, unwatch: Callable[[Any], None]) -> None:
        self._unwatch = unwatch
        self._seen: queue.SimpleQueue[ObservedMessage[M] | None] = queue.SimpleQueue()
        self._ended = False

    def put(self, observed: ObservedMessage[M] | None) -> None:
        """A further message; None is the end. For the client."""
        self._seen.put(observed)

    def get(self, timeout: float | None = None) -> ObservedMessage[M] | None:
        """The next message, or None after `timeout` seconds without one or at the end."""
        if self._ended:
            return None
        try:
            observed = self._seen.get(timeout=bounded(timeout))
        except queue.Empty:
            return None
        if observed is _END:
            self._ended = True
            self._seen.put(_END)  # for the others who wait
        return observed

    @property
    def ended(self) -> bool:
        """True if no more will come."""
        return self._ended

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ObservedMessage[M]:
        observed = self.get()
        if observed is None:
            raise StopIteration
        return observed

    def close(self) -> None:
        """See no more."""
        self._unwatch(self)
        self._seen.put(_END)

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
        self._seen: asyncio.Queue[ObservedMessage[M] | None] = asyncio.Queue()
        self._ended = False

    def put(self, observed: ObservedMessage[M] | None) -> None:
        """A further message, in the loop; None is the end. For the client."""
        self._seen.put_nowait(observed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObservedMessage[M]:
        if self._ended:
            raise StopAsyncIteration
        observed = await self._seen.get()
        if observed is None:
            self._ended = True
            self._seen.put_nowait(_END)  # for the others who wait
            raise StopAsyncIteration
        return observed

    def close(self) -> None:
        """See no more."""
        self._unwatch(self)
        self._seen.put_nowait(_END)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
