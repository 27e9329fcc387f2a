"""A communicator whose network thread fails, as a defect would make it."""

import threading
from typing import Any

from fastlib.transport import AsyncCommunicator, Communicator

PATIENCE = 60


def fail_network_thread(communicator: Communicator | AsyncCommunicator) -> None:
    """Raise a ZeroDivisionError in the thread, and wait for the end of the communicator."""
    over = threading.Event()
    communicator._core.add_close_listener(lambda error: over.set())
    link: Any = communicator._core.link
    link._commands.add(_fail)
    assert over.wait(PATIENCE)


def _fail() -> None:
    raise ZeroDivisionError("on purpose")
