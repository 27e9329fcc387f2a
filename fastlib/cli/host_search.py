"""Find the hosts whose daemons a command queries, and explain missing answers."""

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
"""The search for daemons ends if no further presence arrives for this number of seconds."""
SEARCH_SECONDS: Final = 5.0
"""The maximum duration of the search for daemons, in seconds."""

NO_DAEMON: Final = "no daemon has reported its presence at this broker; name one by --host"
OFFLINE: Final = "it is offline; try again when its daemon runs"


def find_hosts(
    client: "MigfraClient", wanted: Collection[str] | None
) -> Iterator[tuple[str, Presence | None]]:
    """Yield the hosts to query, each one as soon as its presence has arrived.

    Hosts in `wanted` without a presence come last: C++ daemons report none.
    """
    last = time.monotonic() + SEARCH_SECONDS
    # Named hosts are always queried. Without names, the first presence may be late.
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
    """Return for example ` (did you mean 'node01'?)`, from the hosts with a presence.

    Takes `QUIET_SECONDS`. Empty if no name is near, or if the broker refuses the presences.
    """
    until = time.monotonic() + QUIET_SECONDS
    known: set[str] = set()
    try:
        with client.watch(results=False, presence=True) as watch:
            while (left := until - time.monotonic()) > 0 and not watch.ended:
                observed = watch.get(left)
                if observed is not None:
                    known.add(observed.host)
    except TransportError:  # the command continues without the names
        return ""
    return did_you_mean(host, known)


def silence_reason(options: argparse.Namespace, presence: Presence | None) -> str:
    """Describe a daemon that has not answered within `options.timeout`."""
    if presence is None:
        seen = (
            "it has reported no presence (C++ daemons do not); check the name: 'fastlib "
            "query' lists the hosts with a presence"
        )
    else:
        seen = f"it is {presence.status}"
    return f"no answer within {options.timeout:g} s; {seen}"


def ignorance_reason(title: str, details: str) -> str:
    """Describe a daemon that does not know the task that was sent to it."""
    return f"it does not know {title!r}: it is a C++ daemon, or older than this command ({details})"
