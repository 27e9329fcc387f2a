"""The beginnings of a client's sessions at its brokers. No I/O."""

from typing import Final

BrokerAddress = tuple[str, int, str]
"""Host and port of a broker, and its address if its name has several."""


class SessionStarts:
    """Knows for each broker the connection that began its session of this client.

    Another broker knows nothing about the messages in flight, even if it has an older session of
    this client: the packet ids belong to another session.
    """

    def __init__(self) -> None:
        self.current = 0
        """The connection that began the current session; 0 if it is older."""
        self._last: BrokerAddress | None = None
        """The broker of the last accepted connection."""
        self._starts: Final[dict[BrokerAddress, int]] = {}

    def accepted(self, broker: BrokerAddress, connection: int, *, resumed: bool) -> bool:
        """Note an accepted connection by its number; `resumed` is from its CONNACK.

        Return True if this is not the session of the last connection.
        """
        moved = bool(self._starts) and broker != self._last
        self._last = broker
        if not resumed:
            self._starts[broker] = connection
        elif moved:
            self._starts.setdefault(broker, connection)
        else:
            self._starts.setdefault(broker, self.current)
        self.current = self._starts[broker]
        return moved or not resumed
