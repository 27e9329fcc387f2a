"""Detection of two clients with the same client id, which disconnect each other."""

from typing import Final

from fastlib.transport.errors import ClientIdTakenError

SHORT_CONNECTIONS: Final = 3
"""The number of consecutive short connections from which a second client is assumed."""

SESSION_TAKEN_OVER: Final = 0x8E
"""MQTT 5: the reason code of a DISCONNECT."""


class TakeoverDetector:
    """Observes the end of each connection.

    MQTT 5 reports the reason. MQTT 3.1.1 only ends the connection, so the only sign is several
    short connections in a row. If the broker was unreachable in between, that explains them.
    """

    def __init__(self, client_id: str, short: float) -> None:
        """A connection of less than `short` seconds is short.

        It must be longer than the longest pause between two connections of another client.
        """
        self._client_id = client_id
        self._short = short
        self._count = 0

    def connection_ended(self, lifetime: float, reason: int | None) -> ClientIdTakenError | None:
        """Note that the broker has ended an accepted connection; return an error if detected."""
        if reason == SESSION_TAKEN_OVER:
            return ClientIdTakenError(self._client_id, certain=True)
        self._count = self._count + 1 if lifetime < self._short else 0
        if self._count >= SHORT_CONNECTIONS:
            return ClientIdTakenError(self._client_id, certain=False)
        return None

    def broker_unreachable(self) -> None:
        """Note that the broker could not be reached."""
        self._count = 0
