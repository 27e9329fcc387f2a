"""Noticing that two clients use one client id and throw each other out."""

from typing import Final

from fastlib.transport.errors import ClientIdTakenError

SUSPICIOUS: Final = 3
"""Connections in a row that the broker ended soon, without being gone itself."""

TAKEN_OVER: Final = 0x8E
"""MQTT 5 reason code of a DISCONNECT."""


class TakeOver:
    """Watches how connections end.

    MQTT 5 says so. MQTT 3.1.1 just ends the connection, so that several short ones in a row are
    the only sign; a broker that could not be reached in between explains them otherwise.
    """

    def __init__(self, client_id: str, soon: float) -> None:
        """`soon` is in seconds; a fight at the slowest back-off must look short."""
        self._client_id = client_id
        self._soon = soon
        self._short = 0

    def ended(self, lifetime: float, reason: int | None) -> ClientIdTakenError | None:
        """An accepted connection was ended by the other side."""
        if reason == TAKEN_OVER:
            return ClientIdTakenError(self._client_id, certain=True)
        self._short = self._short + 1 if lifetime < self._soon else 0
        if self._short >= SUSPICIOUS:
            return ClientIdTakenError(self._client_id, certain=False)
        return None

    def broker_gone(self) -> None:
        """The broker could not be reached."""
        self._short = 0
