"""A connection that is being made: it can be awaited, or entered by `async with`."""

from collections.abc import Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, TypeVar

Opened = TypeVar("Opened", bound="AbstractAsyncContextManager[Any]")
"""The type of the connection. Its `async with` closes it."""


class Opening(Coroutine[Any, Any, Opened], AbstractAsyncContextManager[Opened]):
    """The coroutine of a connection. `await` returns what it opens, and the caller closes that.

    `async with` opens it, and closes it at the end of the block. Like each coroutine, it can be
    used once, and it must be used: Python warns of one that is forgotten.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Opened]) -> None:
        """`coroutine` opens it."""
        self._coroutine: Final = coroutine
        self._opened: Opened | None = None

    def __await__(self) -> Generator[Any, Any, Opened]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Run to the next suspension, for the event loop."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error at the suspension, for the event loop."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """End the coroutine without a result."""
        self._coroutine.close()

    async def __aenter__(self) -> Opened:
        self._opened = opened = await self._coroutine
        await opened.__aenter__()
        return opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._opened is not None  # `async with` has entered it
        return await self._opened.__aexit__(kind, error, trace)
