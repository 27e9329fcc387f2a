"""Notes in the tables that a member begins, and takes such a note back."""

import sqlite3
from typing import Literal, Protocol

Beginning = Literal["acts", "waits"]
"""What a member does once it is noted. One that `waits` in the hypervisor has not begun yet."""


class Turn(Protocol):
    """Whether an order with a single member begins with its acceptance."""

    @property
    def begins(self) -> Beginning | None:
        """What its member does at once. None if it waits for its turn, and before `decide`."""

    def decide(self, may_wait: bool) -> bool:
        """Decide. Called in the loop right before the order is written, once or again.

        Return False if it `may_wait`, and had better be written by the next transaction.
        """


def note_begin(
    connection: sqlite3.Connection, number: int, position: int, now: float, beginning: Beginning
) -> None:
    """Note that a member is handed to the hypervisor at `now`, in seconds since 1970.

    Raises sqlite3.IntegrityError if that was noted before.
    """
    if position:
        connection.execute(
            "INSERT INTO members (container, position) VALUES (?, ?)", (number, position)
        )
    else:
        first = "UPDATE containers SET noted = 1 WHERE number = ? AND noted = 0"
        if not connection.execute(first, (number,)).rowcount:
            raise sqlite3.IntegrityError(f"the order {number} has begun before, or is unknown")
    if beginning == "acts":
        note_act(connection, number, position, now)


def note_act(connection: sqlite3.Connection, number: int, position: int, now: float) -> None:
    """Note that a member acts on its domain from `now` on, in seconds since 1970."""
    connection.execute(
        "INSERT INTO events (container, position, time, kind, text) VALUES (?, ?, ?, 'begun', x'')",
        (number, position, now),
    )


def take_back(connection: sqlite3.Connection, number: int, position: int) -> None:
    """Forget that a member was noted: it was not handed to the hypervisor."""
    if position == 0:
        connection.execute(
            "UPDATE containers SET noted = 0, began = NULL WHERE number = ?", (number,)
        )
    row = (number, position)
    connection.execute("DELETE FROM members WHERE container = ? AND position = ?", row)
    connection.execute(
        "DELETE FROM events WHERE container = ? AND position = ? AND kind = 'begun'", row
    )
