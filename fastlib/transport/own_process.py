"""The process that has made a communicator. A fork copies its objects, but none of its threads."""

import os
from typing import Final

from .errors import ForkedError


class OwnProcess:
    """Remembers the process in which it was made."""

    def __init__(self) -> None:
        self._pid: Final = os.getpid()

    @property
    def is_here(self) -> bool:
        """True in the process in which it was made, False in a fork of it."""
        return self._pid == os.getpid()

    def check(self, name: str) -> None:
        """Raise ForkedError in another process. `name` is the client and the broker."""
        if not self.is_here:
            raise ForkedError(name, self._pid, os.getpid())


def not_copied(owner: object) -> TypeError:
    """Return the error for a communicator, or an object with one, that is pickled or copied."""
    return TypeError(
        f"a {type(owner).__name__} cannot be pickled or copied, because it has a connection and "
        "threads: connect in each process, and send results, containers or ids to another one"
    )
