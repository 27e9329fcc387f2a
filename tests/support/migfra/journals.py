"""Run scenes with a journal, and accept orders in it."""

import asyncio
from collections.abc import Awaitable, Callable

from fastlib.migfra.journal.journal import Journal


def run(scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene of a test in a loop of its own."""

    async def main() -> None:
        await scene()

    asyncio.run(main())


async def accept(journal: Journal, id: str | None, payload: bytes = b"x", *, task: str = "") -> int:
    """Accept a new order, and return its number."""
    acceptance = await journal.accept(id, payload, payload, key=id, task=task)
    assert acceptance.kind == "new"
    return acceptance.number
