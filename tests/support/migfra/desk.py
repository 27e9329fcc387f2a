"""A desk: a journal that orders come to."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.repetition import Origin
from tests.support.clock import SetClock


class Desk:
    """A journal that orders come to, and the clock of its host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.clock = SetClock()
        self.open()

    def open(self) -> None:
        self.journal = Journal(self._path, clock=self.clock, host="node01")

    async def restart(self) -> None:
        await self.journal.close()
        self.open()

    async def kind(
        self,
        text: str,
        id: str | None = ":-)",
        *,
        key: str | None = None,
        packet: int | None = None,
        dup: bool = False,
        connection: int = 1,
        session: int = 0,
        vm_names: tuple[str, ...] = ("vm1",),
        any_domain: bool = False,
    ) -> str:
        accepted = await self.journal.accept(
            id,
            hashlib.sha256(text.encode()).digest(),
            f"{id}: {text}".encode(),
            key=key,
            origin=Origin(packet, dup, connection, session),
            task=text,
            vm_names=vm_names,
            any_domain=any_domain,
        )
        return accepted.kind


AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]


def player(path: Path) -> AtDesk:
    """Return a function that plays a scene with a journal at this path."""

    def play(scene: Callable[[Desk], Awaitable[None]]) -> None:
        async def main() -> None:
            desk = Desk(path)
            await scene(desk)
            await desk.journal.close()

        asyncio.run(main())

    return play
