"""The hosts that a client listens to because it has sent them orders. No I/O."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

IDLE_SECONDS: Final = 600.0
"""Seconds after the last order to a host until the client may unsubscribe from its topics."""

MAX_HOSTS: Final = 10_000
"""The maximum number of hosts to listen to, besides those with pending orders."""

MAX_LEFT_AT_ONCE: Final = 10
"""The maximum number of hosts to leave with one order, so no order takes long."""


class HostsInUse:
    """Hosts in the order of their last use. The time of a call does not grow with their number."""

    def __init__(self, max_hosts: int = MAX_HOSTS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._max_hosts = max_hosts
        self._idle_seconds = idle_seconds
        self._used: OrderedDict[str, float] = OrderedDict()

    def use(self, host: str, now: float) -> bool:
        """Note an order at a monotonic time. Return True if the host was not in use."""
        new = host not in self._used
        self._used[host] = now
        self._used.move_to_end(host)
        return new

    def leave(self, host: str) -> bool:
        """Remove a host. Return False if it was not in use."""
        return self._used.pop(host, None) is not None

    def leave_unused(self, now: float, is_needed: Callable[[str], bool]) -> list[str]:
        """Remove and return hosts that were idle for long or exceed the maximum, oldest first.

        A host for which `is_needed` returns True counts as used now.
        """
        left: list[str] = []
        for _ in range(MAX_LEFT_AT_ONCE):
            host = next(iter(self._used), None)
            if host is None:
                break
            idle = now - self._used[host] >= self._idle_seconds
            if not idle and len(self._used) <= self._max_hosts:
                break
            if is_needed(host):
                self.use(host, now)
            else:
                del self._used[host]
                left.append(host)
        return left

    def __contains__(self, host: str) -> bool:
        return host in self._used

    def __len__(self) -> int:
        return len(self._used)
