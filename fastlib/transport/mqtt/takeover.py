"""Detect two clients with the same client id, which disconnect each other."""

from typing import Final

from fastlib.transport.errors import ClientIdTakenError

SHORT_CONNECTIONS: Final = 3
"""The number of consecutive short connections from which a second client is assumed."""

SESSION_TAKEN_OVER: Final = 0x8E
"""MQTT 5: the reason code of a DISCONNECT."""


class TakeoverDetector:
    """Observes the end of each connection.

    MQTT 5 reports the reason. MQTT 3.1.1 only ends the connection. With 3.1.1, a second client is
    assumed only if all other causes are excluded: several short connections ended in a row, none
    with a reason, none while this client was sending, and the broker kept running: it accepted a
    connection that was tried at once after each end. A broker that restarts does not.
    """

    def __init__(self, client_id: str, short: float) -> None:
        """A connection of less than `short` seconds is short.

        It must be longer than the longest pause between two connections of another client.
        """
        self._client_id = client_id
        self._short = short
        self._count = 0
        self._checks = 0

    @property
    def wants_check(self) -> bool:
        """True if the next try must begin at once to find out whether the broker keeps running."""
        return 0 < self._count < SHORT_CONNECTIONS

    def connection_ended(
        self, lifetime: float, reason: int | None, *, idle: bool = True
    ) -> ClientIdTakenError | None:
        """Note that the broker has ended an accepted connection. Return an error if detected.

        `idle` is False if this client was sending something that may be the cause.
        """
        if reason == SESSION_TAKEN_OVER:
            return ClientIdTakenError(self._client_id, certain=True)
        if lifetime >= self._short or reason is not None or not idle:
            self.explained()
            return None
        self._count += 1
        if self._count >= SHORT_CONNECTIONS and self._checks >= SHORT_CONNECTIONS - 1:
            return ClientIdTakenError(self._client_id, certain=False)
        return None

    def connected(self, *, at_once: bool) -> None:
        """Note an accepted connection. With `at_once`, the try was right after the last end."""
        if self._count and at_once:
            self._checks += 1
        elif self._count < SHORT_CONNECTIONS:
            self.explained()

    def explained(self) -> None:
        """Note that the ends so far have another cause, such as an unreachable broker."""
        self._count = self._checks = 0
