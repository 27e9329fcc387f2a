"""Note in the tables that a member begins, and remove such a note."""

import sqlite3
from typing import Literal, Protocol

Beginning = Literal["acts", "waits"]
"""The action of a member after it is noted. One that `waits` in the hypervisor has not begun yet.
"""


class Turn(Protocol):
    """Whether an order with a single member begins with its acceptance."""

    @property
    def begins(self) -> Beginning | None:
        """The first action of its member. None if it waits for its turn, and before `decide`."""

    def decide(self, may_wait: bool) -> bool:
        """Decide. Called in the loop right before the order is written, also several times.

        Return False if it `may_wait` and should be written by the next transaction.
        """


def note_begin(
    connection: sqlite3.Connection, number: int, position: int, now: float, beginning: Beginning
) -> None:
    """Note that a member is passed to the hypervisor at `now`, in seconds since 1970.

    Raises sqlite3.IntegrityError if that is noted already.
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
    """Remove the note of a member that was not passed to the hypervisor."""
    if position == 0:
        connection.execute(
            "UPDATE containers SET noted = 0, began = NULL WHERE number = ?", (number,)
        )
    row = (number, position)
    connection.execute("DELETE FROM members WHERE container = ? AND position = ?", row)
    connection.execute(
        "DELETE FROM events WHERE container = ? AND position = ? AND kind = 'begun'", row
    )
