"""What to ask the broker for, so that it sends each message once.

Where subscriptions of one client overlap, a broker may send one copy or one for each (MQTT 3.1.1,
section 3.3.5), and mosquitto does the one for 3.1.1 and the other for 5. Copies cannot be told from
messages that happen to be equal. So the broker is only asked for filters that do not overlap: where
some do, for one filter around them. The messages are then matched again on our side.
"""

from collections.abc import Iterable

from fastlib.transport.filters import join, overlap


class Cover:
    """Filters that do not overlap, and the subscriptions behind each."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, int]] = {}

    def filters(self) -> dict[str, int]:
        """Every filter for the broker, with its QoS."""
        return {around: max(members.values()) for around, members in self._groups.items()}

    def add(self, pattern: str, qos: int) -> tuple[str, list[str]]:
        """Add a subscription: the filter that is now around it, and those that it replaces."""
        around, members, replaced = pattern, {pattern: qos}, []
        while found := [other for other in self._groups if overlap(other, around)]:
            for other in found:
                members = self._groups.pop(other) | members
                around = join(around, other)
                replaced.append(other)
        self._groups[around] = members
        return around, [other for other in replaced if other != around]

    def remove(self, pattern: str) -> tuple[list[str], list[str]]:
        """Remove a subscription: the filters to ask for instead, and those no longer needed."""
        around = next((a for a, members in self._groups.items() if pattern in members), None)
        if around is None:
            return [], []
        members = self._groups.pop(around)
        del members[pattern]
        rest = Cover._of(members.items())
        self._groups.update(rest._groups)
        wanted = [other for other in rest._groups if other != around]
        return wanted, [] if around in rest._groups else [around]

    def __contains__(self, around: str) -> bool:
        return around in self._groups

    def qos(self, around: str) -> int:
        """The QoS to ask for."""
        return max(self._groups[around].values())

    @staticmethod
    def _of(members: Iterable[tuple[str, int]]) -> "Cover":
        cover = Cover()
        for pattern, qos in members:
            cover.add(pattern, qos)
        return cover
