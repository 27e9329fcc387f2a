"""Tells whoever listens whether the daemon is there: kept by the broker, offline as last will."""

from logging import getLogger
from typing import Final

from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.transport import AsyncCommunicator, TransportError, Will

log = getLogger("fastlib.migfra")

QOS: Final = 1
_OFFLINE: Final = Presence(status="offline").to_yaml().encode()


def last_will(host: str) -> Will:
    """What the broker says when the daemon is gone without a word."""
    return Will(topic=topics.PRESENCE(host), payload=_OFFLINE, qos=QOS, retain=True)


class PresencePublisher:
    """Says that the daemon is there, and after each interruption says so again.

    The broker sends the last will when a connection was lost, so before the next one.
    """

    def __init__(self, communicator: AsyncCommunicator, host: str, presence: Presence) -> None:
        self._communicator = communicator
        self._topic = topics.PRESENCE(host)
        self._online = presence.to_yaml().encode()
        self._ending = False

    async def begin(self) -> None:
        """Say that the daemon is there. Raises TransportError."""
        self._communicator.on_reconnect(self._again)
        await self._say(self._online)

    async def _again(self) -> None:
        if not self._ending:
            await self._try_to_say(self._online)

    async def end(self) -> None:
        """Say that the daemon goes; `close` of the communicator waits until that is confirmed."""
        self._ending = True
        await self._try_to_say(_OFFLINE)

    async def _try_to_say(self, payload: bytes) -> None:
        try:
            await self._say(payload)
        except TransportError as error:
            log.warning("cannot say whether this daemon is there: %s", error)

    async def _say(self, payload: bytes) -> None:
        await self._communicator.send(payload, self._topic, QOS, retain=True)
