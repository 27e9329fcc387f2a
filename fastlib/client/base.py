"""What the clients for threads and for coroutines declare alike."""

from collections.abc import Mapping
from contextlib import suppress

from fastlib.message.node import Presence
from fastlib.message.topics import PRESENCE
from fastlib.transport import TransportError

from .core import ClientCore
from .errors import ClientError
from .subscriptions import ClientSubscriptions


class ClientBase:
    """What the clients for threads and for coroutines declare alike."""

    _core: ClientCore

    _subscriptions: ClientSubscriptions

    @property
    def presences(self) -> Mapping[str, Presence]:
        """The last presence that each fastlib daemon of the cluster reported, by host.

        The first use subscribes to the presence of all hosts, and those that the broker has
        retained come soon after it. `presence` has that of one host.
        """
        self._listen_to_presences()
        return self._core.presences()

    def _listen_to_presences(self) -> None:
        with suppress(ClientError, TransportError):  # closed: what is known stays
            self._subscriptions.hold_for_good(PRESENCE)

    def presence(self, host: str) -> Presence | None:
        """Return the last presence of a host that this client sends orders, or that it watches.

        None if its daemon has shown none, and for all other hosts.
        """
        return self._core.presence(host)
