"""Report the state of the service to systemd (sd_notify)."""

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

SECONDS: Final = 1.0
"""Seconds that a full queue of systemd may delay the daemon."""


def notify(state: str) -> None:
    """Send a state such as `READY=1` if NOTIFY_SOCKET requests it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        suppress(OSError),  # the daemon works also without the report
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.settimeout(SECONDS)  # systemd may be too busy to read
        sock.connect(address)
        sock.sendall(state.encode())


def watchdog_seconds() -> float | None:
    """Return the seconds after which systemd restarts the service without a watchdog message.

    None if it does not watch this process.
    """
    process = os.environ.get("WATCHDOG_PID", "")
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if process not in ("", str(os.getpid())) or not microseconds.isdecimal():
        return None
    return int(microseconds) / 1e6 or None


async def feed_watchdog() -> None:
    """Send watchdog messages several times within the limit of systemd, until cancelled."""
    limit = watchdog_seconds()
    while limit is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(limit / 4)
