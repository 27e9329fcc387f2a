"""Choices: select one of several spellings for a YAML writer, in each place.

The first way is always the plain one. `PlainChoices` always takes it. `RandomChoices` uses a random
generator, for thousands of texts. `CountedChoices` takes other ways only in a few numbered places.
A caller that draws these numbers can find the plainest text that still fails.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol, TypeVar

Way = TypeVar("Way")


class Choices(Protocol):
    """Decides the spellings of a writer."""

    def habit(self, ways: Sequence[Way]) -> Way:
        """Return one of some ways for the whole text."""

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        """Return one of some forms for one place; `what` names the subject."""


class PlainChoices:
    """Takes the plain way everywhere, and counts the turns with an alternative."""

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
    """Takes random habits, and sometimes another way in one place."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._rate = rng.choice([0.0, 0.0, 0.02, 0.05, 0.2])

    def habit(self, ways: Sequence[Way]) -> Way:
        return ways[0] if self._rng.random() < 0.4 else self._rng.choice(ways)

    def turn(self, what: str, ways: Sequence[Way]) -> Way:
        return ways[0] if self._rng.random() >= self._rate else self._rng.choice(ways)


class CountedChoices:
    """Takes other ways at the habits and turns with the given numbers, from 0.

    The turns are counted for each subject separately. So the choice in one place does not change if
    other choices change.
    """

    def __init__(self, habits: Mapping[int, int], turns: Mapping[tuple[str, int], int]) -> None:
        """The values select the way: they are counted from the second way, modulo their number."""
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
