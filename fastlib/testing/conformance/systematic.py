"""Test one feature at a time: each place with each aspect, each spelling, each mistake.

Both sides agree about the other parts of such a text, so a fault belongs to this feature. The
requests do not depend on a seed. So the names of the faults do not depend on it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fastlib.codec.derivation import shape_of
from fastlib.codec.shapes import Bool, Float, Int, Text
from fastlib.message import Message
from fastlib.testing.mutations import edits_of, made
from fastlib.testing.shrinking import smaller
from fastlib.testing.texts import ODD_TEXTS

from .aspects import (
    FEW_TEXTS,
    aspects_at,
    aspects_of_text,
    extraordinary,
)
from .cases import Case, of_message, of_mistake
from .escapes import Escapes, is_testable
from .mistakes import name_of_mistake
from .places import (
    ANY_TEXT,
    Place,
    place_at,
    place_of_title,
    place_of_type,
    places_along,
    steps_of,
    title_of,
)
from .reduction import message_of
from .session import Session
from .spellings import BARE, FALLBACKS, PLAIN, SCALARS, Spelling, leaf_spellings, spellings_of
from .spots import Spot, spots_of
from .trees import at, changed, merged
from .verdict import Fault

RICHEST = 3
"""The maximum number of messages of a type, with different titles, in every spelling."""
MANY_TEXTS = tuple(dict.fromkeys((*FEW_TEXTS, *ODD_TEXTS)))
"""One text field of a run is tested with all of them."""
_FEWEST_TEXTS = ("no", "12", "a\nb", "a\r", "é", "")
"""For a place that is tested with more texts in another type."""


class Systematic:
    """Tests a number of types, one after the other."""

    def __init__(self, session: Session, types: list[type[Message]], *, is_short: bool) -> None:
        """`is_short` leaves out the texts that only one text field is tested with."""
        self._session = session
        self._types = types
        self._is_short = is_short
        self._names = {str(place_of_type(cls)) for cls in types}
        self._asked: set[Place] = set()
        """Places that were tested with all values."""
        self._has_escapes = False
        """Whether one text field was tested with all escapes."""
        self._home: tuple[type[Message], Spot] | None = None
        """The text field that is tested with many texts, in many spellings."""
        self._bad: dict[type[Message], set[Place]] = {}
        """The places of each type that the program cannot read, with any value."""
        self._wrong_texts: dict[tuple[tuple[str, ...], str], None] = {}
        """Texts that failed in a place and are not tested in every place, with their aspects."""

    def reads(self, cls: type[Message]) -> bool:
        """Return True if the program reads any message of a type."""
        return cls in self._bad

    def ask_places(self, cls: type[Message]) -> None:
        """Test each place of a type with all its values. Raises StopAsking."""
        bad: set[Place] = set()
        seen: set[Place] = set()
        for spot in spots_of(cls):
            place = place_of_spot(cls, spot)
            if not spot.path:
                if self._ask_smallest(cls, spot, place):
                    self._bad[cls] = bad
                else:
                    bad.add(place)
                if spot.shape is None:
                    continue
            if place in seen or _needs(cls, spot, bad):
                continue
            seen.add(place)
            faults = self._ask_value(cls, spot.tree, place, ())
            if any(_hides_others(fault, place) for fault in faults) or not self._session.has_option:
                bad.add(place)
            elif all(fault.place != place for fault in faults):
                self._session.agreed.add(place)
                if not self._has_escapes and place.kind == "text" and is_testable(cls, spot):
                    self._has_escapes = True
                    Escapes(self._session, cls, spot).ask()
                self._ask_values(cls, spot, place)

    def _judge(
        self,
        cls: type[Message],
        tree: Any,
        spelling: Spelling,
        place: Place,
        aspects: Sequence[str] = (),
    ) -> tuple[Case, list[Fault]] | None:
        """Return the faults of the answer to a tree; None if the tree is not a message."""
        message = message_of(cls, tree)
        if message is None:
            return None
        text = self._session.spell(message, tree, spelling)
        case = of_message(message, text, place, *aspects)
        return case, self._session.judge(case)

    def _keep(self, faults: list[Fault], case: Case) -> None:
        for fault in faults:
            self._session.findings.add(fault, case)

    def _ask_smallest(self, cls: type[Message], spot: Spot, place: Place) -> bool:
        """Test the smallest message. Return True if the program reads it in some spelling."""
        session = self._session
        judged = self._judge(cls, spot.tree, PLAIN, place)
        assert judged is not None
        plain, faults = judged
        if not session.has_option:
            return False
        session.findings.note_asked("", place)
        if all(fault.check != "accepted" for fault in faults):
            self._keep(faults, plain)
            return not any(_hides_others(fault, place) for fault in faults)
        for spelling in FALLBACKS:
            judged = self._judge(cls, spot.tree, spelling, place)
            assert judged is not None
            if all(fault.check not in ("accepted", "answer") for fault in judged[1]):
                whole = place_of_type(cls)
                assert plain.message is not None
                case = of_message(plain.message, plain.text, whole, *spelling.names)
                self._keep(session.judge(case), case)
                session.findings.note_asked(spelling.names[0], whole)
                session.spelling[cls] = spelling
                return True
        self._keep(faults, plain)
        return False

    def _ask_value(
        self, cls: type[Message], tree: Any, place: Place, aspects: Sequence[str]
    ) -> list[Fault]:
        """Test a tree in fastlib's and in a C++ peer's spelling. Record the faults."""
        found: list[Fault] = []
        for spelling in (PLAIN, BARE):
            judged = self._judge(cls, tree, spelling, place, aspects)
            if judged is not None:
                case, faults = judged
                self._keep(faults, case)
                found += faults
                if self._session.has_option:
                    self._session.findings.note_asked(aspects[0] if aspects else "", place)
        return found

    def _ask_values(self, cls: type[Message], spot: Spot, place: Place) -> None:
        """Test all values of a place whose ordinary value is understood."""
        shape = spot.shape
        assert shape is not None
        declared_here = place.type == str(place_of_type(cls)) or place.type not in self._names
        is_first = place not in self._asked and declared_here
        texts: tuple[str, ...] = _FEWEST_TEXTS
        if is_first:
            self._asked.add(place)
            texts = FEW_TEXTS
            if self._home is None and place.kind == "text" and not self._is_short:
                self._home = cls, spot
                texts = MANY_TEXTS
        ordinary = at(spot.tree, spot.path)
        for value in extraordinary(shape, texts):
            if repr(value) != repr(ordinary):
                self._ask_one_value(cls, spot, place, value)
        if is_first:
            self._ask_leaves(cls, spot, place)

    def _ask_one_value(self, cls: type[Message], spot: Spot, place: Place, value: Any) -> None:
        """Test a value. For a text with several aspects, find the smallest failing part."""
        tree = changed(spot.tree, spot.path, value)
        aspects = aspects_at(place, value) or ("other",)
        if isinstance(value, str) and len(aspects) > 1 and message_of(cls, tree) is not None:
            self._session.findings.note_asked(aspects[0], place)
            shorter = self._smallest_text(cls, spot, place, value)
            if shorter is None:
                return
            value = shorter
            tree = changed(spot.tree, spot.path, value)
            aspects = aspects_at(place, value) or ("other",)
        faults = self._ask_value(cls, tree, place, aspects)
        for fault in faults:
            if fault.place == place:
                self._note_text(fault, value)

    def _smallest_text(self, cls: type[Message], spot: Spot, place: Place, text: str) -> str | None:
        """Return the smallest part of a text that shows a new fault; None if the whole does not."""

        def fails(part: str) -> bool:
            tree = changed(spot.tree, spot.path, part)
            aspects = aspects_at(place, part) or ("other",)
            for spelling in (PLAIN, BARE):
                judged = self._judge(cls, tree, spelling, place, aspects)
                if judged is None:
                    return False
                if any(not self._session.findings.explained(fault) for fault in judged[1]):
                    return True
            return False

        return smaller(text, fails) if fails(text) else None

    def _ask_leaves(self, cls: type[Message], spot: Spot, place: Place) -> None:
        """Test a number or a truth value in each of its spellings."""
        shape = spot.shape
        values: tuple[Any, ...] = ()
        if isinstance(shape, Bool):
            values = (True, False)
        elif isinstance(shape, Int) and not shape.digits:
            values = (16,)
        elif isinstance(shape, Float):
            values = (2.5,)
        for value in values:
            tree = changed(spot.tree, spot.path, value)
            if message_of(cls, tree) is not None:
                for spelling in leaf_spellings(tree, value):
                    aspects = (*spelling.aspects, *aspects_at(place, value))
                    judged = self._judge(cls, tree, spelling, place, aspects)
                    assert judged is not None
                    self._keep(judged[1], judged[0])
                    if self._session.has_option:
                        self._session.findings.note_asked(spelling.names[0], place)

    # --- the same elsewhere ---

    def ask_again(self, cls: type[Message]) -> None:
        """Test the texts that failed in one place in all text fields of a type.

        So a fault has the same name, independent of the place that showed it first. Raises
        StopAsking.
        """
        for aspects, text in list(self._wrong_texts):
            self._ask_text(cls, aspects, text)

    def spread(self, fault: Fault, value: Any) -> None:
        """Do the same as `ask_again`, for one text that failed in a place, in all types."""
        if self._note_text(fault, value):
            for cls in self._types:
                self._ask_text(cls, fault.aspects, value)

    def _note_text(self, fault: Fault, value: Any) -> bool:
        """Record a text that failed in a place, if it must be tested elsewhere."""
        is_text = isinstance(value, str) and fault.place.kind == "text"
        if not is_text or not fault.aspects or fault.check == "answer" or value in FEW_TEXTS:
            return False
        is_new = (fault.aspects, value) not in self._wrong_texts
        self._wrong_texts[fault.aspects, value] = None
        return is_new

    def _ask_text(self, cls: type[Message], aspects: tuple[str, ...], text: str) -> None:
        if not self.reads(cls):
            return
        for spot in spots_of(cls):
            place = place_of_spot(cls, spot)
            is_own = place.type == str(place_of_type(cls)) or place.type not in self._names
            if isinstance(spot.shape, Text) and is_own and place in self._session.agreed:
                self._ask_value(cls, changed(spot.tree, spot.path, text), place, aspects)

    def ordinary(self, place: Place, value: Any) -> Any:
        """Return an ordinary value for a place from a smallest message; if none, the same value."""
        for cls in self._types:
            for spot in spots_of(cls):
                if spot.path and place_of_spot(cls, spot) == place:
                    found = at(spot.tree, spot.path)
                    return found if isinstance(found, list) == isinstance(value, list) else value
        return value

    # --- mistakes ---

    def ask_mistakes(self, cls: type[Message]) -> None:
        """Test each mistake in the smallest message in which it is possible.

        Raises StopAsking.
        """
        if not self.reads(cls):
            return
        session = self._session
        seen: set[tuple[Place, str]] = set()
        for spot in self._readable(cls):
            tree = spot.tree
            found = (made(edit, tree) for edit in edits_of(shape_of(cls), tree))
            named = [(*name_of_mistake(cls, tree, invalid), invalid) for invalid in found]
            # Any word first: it explains the strange ones.
            for place, aspect, invalid in sorted(named, key=lambda each: each[1] != "word"):
                if (place, aspect) in seen:
                    continue
                seen.add((place, aspect))
                text = session.respell(cls, invalid.text)
                above = places_along(cls, tree, steps_of(invalid.path))
                case = of_mistake(cls, text, place, aspect, above=above)
                if case.message is None or invalid.severity == "warning":
                    self._keep(session.judge(case), case)
                    if session.has_option:
                        session.findings.note_asked(aspect, place)

    def _readable(self, cls: type[Message]) -> list[Spot]:
        """Return the spots of a type without those that the program cannot read."""
        bad = self._bad.get(cls, set())
        return [
            spot
            for spot in spots_of(cls)
            if place_of_spot(cls, spot) not in bad and not _needs(cls, spot, bad)
        ]

    # --- spellings ---

    def ask_spellings(self, cls: type[Message]) -> None:
        """Test messages with many keys in each spelling. Raises StopAsking."""
        if not self.reads(cls):
            return
        place = place_of_type(cls)
        spots = self._readable(cls)
        seen: set[str] = set()
        for tree in _rich_trees(cls, spots):
            for spelling in spellings_of(tree):
                message = message_of(cls, tree)
                assert message is not None
                text = self._session.spell(message, tree, spelling)
                if text in seen:
                    continue
                seen.add(text)
                case = of_message(message, text, place, *spelling.aspects)
                faults = self._session.judge(case)
                if self._session.has_option:
                    self._session.findings.note_asked("".join(spelling.aspects[:1]), place)
                new = [fault for fault in faults if not self._session.findings.explained(fault)]
                self._keep(faults, case)
                if new:
                    self._ask_smaller(cls, spots, spelling, {fault.name for fault in new})

    def ask_text_spellings(self, cls: type[Message]) -> None:
        """Test each text in each way to write it, in one place. Raises StopAsking."""
        if self._home is None or self._home[0] is not cls:
            return
        spot = self._home[1]
        for text in ("a", *FEW_TEXTS):
            tree = changed(spot.tree, spot.path, text)
            for spelling in SCALARS:
                aspects = spelling.aspects_with(aspects_of_text(text))
                judged = self._judge(cls, tree, spelling, ANY_TEXT, aspects)
                if judged is not None:
                    self._keep(judged[1], judged[0])

    def _ask_smaller(
        self, cls: type[Message], spots: list[Spot], spelling: Spelling, names: set[str]
    ) -> None:
        """Search smaller messages in which the same spelling shows the same fault."""
        first_turns = {(what, 0): way for (what, _), way in spelling.turns.items()}
        for spot in sorted(spots, key=lambda spot: len(repr(spot.tree))):
            for turns in (spelling.turns, first_turns):
                small = spelling._replace(turns=turns)
                judged = self._judge(cls, spot.tree, small, place_of_type(cls), spelling.aspects)
                if judged is None:
                    continue
                again = [fault for fault in judged[1] if fault.name in names]
                self._keep(again, judged[0])
                names = names - {fault.name for fault in again}
            if not names:
                return


def place_of_spot(cls: type[Message], spot: Spot) -> Place:
    """Return the place of a spot; the smallest message of each title has its own place."""
    if spot.path:
        return place_at(cls, spot.tree, spot.path)
    return place_of_title(cls, spot.tree)


def _hides_others(fault: Fault, place: Place) -> bool:
    """Return True if messages with this place cannot show faults of other places."""
    return fault.check in ("accepted", "answer") or (
        fault.loss == "unreadable" and fault.place == place
    )


def _needs(cls: type[Message], spot: Spot, bad: set[Place]) -> bool:
    """Return True if a spot needs a place or a title that the program does not read."""
    if not bad:
        return False
    above = (place_at(cls, spot.tree, spot.path[:n]) for n in range(1, len(spot.path)))
    return place_of_title(cls, spot.tree) in bad or any(place in bad for place in above)


def _rich_trees(cls: type[Message], spots: list[Spot]) -> Iterator[Any]:
    """Yield messages with as many keys as possible, of different titles, richest first."""
    rich = []
    for base in (spot.tree for spot in spots if not spot.path):
        tree = base
        same_title = [
            spot for spot in spots if spot.path and title_of(cls, spot.tree) == title_of(cls, base)
        ]
        for spot in same_title:
            more = merged(tree, spot.tree)
            if message_of(cls, more) is not None:
                tree = more
        for spot in same_title:
            spaced = changed(tree, spot.path, "a b") if isinstance(spot.shape, Text) else None
            if message_of(cls, spaced) is not None:
                tree = spaced
        rich.append(tree)
    rich.sort(key=lambda tree: -len(repr(tree)))
    yield from rich[:RICHEST]
