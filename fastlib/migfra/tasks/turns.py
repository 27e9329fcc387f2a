"""Turns: decide whether an order begins with its acceptance or waits for others.

An order that begins at once has its places before it is accepted. So one commit of the journal
notes its acceptance and its begin.
"""

from collections.abc import Callable

import msgspec

from fastlib.message import Cancel, Quit, TaskContainer
from fastlib.migfra.journal.begins import Beginning

from .memory_budget import MemoryBudget


class Places(MemoryBudget):
    """Places within a limit: a budget of which each one takes 1."""

    @property
    def is_full(self) -> bool:
        """Whether no place is free."""
        return self.taken >= self.bound


class Place:
    """A place within a limit, given up once."""

    def __init__(self, places: Places) -> None:
        """It was taken of `places`."""
        self._places: Places | None = places

    def give_up(self) -> None:
        """Free the place for another user. A member that waited for it continues without it."""
        if self._places is not None:
            self._places.give_back(1)
            self._places = None


class Situation(msgspec.Struct, frozen=True):
    """The state of the dispatcher when an order comes."""

    accepting: int
    """Earlier orders that are being accepted, and will wait for their turn."""
    waiting: int
    """Earlier orders that wait for their turn."""
    beginning: int
    """Earlier members whose turn has come, and whose begin the journal does not have yet."""
    is_idle: bool
    """Whether the dispatcher waits for an order, and not for a place or the end of an order."""
    has_expired: bool
    """Whether the order came too late to begin."""


def may_begin_at_once(container: TaskContainer, situation: Situation) -> bool:
    """Return whether an order may begin with its acceptance, without overtaking another one.

    An order with several members begins member by member. Orders that come while one without
    concurrent execution is accepted would have to wait for it. `cancel task` and `quit` are handled
    separately.
    """
    return (
        len(container.tasks) == 1
        and container.concurrent_execution is not False
        and not isinstance(container.tasks[0], Cancel | Quit)
        and situation.is_idle
        and not situation.has_expired
        and not situation.accepting
        and not situation.waiting
        and not situation.beginning
    )


class Taken(msgspec.Struct, frozen=True):
    """The places and memory of an order that begins with its acceptance."""

    begins: Beginning
    container_place: Place
    member_place: Place
    memory: int
    """Bytes."""


class Turn:
    """The turn of one order while it is accepted: a `Turn` of the journal. It ends once.

    It is decided as late as possible, to include the orders that have begun meanwhile.
    """

    def __init__(
        self,
        take: Callable[[], Taken | None],
        give_back: Callable[[Taken | None], object],
        is_full: Callable[[], bool],
    ) -> None:
        """`take` decides: it returns the taken places, or None for an order that waits.

        `give_back` receives them if the order does not begin. `is_full` returns whether there is no
        place now for an order that would begin.
        """
        self._take = take
        self._give_back = give_back
        self._is_full = is_full
        self._is_decided = self._is_over = False
        self.taken: Taken | None = None

    @property
    def begins(self) -> Beginning | None:
        """The action of its member at its acceptance; None if it waits, and before `decide`."""
        return None if self.taken is None else self.taken.begins

    def decide(self, may_wait: bool) -> bool:
        """Decide whether the order begins with its acceptance, unless it is decided or has ended.

        Return False if there is no place for it, and it `may_wait` for the next transaction: many
        orders end until then. An order that is accepted without a place needs a second transaction
        for its begin, and so do all that come before it has begun.
        """
        if not self._is_decided and not self._is_over:
            if may_wait and self._is_full():
                return False
            self._is_decided = True
            self.taken = self._take()
        return True

    def use(self) -> None:
        """End the turn; the order is executed, and gives its places back itself."""
        self._is_over = True

    def end(self) -> None:
        """End an unused turn: the order waits, or is not executed."""
        if self._is_decided and not self._is_over:
            self._give_back(self.taken)
        self._is_over = True
