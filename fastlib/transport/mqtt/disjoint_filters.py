"""A set of filters that do not overlap, which covers all subscriptions of a client.

If subscriptions of one client overlap, a broker may send one copy of a message, or one for each
subscription (MQTT 3.1.1, section 3.3.5). mosquitto sends one copy with 3.1.1 and several with 5.
The client cannot distinguish a copy from an equal message. Therefore it asks the broker only for
filters that do not overlap: a wider filter replaces filters that overlap. The router matches each
message again with the subscriptions.
"""

from collections.abc import Iterable

from fastlib.transport.filters import join, overlap


class DisjointFilters:
    """Filters that do not overlap, with the subscriptions that each one covers."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, int]] = {}

    def filters(self) -> dict[str, int]:
        """Return all filters with their QoS."""
        return {wide: max(members.values()) for wide, members in self._groups.items()}

    def add(self, pattern: str, qos: int) -> tuple[str, list[str]]:
        """Add a subscription. Return the filter that covers it, and the filters it replaces."""
        wide, members, replaced = pattern, {pattern: qos}, []
        while found := [other for other in self._groups if overlap(other, wide)]:
            for other in found:
                members = self._groups.pop(other) | members
                wide = join(wide, other)
                replaced.append(other)
        self._groups[wide] = members
        return wide, [other for other in replaced if other != wide]

    def remove(self, pattern: str) -> tuple[list[str], list[str]]:
        """Remove a subscription. Return the filters to subscribe and to unsubscribe instead."""
        wide = next((w for w, members in self._groups.items() if pattern in members), None)
        if wide is None:
            return [], []
        members = self._groups.pop(wide)
        del members[pattern]
        rest = DisjointFilters._of(members.items())
        self._groups.update(rest._groups)
        wanted = [other for other in rest._groups if other != wide]
        return wanted, [] if wide in rest._groups else [wide]

    def __contains__(self, wide: str) -> bool:
        return wide in self._groups

    def qos(self, wide: str) -> int:
        """Return the QoS to request for a filter."""
        return max(self._groups[wide].values())

    @staticmethod
    def _of(members: Iterable[tuple[str, int]]) -> "DisjointFilters":
        disjoint = DisjointFilters()
        for pattern, qos in members:
            disjoint.add(pattern, qos)
        return disjoint
