"""Tells systemd how the service is doing (sd_notify)."""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

SECONDS: Final = 1.0
"""How long a full queue of systemd may delay the daemon."""


def notify(state: str) -> None:
    """Sends a state such as `READY=1`, if somebody has asked for it by NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        suppress(OSError),  # the daemon works all the same
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.settimeout(SECONDS)  # systemd may be too busy to read
        sock.connect(address)
        sock.sendall(state.encode())


def watchdog_seconds() -> float | None:
    """Return how long systemd waits for a sign of life until it restarts the service.

    None if it does not watch this process.
    """
    process = os.environ.get("WATCHDOG_PID", "")
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if process not in ("", str(os.getpid())) or not microseconds.isdecimal():
        return None
    return int(microseconds) / 1e6 or None


async def feed_watchdog() -> None:
    """Tell systemd several times within its limit that the event loop runs, until cancelled."""
    limit = watchdog_seconds()
    while limit is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(limit / 4)
