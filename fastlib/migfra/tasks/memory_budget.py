"""A bound on memory in bytes, from which users take parts and give them back."""

import asyncio
from collections import deque


class MemoryBudget:
    """Bytes that are taken, up to a bound."""

    def __init__(self, bound: int) -> None:
        """`bound` is in bytes."""
        self.bound = bound
        self.taken = 0
        """Bytes that are taken now."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take(self, size: int) -> bool:
        """Take `size` bytes if there is room and no caller waits. Return whether they are taken."""
        if self._waiting or self.taken + size > self.bound:
            return False
        self.taken += size
        return True

    async def wait(self, size: int) -> None:
        """Take `size` bytes once there is room, in the order of the calls.

        A request above the bound waits until no other bytes are taken.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        self._admit()
        try:
            if future.done():  # the ones admitted earlier wake up in the next turn
                await asyncio.sleep(0)
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give_back(size)
            elif (size, future) in self._waiting:  # else `_admit` has passed it over
                self._waiting.remove((size, future))
                self._admit()
            raise

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self.taken -= size
        if self._waiting:
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size, future = self._waiting[0]
            if self.taken and self.taken + size > self.bound:
                return
            self._waiting.popleft()
            if not future.done():
                self.taken += size
                future.set_result(None)
