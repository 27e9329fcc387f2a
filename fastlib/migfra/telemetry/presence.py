"""Publish whether the daemon is online: a retained message, and a last will for its loss."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from logging import getLogger
from typing import Final, Literal

import msgspec

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.migfra.errors import ClaimError
from fastlib.transport import AsyncCommunicator, ClosedError, Delivery, TransportError, Will
from fastlib.transport.futures import wait_async

from .logs import context_without_task

log = getLogger("fastlib.migfra")

QOS: Final = 1
ROOM_SECONDS: Final = 30.0
"""Maximum seconds that `online` may wait for room in the queue of messages."""
END_SECONDS: Final = 2.0
"""Maximum seconds that `offline` may wait for room in the queue of messages."""
Status = Literal["online", "offline"]


def offline(client_id: str | None, instance: str | None, time: datetime | None = None) -> bytes:
    """Return the presence of a daemon that has ended, at a time if that is known."""
    presence = Presence(status="offline", client_id=client_id, instance=instance, time=time)
    return presence.to_yaml().encode()


def last_will(host: str, client_id: str | None, instance: str) -> Will:
    """Return what the broker publishes when the daemon is lost; nobody knows when that will be."""
    payload = offline(client_id, instance)
    return Will(topic=topics.PRESENCE(host), payload=payload, qos=QOS, retain=True)


async def _at_once() -> None:
    """Return at once: the default if there is no wait."""


class PresencePublisher:
    """Publishes that the daemon is online, with its time: when that changes, and at intervals.

    `OtherDaemons` publishes it first, and after each interruption.
    """

    def __init__(
        self,
        communicator: AsyncCommunicator,
        host: str,
        presence: Presence,
        *,
        interval: float,
        ready: Callable[[], Awaitable[object]] = _at_once,
        degraded: Callable[[], str | None] = lambda: None,
        check: Callable[[], Awaitable[object]] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`presence` has the constant fields; `interval` is in seconds.

        `ready` waits until we may publish `online`, and raises ClaimError if we must not.
        `degraded` returns the reason why no task is accepted at present, or None; call `changed`
        when that has changed. `check` is called before each other reading of it.
        """
        self._communicator = communicator
        self._topic = topics.PRESENCE(host)
        self._presence = presence
        self._interval = interval
        self._ready = ready
        self._degraded = degraded
        self._check = check
        self._clock = clock
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._ending = False
        self._offline: Delivery | None = None

    def begin(self) -> None:
        """Publish all changes from now on, and the time at intervals."""
        # Its log lines are not about a task.
        self._worker = asyncio.create_task(self._run(), context=context_without_task())

    def online(self) -> Presence:
        """Return our presence of now."""
        return msgspec.structs.replace(self._presence, time=self._now(), degraded=self._degraded())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now(), UTC)

    def changed(self) -> None:
        """Publish the changes; returns at once."""
        self._changed.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._changed.wait()
            # A periodic presence must not be sent again later, with an old time.
            qos = QOS if self._changed.is_set() else 0
            self._changed.clear()
            if qos == 0 and self._check is not None:
                await self._check()
            if self._communicator.is_connected:
                try:
                    await self._ready()
                except ClaimError:
                    return
                await self._try_to_publish("online", qos)

    async def end(self) -> None:
        """Publish `offline`, once; `is_offline` waits until the broker has it."""
        if self._ending:
            return
        self._ending = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait((self._worker,))
        self._offline = await self._try_to_publish("offline", QOS, END_SECONDS)

    def give_up(self) -> None:
        """Stop publishing, as if the process had been killed."""
        self._ending = True
        if self._worker is not None:
            self._worker.cancel()

    async def is_offline(self, timeout: float) -> bool:
        """Return whether the broker has `offline`; wait for that at most `timeout` seconds."""
        if self._offline is None:
            return False
        if self._communicator.is_connected:
            with suppress(TimeoutError, TransportError):
                await wait_async(self._offline.future, timeout, "the confirmation of `offline`")
        return self._offline.done and self._offline.future.exception() is None

    async def _try_to_publish(
        self, status: Status, qos: int, timeout: float = ROOM_SECONDS
    ) -> Delivery | None:
        try:
            return await self._publish(status, qos, timeout)
        except ClosedError:
            return None  # the broker has published the last will
        except TransportError as error:
            log.warning("this daemon could not publish its presence: %s", error)
        except Exception:  # tasks continue without it
            log.exception("this daemon could not publish its presence")
        return None

    async def _publish(
        self, status: Status, qos: int = QOS, timeout: float = ROOM_SECONDS
    ) -> Delivery:
        if status == "online":
            payload = self.online().to_yaml().encode()
        else:
            payload = offline(self._presence.client_id, self._presence.instance, self._now())
        return await self._communicator.send(
            payload, self._topic, qos, retain=True, timeout=timeout
        )
