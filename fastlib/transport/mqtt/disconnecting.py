"""The end of a connection by this client."""

import socket
import time
from contextlib import suppress
from typing import Any, Final

DISCONNECT_SECONDS: Final = 2.0
"""The maximum time until the broker must have closed the connection after our DISCONNECT."""


def read_to_the_end(own: Any) -> None:
    """Let the broker close the connection, after it has read everything from us.

    If we close it with unread data, TCP drops the data that the broker has not read yet: our last
    acknowledgements and the DISCONNECT. The broker would then publish our will.
    """
    with suppress(OSError):
        own.shutdown(socket.SHUT_WR)
        own.settimeout(DISCONNECT_SECONDS)
        latest = time.monotonic() + DISCONNECT_SECONDS
        while own.recv(65536) and time.monotonic() < latest:
            pass
