"""Find the hosts whose daemons a command queries, and explain missing answers."""

import argparse
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastlib.display.text import offline_since
from fastlib.message.node import Presence
from fastlib.message.topics import PRESENCE
from fastlib.transport.errors import RefusedError, TransportError

from .arguments.nearest import did_you_mean

if TYPE_CHECKING:
    from fastlib.client import MigfraClient, Watch

QUIET_SECONDS: Final = 1.0
"""The search for daemons ends if no further presence arrives for this number of seconds.

The known brokers have sent all presences before that, see `await_presences`. Others may send them
later.
"""
SEARCH_SECONDS: Final = 5.0
"""The maximum duration of the search for daemons, in seconds."""

NO_DAEMON: Final = "no daemon has reported its presence at this broker; name one by --host"


class FoundHost(NamedTuple):
    """A host whose daemon a command queries."""

    name: str
    presence: Presence | None = None
    """None for a C++ daemon, which reports none, and for a host that does not exist."""
    refusal: RefusedError | None = None
    """The broker's refusal to send its presence."""


def find_hosts(client: "MigfraClient", wanted: Collection[str] | None) -> Iterator[FoundHost]:
    """Yield the hosts to query, each one as soon as its presence has arrived.

    Hosts in `wanted` without a presence come last. Raises RefusedError if the broker does not send
    the presences of all hosts, and `wanted` is None.
    """
    try:
        watch = client.watch(hosts=wanted, results=False, presence=True)
    except RefusedError:
        if wanted is None:
            raise
        yield from _find_one_by_one(client, wanted)
        return
    with watch:
        yield from _find(client, watch, wanted)


def _find(
    client: "MigfraClient", watch: "Watch[Any]", wanted: Collection[str] | None
) -> Iterator[FoundHost]:
    await_presences(client, wanted)
    last = time.monotonic() + SEARCH_SECONDS
    # Named hosts are always queried. Without names, the first presence may be late.
    until = last if wanted is None else time.monotonic() + QUIET_SECONDS
    found: set[str] = set()
    while wanted is None or found < {*wanted}:
        observed = watch.get(until - time.monotonic())
        if observed is not None and observed.host not in found:
            presence = client.presence(observed.host)
            if presence is not None:
                found.add(observed.host)
                until = min(time.monotonic() + QUIET_SECONDS, last)
                yield FoundHost(observed.host, presence)
                continue  # what has arrived counts, however long the caller has taken
        now = time.monotonic()
        if now >= last or (observed is None and (watch.ended or now >= until)):
            break
    for host in {*(wanted or ())} - found:
        yield FoundHost(host)


def await_presences(
    client: "MigfraClient", wanted: Collection[str] | None, timeout: float | None = None
) -> None:
    """Wait until the broker has sent the presences that it retains, and until they are handled.

    The client must be subscribed to them: to those of the hosts in `wanted`, or with None to all.
    A broker sends them after its answer to the subscription. It answers in order, so they come
    before its answer to a second request for the same presences. Raises WaitTimeoutError after
    `timeout` seconds, by default those of any confirmation.
    """
    from fastlib.transport.core import CONFIRM_SECONDS  # here, because the imports are slow
    from fastlib.transport.futures import wait

    topics = [PRESENCE.pattern()] if wanted is None else [PRESENCE(host) for host in {*wanted}]
    until = time.monotonic() + (CONFIRM_SECONDS if timeout is None else timeout)
    for answered in [client.communicator.resend_retained(topic) for topic in topics]:
        wait(answered, until - time.monotonic(), "the presence of the hosts")
    client.communicator.wait_for_callbacks(until - time.monotonic())


def _find_one_by_one(client: "MigfraClient", wanted: Collection[str]) -> Iterator[FoundHost]:
    """Yield the wanted hosts, with a refusal for each whose presence the broker does not send."""
    with ExitStack() as watches:
        allowed: dict[str, Watch[Any]] = {}
        for host in dict.fromkeys(wanted):
            try:
                watch = client.watch(hosts=[host], results=False, presence=True)
            except RefusedError as error:
                yield FoundHost(host, refusal=error)
            else:
                allowed[host] = watches.enter_context(watch)
        for host, watch in allowed.items():
            yield from _find(client, watch, [host])


def similar_hosts(client: "MigfraClient", host: str) -> str:
    """Return for example ` (did you mean 'node01'?)`, from the hosts with a presence.

    Empty if no name is near, or if the broker refuses the presences or does not answer.
    """
    known: set[str] = set()
    try:
        with client.watch(results=False, presence=True) as watch:
            await_presences(client, None)
            while (observed := watch.get(0)) is not None:
                (known.discard if observed.is_forgotten else known.add)(observed.host)
    except TransportError:  # the command continues without the names
        return ""
    return did_you_mean(host, known)


def offline_reason(presence: Presence) -> str:
    """Describe a daemon that is offline."""
    return f"it is {offline_since(presence.time)}; try again when its daemon runs"


def silence_reason(options: argparse.Namespace, presence: Presence | None) -> str:
    """Describe a daemon that has not answered within `options.timeout`."""
    if presence is None:
        seen = (
            "it has reported no presence (C++ daemons do not); check the name: 'fastlib "
            "query' lists the hosts with a presence"
        )
    else:
        seen = f"it is {presence.status}"
        if presence.status == "online":
            seen += (
                ", so it may be busy, or the access list of the broker withholds messages: "
                "'migfra --check --online' on its host tests that"
            )
    return f"no answer within {options.timeout:g} s; {seen}"


def ignorance_reason(title: str, details: str) -> str:
    """Describe a daemon that does not know the task that was sent to it."""
    return f"it does not know {title!r}: it is a C++ daemon, or older than this command ({details})"
