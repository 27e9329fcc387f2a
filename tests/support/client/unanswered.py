"""Orders that get no result in time, and the conditions before their sending."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fastlib.client import NoResultError
from tests.support.client.factory import PATIENCE, Daemon
from tests.support.waiting import wait_until

SOON = 0.2
"""A timeout in seconds that passes at once. In memory, a message is sent before."""

SENT_BEFORE = 1.0
"""A timeout in seconds before which a message is sent, also to a real broker."""


def failure_of(handle: Any) -> NoResultError:
    with pytest.raises(NoResultError) as caught:
        handle.result(PATIENCE)
    return caught.value


def sent_in_time(attempt: Callable[[float], Any]) -> Any:
    """Return the handle of an attempt that ended before its order expired.

    An attempt sends an order with the timeout that it gets, in seconds, and lets something happen
    before the order expires. It says nothing if a busy machine was too slow for that.
    """
    for seconds in (0.3, 1.5, 8.0, 40.0):
        handle = attempt(seconds)
        if handle.container.expires - datetime.now(UTC) > timedelta(seconds=0.1):
            return handle
        with suppress(NoResultError):
            handle.result(PATIENCE)
    raise AssertionError("each order expired before the attempt ended")


def wait_for_arrival(daemon: Daemon, handle: Any) -> None:
    """Wait until an order is at its daemon, so its client listens, or it is too late for that."""
    wait_until(
        lambda: handle.done() or handle.id in {one.id for one in daemon.received}, "the order"
    )


def wait_for_progress(handle: Any) -> None:
    """Wait until an order's progress is known, or it is too late for it."""
    wait_until(lambda: handle.progress is not None or handle.done(), "the progress")


def shown(client: Any, status: str, host: str = "hostA") -> None:
    """Wait until the client knows that a host's daemon has this status."""
    wait_until(
        lambda: host in client.presences and client.presences[host].status == status, "the presence"
    )
