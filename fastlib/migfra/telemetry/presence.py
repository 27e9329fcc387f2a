"""Publishes whether the daemon is online: a retained message, and a last will for its loss."""

from logging import getLogger
from typing import Final

from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.transport import AsyncCommunicator, TransportError, Will

log = getLogger("fastlib.migfra")

QOS: Final = 1
_OFFLINE: Final = Presence(status="offline").to_yaml().encode()


def last_will(host: str) -> Will:
    """Return what the broker publishes when the daemon is lost."""
    return Will(topic=topics.PRESENCE(host), payload=_OFFLINE, qos=QOS, retain=True)


class PresencePublisher:
    """Publishes that the daemon is online, and does so again after each interruption.

    The broker publishes the last will when a connection is lost, before the next one is made.
    """

    def __init__(self, communicator: AsyncCommunicator, host: str, presence: Presence) -> None:
        self._communicator = communicator
        self._topic = topics.PRESENCE(host)
        self._online = presence.to_yaml().encode()
        self._ending = False

    async def begin(self) -> None:
        """Publish `online`. Raises TransportError."""
        self._communicator.on_reconnect(self._again)
        await self._publish(self._online)

    async def _again(self) -> None:
        if not self._ending:
            await self._try_to_publish(self._online)

    async def end(self) -> None:
        """Publish `offline`; `close` of the communicator waits until that is confirmed."""
        self._ending = True
        await self._try_to_publish(_OFFLINE)

    async def _try_to_publish(self, payload: bytes) -> None:
        try:
            await self._publish(payload)
        except TransportError as error:
            log.warning("cannot say whether this daemon is there: %s", error)
        except Exception:  # the tasks go on without it
            log.exception("cannot say whether this daemon is there")

    async def _publish(self, payload: bytes) -> None:
        await self._communicator.send(payload, self._topic, QOS, retain=True)
