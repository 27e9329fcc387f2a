"""The common declarations of the clients for threads and for coroutines."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from fastlib.message.node import Presence
from fastlib.message.topics import PRESENCE
from fastlib.transport import TransportError
from fastlib.transport.own_process import not_copied

from .arguments import check_watched
from .core import ClientCore
from .errors import ClientError
from .subscriptions import ClientSubscriptions, watched_of
from .watchers import Watcher

W = TypeVar("W", bound=Watcher)


class ClientBase:
    """The common declarations of the clients for threads and for coroutines."""

    _core: ClientCore

    _subscriptions: ClientSubscriptions

    def __reduce__(self) -> NoReturn:
        raise not_copied(self)

    @property
    def presences(self) -> Mapping[str, Presence]:
        """The last presence that each fastlib daemon of the cluster reported, by host.

        The first use subscribes to the presence of all hosts, and those that the broker has
        retained come soon after it. `presence` has that of one host.
        """
        self._listen_to_presences()
        return self._core.presences.all()

    def _listen_to_presences(self) -> None:
        with suppress(ClientError, TransportError):  # closed: what is known stays
            self._subscriptions.hold_for_good(PRESENCE)

    def presence(self, host: str) -> Presence | None:
        """Return the last presence of a host that this client sends orders, or that it watches.

        None if its daemon has shown none, and for all other hosts.
        """
        return self._core.presences.last(host)

    @contextmanager
    def _new_watch(
        self,
        kind: Callable[[Callable[[Any], None]], W],
        hosts: Iterable[str] | None,
        **chosen: bool,
    ) -> "Iterator[tuple[W, Iterable[Future[None]]]]":
        """Subscribe to what a new watch observes. It begins to observe after the block.

        The block waits for the confirmations that it gets.
        """
        check_watched(**chosen)
        watched = watched_of(hosts, **chosen)
        held = self._subscriptions.hold(watched.topics, watched.hosts)

        def unwatch(watch: W) -> None:
            self._core.unwatch(watch)
            self._subscriptions.release(held)

        watch = kind(unwatch)
        try:
            yield watch, held.confirmed.values()
            self._core.watch(watch, watched)
        except BaseException:
            self._subscriptions.release(held)
            raise
