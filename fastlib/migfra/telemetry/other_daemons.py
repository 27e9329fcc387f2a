"""Notices other daemons of this host's name: both would execute every order.

A daemon that starts claims its host: it publishes a presence `online` without `started`, not
retained. A daemon that works answers each presence that is not its own by publishing its presence
again, at once. One that starts and is answered refuses to start.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from logging import getLogger
from typing import Final, Literal

import msgspec

from fastlib.codec.errors import MessageError
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.migfra.errors import HostTakenError
from fastlib.transport import AsyncCommunicator, ReceivedMessage, TransportError

log = getLogger("fastlib.migfra")

CLAIM_SECONDS: Final = 3.0
"""How long a daemon that starts waits for the answer of another one."""
ANSWER_SECONDS: Final = 1.0
"""Another daemon that works is answered at most once in this time."""
CLAIM_QOS: Final = 1
WATCH_QOS: Final = 0
"""So the broker keeps nothing for a daemon that is away: what comes is what happens now."""


def is_claim(presence: Presence) -> bool:
    """Return True for the presence of a daemon that asks whether there is another one."""
    return presence.status == "online" and presence.started is None


def is_other(own: Presence, seen: Presence) -> bool:
    """Return True if a daemon with another client id is online.

    One with our client id is an earlier run of ours: the broker has ended its connection.
    """
    return seen.status == "online" and seen.client_id not in (None, own.client_id)


def decide_starting(own: Presence, seen: Presence) -> Literal["refuse", "claim again", "nothing"]:
    """Return what a daemon does that has claimed its host, when it sees a presence of now.

    Of two that start at the same time, the one with the lower instance goes on.
    """
    if not is_other(own, seen):
        return "nothing"
    if not is_claim(seen) or (seen.instance or "") < (own.instance or ""):
        return "refuse"
    return "claim again"


def decide_working(own: Presence, seen: Presence | None) -> Literal["end", "answer", "nothing"]:
    """Return what a daemon that works does when it sees a presence of now; None is no presence.

    Of two that work, the one that has started later ends.
    """
    if seen is None or seen.status != "online":
        return "answer"
    if seen.instance is not None and seen.instance == own.instance:
        return "nothing"
    if is_other(own, seen) and not is_claim(seen) and _order(seen) < _order(own):
        return "end"
    return "answer"


def _order(presence: Presence) -> tuple[float, str]:
    return presence.started or 0.0, presence.instance or ""


def taken(host: str, other: Presence) -> HostTakenError:
    """Return the error of a daemon whose host name another one has."""
    state = "starts at the same time"
    if other.started is not None:
        since = datetime.fromtimestamp(other.started, UTC).isoformat(timespec="seconds")
        state = f"is online since {since}"
    return HostTakenError(
        f"another daemon of the host {host} {state}, with the client id {other.client_id}: both "
        "would execute every order; end one of them, or give one another 'hostname' in its "
        "configuration"
    )


class OtherDaemons:
    """Watches the status topic of this host."""

    def __init__(
        self,
        communicator: AsyncCommunicator,
        host: str,
        own: Presence,
        *,
        answer: Callable[[], object],
        on_taken: Callable[[HostTakenError], object],
    ) -> None:
        """`answer` publishes our presence again. `on_taken` is called if we must end."""
        self._communicator = communicator
        self._host = host
        self._topic = topics.PRESENCE(host)
        self._own = own
        self._answer = answer
        self._on_taken = on_taken
        self._works = False
        self._claimed = asyncio.Event()
        self._met = False
        """True if another one that starts was seen while we start."""
        self._refused = asyncio.Event()
        self._other: Presence | None = None
        """Because of which we end or refuse to start."""
        self._kept: Presence | None = None
        """What the broker kept when we came."""
        self._next_answer = 0.0

    async def claim(self) -> None:
        """Find out whether another daemon has this host's name. Raises HostTakenError.

        Go on with a warning where that cannot be found out. After it, watch.
        """
        try:
            await self._communicator.subscribe(
                self._topic, self._heard, WATCH_QOS, timeout=CLAIM_SECONDS
            )
            await self._publish_claim()
            if not await _set_in_time(self._claimed):
                self._warn("this daemon does not get what it publishes there")
            elif self._met:  # one that starts at the same time
                await _set_in_time(self._refused)
            elif self._kept is not None and self._kept.status == "online":
                await self._ask(self._kept)
        except TransportError as error:
            self._warn(str(error))
        if self._other is not None:
            raise taken(self._host, self._other)
        self._check_session()
        self._works = True

    def _check_session(self) -> None:
        """Warn if the broker has kept orders for this daemon that another one has had as well."""
        last = None if self._kept is None else self._kept.client_id
        if last in (None, self._own.client_id) or self._communicator.session_start != 0:
            return
        log.warning(
            "the last daemon of the host %s had the client id %s, and the broker has kept the "
            "orders of that time for the client id %s, too: those that have not expired are "
            "executed again now; use one client id and one journal for a host",
            self._host,
            last,
            self._own.client_id,
        )

    async def _publish_claim(self) -> None:
        claim = msgspec.structs.replace(self._own, started=None)
        await self._communicator.send(
            claim.to_yaml().encode(), self._topic, CLAIM_QOS, timeout=CLAIM_SECONDS
        )

    async def _ask(self, kept: Presence) -> None:
        if kept.instance is None:
            log.warning(
                "the broker keeps the presence of an older daemon of the host %s, which cannot be "
                "asked whether it is still there; two daemons of a host both execute every order",
                self._host,
            )
        elif is_other(self._own, kept):
            log.info(
                "waiting %g s for an answer of the daemon with the client id %s, which was online "
                "for this host",
                CLAIM_SECONDS,
                kept.client_id,
            )
            await _set_in_time(self._refused)

    def _warn(self, why: str) -> None:
        log.warning(
            "another daemon of the host %s would not be noticed: %s; let this daemon read and "
            "write %s at the broker",
            self._host,
            why,
            self._topic,
        )

    async def _heard(self, message: ReceivedMessage) -> None:
        seen = _read(message.payload)
        if message.retain:
            self._kept = seen
        elif self._works:
            self._heard_working(seen)
        elif self._claimed.is_set():
            await self._heard_starting(seen)
        elif seen is not None and seen.instance == self._own.instance:
            self._claimed.set()  # what comes from now on was published after our claim
        elif seen is not None and is_other(self._own, seen):
            self._met = True

    async def _heard_starting(self, seen: Presence | None) -> None:
        decision = "nothing" if seen is None else decide_starting(self._own, seen)
        if decision == "refuse":
            self._other = seen
            self._refused.set()
        elif decision == "claim again":
            self._met = True
            await self._publish_claim()

    def _heard_working(self, seen: Presence | None) -> None:
        decision = decide_working(self._own, seen)
        if decision == "end":
            assert seen is not None
            if self._other is None:
                self._other = seen
                self._on_taken(taken(self._host, seen))
        elif decision == "answer":
            if seen is not None and seen.status == "online" and not is_claim(seen):
                now = asyncio.get_running_loop().time()
                if now < self._next_answer:  # it may answer us in the same way
                    return
                self._next_answer = now + ANSWER_SECONDS
            self._answer()


def _read(payload: bytes) -> Presence | None:
    try:
        return Presence.from_yaml(payload)
    except MessageError:
        return None


async def _set_in_time(event: asyncio.Event) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(CLAIM_SECONDS):
            await event.wait()
    return event.is_set()
