"""A set of filters that do not overlap, which covers all subscriptions of a client.

If subscriptions of one client overlap, a broker may send one copy of a message, or one for each
subscription (MQTT 3.1.1, section 3.3.5). mosquitto sends one copy with 3.1.1 and several with 5.
The client cannot distinguish a copy from an equal message. Therefore it asks the broker only for
filters that do not overlap: a wider filter replaces filters that overlap. The router matches each
message again with the subscriptions.

A filter that the broker refuses covers nothing and is kept separately. The subscriptions that it
would cover have their own filters, which may overlap.
"""

from collections.abc import Iterable

from fastlib.transport.filters import has_wildcard, join, overlap


class DisjointFilters:
    """Filters that do not overlap, with the subscriptions that each one covers.

    A filter without wildcards overlaps only with itself and with those that have some. So the time
    to add or remove one does not grow with their number.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, int]] = {}
        self._wild: dict[str, None] = {}
        """The filters of groups that have wildcards."""
        self._covering: dict[str, str] = {}
        """The filter that covers each subscription, except for the separate ones."""
        self._apart: dict[str, int] = {}
        """The subscriptions that the broker refuses, or has refused before, with their QoS."""
        self._refused: set[str] = set()

    def filters(self) -> dict[str, int]:
        """Return all filters with their QoS."""
        return {wide: self.qos(wide) for wide in (*self._groups, *self._apart)}

    def add(self, pattern: str, qos: int) -> tuple[str, list[str]]:
        """Add a subscription. Return the filter that covers it, and the filters it replaces."""
        if pattern in self._refused:
            self._apart[pattern] = qos
            return pattern, []
        wide, members, replaced = pattern, {pattern: qos}, []
        while found := [o for o in self._overlapping(wide) if join(wide, o) not in self._refused]:
            for other in found:
                joined = join(wide, other)
                if joined not in self._refused:
                    members, wide = self._pop(other) | members, joined
                    replaced.append(other)
        self._put(wide, members)
        return wide, [other for other in replaced if other != wide]

    def _overlapping(self, wide: str) -> list[str]:
        if has_wildcard(wide):
            return [other for other in self._groups if overlap(other, wide)]
        same = [wide] if wide in self._groups else []
        return same + [other for other in self._wild if overlap(other, wide)]

    def _put(self, wide: str, members: dict[str, int]) -> None:
        self._groups[wide] = members
        self._covering.update(dict.fromkeys(members, wide))
        if has_wildcard(wide):
            self._wild[wide] = None

    def _pop(self, wide: str) -> dict[str, int]:
        self._wild.pop(wide, None)
        return self._groups.pop(wide)

    def remove(self, pattern: str) -> tuple[list[str], list[str]]:
        """Remove a subscription. Return the filters to subscribe and to unsubscribe instead."""
        if self._apart.pop(pattern, None) is not None:
            return [], [pattern]
        wide = self._covering.pop(pattern, None)
        if wide is None:
            return [], []
        members = self._pop(wide)
        del members[pattern]
        rest = self._of(members.items())
        for other, covered in rest._groups.items():
            self._put(other, covered)
        wanted = [other for other in rest._groups if other != wide]
        return wanted, [] if wide in rest._groups else [wide]

    def refuse(self, wide: str) -> list[str]:
        """Note that the broker refuses a filter. Return the filters to subscribe to instead."""
        self._refused.add(wide)
        members = self._pop(wide) if wide in self._groups else {}
        if wide in members:
            self._apart[wide] = members.pop(wide)
            del self._covering[wide]
        rest = self._of(members.items())
        for other, covered in rest._groups.items():
            self._put(other, covered)
        return list(rest._groups)

    def accept(self, wide: str) -> tuple[list[str], list[str]]:
        """Note that the broker accepts a filter that it has refused before.

        Return the filters to subscribe and to unsubscribe instead.
        """
        self._refused.discard(wide)
        if wide not in self._apart:
            return [], []
        before = set(self._groups)
        around, replaced = self.add(wide, self._apart.pop(wide))
        wanted = [around] if around != wide and around not in before else []
        return wanted, replaced if around == wide else [*replaced, wide]

    def is_apart(self, pattern: str) -> bool:
        """Return True for a subscription that the broker refuses, or has refused before."""
        return pattern in self._apart

    def __contains__(self, wide: str) -> bool:
        return wide in self._groups or wide in self._apart

    def filter_of(self, pattern: str) -> tuple[str, int] | None:
        """Return the filter that covers or would cover a subscription, and its QoS."""
        if pattern in self._refused:
            wide = pattern if pattern in self._apart else None
        else:
            wide = self._covering.get(pattern) or next(iter(self._overlapping(pattern)), None)
        return None if wide is None else (wide, self.qos(wide))

    def qos(self, wide: str) -> int:
        """Return the QoS to request for a filter."""
        return self._apart[wide] if wide in self._apart else max(self._groups[wide].values())

    def _of(self, members: Iterable[tuple[str, int]]) -> "DisjointFilters":
        disjoint = DisjointFilters()
        disjoint._refused = self._refused
        for pattern, qos in members:
            disjoint.add(pattern, qos)
        return disjoint
