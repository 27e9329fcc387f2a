"""The daemon's connection to its broker."""

from contextlib import suppress
from logging import getLogger
from typing import Final

import msgspec

from fastlib.transport import (
    AsyncCommunicator,
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
from .telemetry.presence import last_will

log = getLogger("fastlib.migfra")

CLOSE_SECONDS: Final = 10.0
"""How long the broker may take to confirm what was sent last."""


class BrokerConnection:
    """Connects as the configuration says, or as it was given, with the daemon's last will."""

    def __init__(
        self,
        configuration: Configuration,
        given: MqttOptions | MemoryOptions | MemoryBroker | None,
    ) -> None:
        """Raises ConfigurationError and OptionsError."""
        will = last_will(configuration.host)
        self._options: MqttOptions | MemoryOptions
        if given is None:
            self._options = configuration.mqtt_options(will)
        elif isinstance(given, MemoryBroker):
            id = configuration.named(configuration.communicator.id)
            self._options = MemoryOptions(broker=given, client_id=id, persistent=True, will=will)
        else:
            self._options = msgspec.structs.replace(given, will=will)
        self._will = will
        self._communicator: AsyncCommunicator | None = None
        self.close_timeout = CLOSE_SECONDS
        """Seconds that `close` waits for the broker at most."""

    async def open(self) -> AsyncCommunicator:
        """Connect, however long it takes until the broker is there. Raises RefusedError."""
        while True:
            try:
                self._communicator = await connect_async(self._options)
            except RefusedError:
                raise
            except ConnectError as error:
                log.debug("once more from the beginning: %s", error)  # the reason was logged
            else:
                return self._communicator

    async def close(self) -> None:
        """Say goodbye once the broker has everything, or when `close_timeout` is over."""
        assert self._communicator is not None
        try:
            await self._communicator.close(self.close_timeout)
        except UndeliveredError as error:
            log.warning("not confirmed, and sent again by the next run: %s", error)

    async def drop(self) -> None:
        """Be gone without a word. The last will of a real broker is played, not caused."""
        assert self._communicator is not None
        options = self._options
        with suppress(TransportError):
            if isinstance(options, MemoryOptions) and options.client_id is not None:
                options.broker.cut(options.client_id)
                try:
                    await self._communicator.close(0)
                finally:
                    options.broker.mend(options.client_id)
            else:
                will = self._will
                await self._communicator.send(will.payload, will.topic, will.qos, will.retain)
                await self._communicator.close(1)
