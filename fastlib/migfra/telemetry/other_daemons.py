"""Detect other daemons of this host's name: both would execute every order.

A daemon *claims* its host before it begins anything:

1. It publishes a presence `online` without `started`, not retained: the claim. A daemon that works
   answers it by publishing its presence again. The broker also sends the presence that it has
   retained.
2. If no other daemon answers, it publishes its retained presence `online`, and waits until it
   receives it. The broker gives all daemons the messages of a topic in one order. So of several
   that start at the same moment, the first `online` wins, and the others refuse to start.

It claims the host again, and begins no task meanwhile, whenever another one may have claimed it:
after a lost connection, after it was suspended (a stopped process, a suspended host), and when
another daemon reports that it works. `host_claim.py` has the phases of a claim, and a table of what
the daemon does in each of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from logging import getLogger
from typing import Final

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.codec.errors import MessageError
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.migfra.errors import ClaimError, HostTakenError
from fastlib.transport import (
    AsyncCommunicator,
    ClosedError,
    Delivery,
    ReceivedMessage,
    RefusedError,
    SubscriptionError,
    TransportError,
    WaitTimeoutError,
)
from fastlib.transport.futures import wait_async

from .host_claim import Decision, HostClaim, decide, decide_kept
from .logs import context_without_task

log = getLogger("fastlib.migfra")

CLAIM_SECONDS: Final = 3.0
"""Seconds that a daemon in its claim waits for the answer of another one."""
STILL_SECONDS: Final = 2.0
"""Maximum seconds of a suspension after which the daemon need not claim its host again.

It is shorter than `CLAIM_SECONDS`: another daemon waits longer before it takes the host over.
"""
LONGEST_PATIENCE_SECONDS: Final = 60.0
"""Maximum seconds that a daemon waits for a confirmation of a slow broker.

It waits `CLAIM_SECONDS` at first, and twice as long after each failure.
"""
BEAT_SECONDS: Final = 0.5
"""Seconds between two checks for a suspension of the daemon."""
LARGEST_PRESENCE: Final = 1 << 14
"""Maximum number of bytes of a presence that is read."""
CLAIM_QOS: Final = 1
WATCH_QOS: Final = 0
"""QoS 0: the broker keeps no messages for an absent daemon, so each received one is new."""


def taken(host: str, other: Presence) -> HostTakenError:
    """Return the error of a daemon if another one has its host name."""
    state = "has started after this one"
    if other.started is not None:
        since = datetime.fromtimestamp(other.started, UTC).isoformat(timespec="seconds")
        state = f"is online since {since}"
    return HostTakenError(
        f"another daemon of the host {host} {state}, with the client id {other.client_id}: both "
        "would execute every order; stop one of them, or give one a different 'hostname' in its "
        "configuration"
    )


class OtherDaemons:
    """Claims this host, and watches its status topic."""

    def __init__(
        self,
        communicator: AsyncCommunicator,
        host: str,
        own: Presence,
        *,
        online: Callable[[], Presence],
        answer: Callable[[], object],
        on_taken: Callable[[HostTakenError], object],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`online` returns our present presence, `answer` publishes it.

        `on_taken` is called if we must end.
        """
        self._communicator = communicator
        self._host = host
        self._topic = topics.PRESENCE(host)
        self._own = own
        self._online = online
        self._answer = answer
        self._on_taken = on_taken
        self._clock = clock
        self._claim = HostClaim(own, came=clock.now())
        self._claimed = asyncio.Event()
        """Set when we have received our claim: later messages were published after it."""
        self._settled = asyncio.Event()
        """Set when the wait can end: the daemon that is asked has answered or ended."""
        self._heard_online = asyncio.Event()
        """Set when we have received the expected presence."""
        self._connection = 0
        """The newest connection by which we had the host."""
        self._reconnects = 0
        self._reconnected = asyncio.Event()
        self._beat = clock.monotonic()
        self._stills = 0
        """Number of suspensions of this process."""
        self._works = False
        """True from the end of `begin` on."""
        self._begun = asyncio.Event()
        """Set when `begin` has ended, also by an error. Until then only `begin` may claim the host.
        """
        self._complained = False
        """True if it is logged that the broker does not answer."""
        self._patience = CLAIM_SECONDS
        """Seconds that we wait for the broker."""
        self._lost: ClaimError | None = None
        self._claiming: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None

    # The start.

    async def claim(self) -> None:
        """Find out whether another daemon has this host's name. Raises HostTakenError.

        Waits for the broker without a limit. Continues with a warning if the broker does not permit
        the check.
        """
        self._communicator.on_reconnect(self._on_reconnect)
        while not await self._tried(self._ask):
            pass
        self._check_session()

    async def begin(self) -> None:
        """Publish that we work, and watch for other daemons from then on.

        Raises HostTakenError if another daemon has done so before.
        """
        self._beat = self._clock.monotonic()
        self._beating = asyncio.create_task(self._watch_beat(), context=context_without_task())
        try:
            if not await self._tried(self._announce):
                self._claim.phase = "subscribes"
            await self._have_host(0)
            self._works = True
        finally:
            self._begun.set()

    def end(self) -> None:
        """Stop claiming the host. Calls that need the claim then raise ClaimError."""
        if self._lost is None:
            self._lost = ClaimError("the daemon ends")
        self._begun.set()
        for task in (self._claiming, self._beating):
            if task is not None:
                task.cancel()

    @property
    def may_publish_offline(self) -> bool:
        """False if the host is another daemon's. We must then not report it as offline.

        Another daemon that starts in this moment would consider the host free. If we have published
        `online`, the other one receives it, and publishes its own presence again.
        """
        return self._claim.other is None

    # While the daemon works.

    async def confirmed(self, connection: int = 0) -> None:
        """Wait until it is certain that the host is ours, for the messages of a connection.

        Raises HostTakenError if another daemon has it, and ClaimError if the daemon ends.
        """
        if self.is_ours(connection):
            return
        await self._begun.wait()
        await self._have_host(connection)

    async def _have_host(self, connection: int) -> None:
        while not self.is_ours(connection):
            if self._lost is not None:
                raise self._lost
            claiming = self._claiming
            if claiming is None or claiming.done():
                claiming = self._claim_again()
            await asyncio.wait((claiming,))

    def is_ours(self, connection: int = 0) -> bool:
        """Return whether `confirmed` need not wait."""
        if self._clock.monotonic() - self._beat >= STILL_SECONDS:
            self._look_at_beat(moves=False)
        is_newest = self._claim.is_blind or connection <= self._connection
        return self._lost is None and self._claim.phase == "works" and is_newest

    def _claim_again(self) -> "asyncio.Task[None]":
        """Return the task that claims the host again, from the beginning."""
        self._begin_anew()
        if self._claiming is None or self._claiming.done():
            self._claiming = asyncio.create_task(self._reclaim(), context=context_without_task())
        return self._claiming

    def _begin_anew(self) -> None:
        self._claim.phase = "subscribes"
        for event in (self._claimed, self._settled, self._heard_online):
            event.set()  # their waiters start again

    async def _reclaim(self) -> None:
        try:
            await self._ask_and_announce()
        except ClaimError as error:
            self._lost = error
            if isinstance(error, HostTakenError) and self._works:
                self._on_taken(error)

    async def _watch_beat(self) -> None:
        while self._lost is None:
            await asyncio.sleep(BEAT_SECONDS)
            self._look_at_beat(moves=True)

    def _look_at_beat(self, *, moves: bool) -> None:
        now = self._clock.monotonic()
        still = now - self._beat
        if moves or still >= STILL_SECONDS:
            self._beat = now
        if still < STILL_SECONDS or self._beating is None:
            return
        self._stills += 1
        if self._claim.phase == "works":
            log.warning(
                "the daemon was suspended for %.1f s; it begins no task until the broker has "
                "confirmed that no other daemon of the host %s has started in this time",
                still,
                self._host,
            )
            self._claim_again()

    async def _on_reconnect(self) -> None:
        self._reconnects += 1
        self._reconnected.set()
        if self._works and self._lost is None:
            self._claim_again()

    # Claiming.

    async def _ask_and_announce(self) -> None:
        while not (await self._tried(self._ask) and await self._tried(self._announce)):
            pass

    async def _tried(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Return whether a step has succeeded. Wait for a connection if it has not."""
        try:
            done = await step()
        except ClosedError as error:
            raise ClaimError(str(error)) from error
        except TransportError as error:
            self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
            if not self._complained:
                self._complained = True
                log.warning(
                    "the broker does not answer; the daemon begins no task until the broker has "
                    "confirmed that no other daemon of the host %s is running: %s",
                    self._host,
                    error,
                )
        else:
            self._complained = False
            return done
        if not self._communicator.is_connected:
            self._reconnected.clear()
            await self._reconnected.wait()
        return False  # the next step starts again

    async def _ask(self) -> bool:
        """Claim the host, and wait for the answer of another daemon. Raises HostTakenError."""
        self._claim.phase = "subscribes"
        self._claim.kept = None
        self._claimed.clear()
        self._settled.clear()
        if self._claim.is_blind:
            with suppress(TransportError):  # the broker may still not permit reading the topic
                await self._subscribe()
            return True
        reconnects = self._reconnects
        try:
            await self._subscribe()
            claim = msgspec.structs.replace(self._own, started=None)
            delivery = await self._send(claim, retain=False)
            heard = await self._hears(delivery, self._claimed)
        except RefusedError as error:
            self._become_blind(str(error))
            return True
        if not heard:
            if self._claim.again or reconnects != self._reconnects:
                raise WaitTimeoutError("the broker did not return the daemon's claim")
            self._become_blind("the broker does not return what this daemon publishes there")
        elif self._is_claiming() and self._claim.kept is not None:
            await self._look_at(self._claim.kept)
        if self._claim.other is not None:
            raise taken(self._host, self._claim.other)
        return self._claim.is_blind or self._is_claiming()

    async def _subscribe(self) -> None:
        with suppress(SubscriptionError):  # the broker then sends the retained presence again
            await self._communicator.unsubscribe(self._topic)
        await self._communicator.subscribe(
            self._topic, self._heard, WATCH_QOS, timeout=self._patience
        )

    def _is_claiming(self) -> bool:
        """Return False once the claim must be made again."""
        return self._claim.phase == "claims"

    async def _look_at(self, kept: Presence) -> None:
        if not self._claim.again:
            self._claim.earlier.add(kept.instance)
        decision = decide_kept(self._own, kept, again=self._claim.claims_again(kept))
        if decision == "refuse":
            self._refuse(kept)
        elif kept.status == "online" and kept.instance is None:
            log.warning(
                "the broker keeps the presence of an older daemon of the host %s, and that "
                "version does not answer claims; check that it has stopped, because two daemons "
                "of a host both execute every order",
                self._host,
            )
        elif decision == "ask":
            log.info(
                "waiting %g s for an answer of the daemon with the client id %s, which was online "
                "for this host",
                CLAIM_SECONDS,
                kept.client_id,
            )
            await _set_in_time(self._settled, CLAIM_SECONDS)

    async def _announce(self) -> bool:
        """Publish that we work, and wait until we receive it. Raises HostTakenError.

        Return False if it proves nothing: the host must be claimed again.
        """
        if self._claim.other is not None:
            raise taken(self._host, self._claim.other)
        if not self._claim.is_blind and not self._is_claiming():
            return False
        stills, presence = self._stills, self._online()
        self._claim.expected = presence.time
        self._heard_online.clear()
        delivery = await self._send(presence, retain=True)
        if self._claim.is_blind:
            self._claim.phase = "works"
            return True
        heard = await self._hears(delivery, self._heard_online)
        if self._claim.other is not None:
            raise taken(self._host, self._claim.other)
        if not heard:
            raise WaitTimeoutError("the broker did not return the daemon's presence")
        self._claim.again = True
        self._patience = CLAIM_SECONDS
        self._look_at_beat(moves=False)
        return stills == self._stills and self._claim.phase == "works"

    async def _send(self, presence: Presence, *, retain: bool) -> Delivery:
        payload = presence.to_yaml().encode()
        return await self._communicator.send(
            payload, self._topic, CLAIM_QOS, retain, timeout=self._patience
        )

    async def _hears(self, delivery: Delivery, event: asyncio.Event) -> bool:
        """Return whether we received a message of ours.

        Raises TransportError if it was not delivered.
        """
        await wait_async(delivery.future, self._patience, "the confirmation of the presence")
        return await _set_in_time(event, self._patience)

    def _become_blind(self, why: str) -> None:
        self._claim.is_blind = True
        log.warning(
            "this daemon cannot detect another daemon of the host %s: %s; allow it at the broker "
            "to read and write %s",
            self._host,
            why,
            self._topic,
        )

    def _see(self) -> None:
        """Claim the host in the usual way, because the broker now permits the use of the topic."""
        self._claim.is_blind = False
        log.info("this daemon now receives its presence on %s, and claims its host", self._topic)
        if self._works:
            self._claim.again = True
            self._claim_again()
        else:
            self._begin_anew()

    def _check_session(self) -> None:
        """Warn if the broker has kept orders for this daemon that another one has also received."""
        last = None if self._claim.kept is None else self._claim.kept.client_id
        if last in (None, self._own.client_id) or self._communicator.session_start != 0:
            return
        log.warning(
            "the last daemon of the host %s had the client id %s, and the broker has also kept "
            "the orders of that time for the client id %s; this daemon executes those that have "
            "not expired, although the last one may have executed them; use one client id and one "
            "journal for a host",
            self._host,
            last,
            self._own.client_id,
        )

    # Messages on the topic.

    async def _heard(self, message: ReceivedMessage) -> None:
        seen = _read(message.payload)
        decision = decide(self._claim, seen, retained=message.retain)
        if seen is not None:
            self._claim.note(seen)
        match decision:
            case "keep":
                self._claim.keep(seen)
            case "claimed":
                self._claim.phase = "claims"
                self._claimed.set()
            case "won":
                self._claim.phase = "works"
                self._connection = message.connection
                self._heard_online.set()
            case "see":
                self._see()
            case "settle":
                self._settled.set()
            case "answer":
                self._answer()
            case "refuse" | "claim again" | "insist":
                assert seen is not None
                self._heard_other(seen, decision)

    def _heard_other(self, seen: Presence, decision: Decision) -> None:
        if decision == "refuse":
            self._refuse(seen)
            return
        again = decision == "claim again"
        log.warning(
            "a daemon with the client id %s reports that it also works for the host %s; this "
            "daemon %s",
            seen.client_id,
            self._host,
            "claims the host again"
            if again
            else "started later and continues; stop the other one if this message appears again",
        )
        if again:
            self._claim_again()
        else:
            self._claim.earlier.add(seen.instance)
            self._answer()

    def _refuse(self, other: Presence) -> None:
        if self._claim.other is None:
            self._claim.other = other
        self._settled.set()
        self._heard_online.set()


def _read(payload: bytes) -> Presence | None:
    if len(payload) > LARGEST_PRESENCE:
        return None
    try:
        return Presence.from_yaml(payload)
    except MessageError:
        return None


async def _set_in_time(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
