"""Find the hosts whose daemons a command asks, and say why one did not answer."""

import argparse
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final

from fastlib.message.node import Presence
from fastlib.transport.errors import TransportError

from .arguments.nearest import did_you_mean

if TYPE_CHECKING:
    from fastlib.client import MigfraClient

QUIET_SECONDS: Final = 1.0
"""Daemons are looked for until, after one has shown itself, no other one has for this time."""
SEARCH_SECONDS: Final = 5.0
"""Daemons are looked for at most for this time."""

NO_DAEMON: Final = "no daemon has shown itself at this broker; --host asks one"
OFFLINE: Final = "it is offline; ask again when its daemon runs"


def find_hosts(
    client: "MigfraClient", wanted: Collection[str] | None
) -> Iterator[tuple[str, Presence | None]]:
    """Yield the hosts to ask, each as soon as its presence has come.

    Those of `wanted` that show no presence come last: C++ daemons have none.
    """
    last = time.monotonic() + SEARCH_SECONDS
    # Named hosts are asked anyway. Without names, the first daemon may be slow to show itself.
    until = last if wanted is None else time.monotonic() + QUIET_SECONDS
    found: set[str] = set()
    with client.watch(hosts=wanted, results=False, presence=True) as watch:
        while wanted is None or found < {*wanted}:
            observed = watch.get(until - time.monotonic())
            if observed is not None and observed.host not in found:
                presence = client.presence(observed.host)
                if presence is not None:
                    found.add(observed.host)
                    until = min(time.monotonic() + QUIET_SECONDS, last)
                    yield observed.host, presence
            if watch.ended or time.monotonic() >= until:
                break
    for host in {*(wanted or ())} - found:
        yield host, None


def similar_hosts(client: "MigfraClient", host: str) -> str:
    """Return for example ` (did you mean 'node01'?)`, from the hosts whose daemons show themselves.

    Takes `QUIET_SECONDS`. Empty if no name is near, or if the broker does not let us see them.
    """
    until = time.monotonic() + QUIET_SECONDS
    known: set[str] = set()
    try:
        with client.watch(results=False, presence=True) as watch:
            while (left := until - time.monotonic()) > 0 and not watch.ended:
                observed = watch.get(left)
                if observed is not None:
                    known.add(observed.host)
    except TransportError:  # the command goes on without the names
        return ""
    return did_you_mean(host, known)


def silence_reason(options: argparse.Namespace, presence: Presence | None) -> str:
    """Say that a daemon has not answered within `options.timeout`, and what is known of it."""
    if presence is None:
        seen = (
            "it has not shown itself, as C++ daemons do not; is the name right? 'fastlib query' "
            "lists the hosts that have"
        )
    else:
        seen = f"it is {presence.status}"
    return f"no answer within {options.timeout:g} s; {seen}"


def ignorance_reason(title: str, details: str) -> str:
    """Say that a daemon does not know the task that was sent to it."""
    return f"it does not know {title!r}: it is a C++ daemon, or older than this command ({details})"
