"""Choices: which of several ways a writer of YAML takes, in each place.

The first way is always the plain one. `PlainChoices` takes no other. `RandomChoices` follows a
random generator, for thousands of texts. `CountedChoices` takes other ways in a few numbered places
only. A caller that draws those numbers can so find the plainest text that still fails.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol, TypeVar

Way = TypeVar("Way")


class Choices(Protocol):
    """Decides for a writer."""

    def habit(self, ways: Sequence[Way]) -> Way:
        """One of some ways, for the whole of a text."""

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        """One of some ways, in one place; `what` says what it is about."""


class PlainChoices:
    """The plain way everywhere; counts the turns at which there was another."""

    def __init__(self) -> None:
        self.habits = 0
        self.turns: Counter[str] = Counter()

    def habit(self, ways: Sequence[Way]) -> Way:
        self.habits += 1
        return ways[0]

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        self.turns[what] += 1
        return ways[0]


class RandomChoices:
    """Any habits, and now and then another way in one place."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._rate = rng.choice([0.0, 0.0, 0.02, 0.05, 0.2])

    def habit(self, ways: Sequence[Way]) -> Way:
        return ways[0] if self._rng.random() < 0.4 else self._rng.choice(ways)

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        return ways[0] if self._rng.random() >= self._rate else self._rng.choice(ways)


class CountedChoices:
    """Other ways at the habits and the turns of which the number is given, from 0.

    The turns are counted for each thing that they are about, so that what is done in one place is
    done there whatever else changes.
    """

    def __init__(self, habits: Mapping[int, int], turns: Mapping[tuple[str, int], int]) -> None:
        """The values are which way, counted from the second and round the ways."""
        self._habits = habits
        self._turns = turns
        self._asked: Counter[str | None] = Counter()

    def habit(self, ways: Sequence[Way]) -> Way:
        return _other(ways, self._habits.get(self._next(None)))

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        return _other(ways, self._turns.get((what, self._next(what))))

    def _next(self, what: str | None) -> int:
        self._asked[what] += 1
        return self._asked[what] - 1


def _other(ways: Sequence[Way], number: int | None) -> Way:
    return ways[0] if number is None or len(ways) < 2 else ways[1 + number % (len(ways) - 1)]
