"""The daemon's connection to its broker."""

from contextlib import suppress
from logging import getLogger
from typing import Final

import msgspec

from fastlib.transport import (
    AsyncCommunicator,
    ClosedError,
    ConnectError,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    RefusedError,
    TransportError,
    UndeliveredError,
    connect_async,
)

from .config.file import Configuration
from .failures import OnFailure
from .telemetry.presence import last_will

log = getLogger("fastlib.migfra")

CLOSE_SECONDS: Final = 10.0
"""Seconds that the broker may take to confirm the last messages."""


class BrokerConnection:
    """Connects by the configuration, or by given options, with the daemon's last will."""

    def __init__(
        self,
        configuration: Configuration,
        given: MqttOptions | MemoryOptions | MemoryBroker | None,
        instance: str,
        on_failure: OnFailure,
    ) -> None:
        """`instance` names this run in the last will.

        `on_failure` is called if the connection ends and is not opened again, which only an error
        can cause.

        Raises ConfigurationError and OptionsError.
        """
        self._on_failure = on_failure
        self._closing = False
        options: MqttOptions | MemoryOptions
        if given is None:
            options = configuration.mqtt_options()
        elif isinstance(given, MemoryBroker):
            id = configuration.named(configuration.communicator.id)
            options = MemoryOptions(broker=given, client_id=id, persistent=True)
        else:
            options = given
        will = last_will(configuration.host, options.client_id, instance)
        self._options: Final = msgspec.structs.replace(options, will=will)
        self._communicator: AsyncCommunicator | None = None
        self._last_error: Exception | None = None
        self.close_timeout = CLOSE_SECONDS
        """Maximum seconds that `close` waits for the broker."""
        self.refusal: str | None = None
        """The reason why the broker delivers no orders, None if it delivers them."""
        self.publish_will = True
        """False once the broker needs no last will: it has the presence `offline`."""

    @property
    def client_id(self) -> str | None:
        """The daemon's client id at the broker."""
        return self._options.client_id

    async def open(self) -> AsyncCommunicator:
        """Connect; wait for the broker without a limit. Raises RefusedError."""
        while True:
            try:
                self._communicator = await connect_async(self._options)
            except RefusedError:
                raise
            except ConnectError as error:
                self._last_error = error
                log.debug("connecting again after an error: %s", error)  # the reason was logged
            else:
                self._communicator.on_close(self._ended)
                return self._communicator

    def _ended(self, error: ClosedError) -> None:
        if not self._closing:
            self._on_failure("the connection to the broker", error)

    def outage(self) -> str | None:
        """Return the reason why there is no connection now, None if there is one."""
        communicator = self._communicator
        if communicator is None:
            return str(self._last_error or "the broker has not answered yet")
        if communicator.is_connected:
            return None
        return str(communicator.last_error or "there is no connection")

    async def close(self) -> None:
        """Disconnect when the broker has confirmed everything, or at the end of `close_timeout`."""
        assert self._communicator is not None
        self._closing = True
        try:
            await self._communicator.close(self.close_timeout, publish_will=self.publish_will)
        except UndeliveredError as error:
            log.warning(
                "the broker has not confirmed all messages; the next run sends them again: %s",
                error,
            )

    async def drop(self) -> None:
        """End the connection without a DISCONNECT, as if the process were killed."""
        assert self._communicator is not None
        self._closing = True
        with suppress(TransportError):
            await self._communicator.close(0, publish_will=True)
