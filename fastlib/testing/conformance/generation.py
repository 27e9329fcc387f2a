"""Random messages, spellings and mistakes, for faults that need several features together.

This needs Hypothesis; the rest of the package does not.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, configuration, given, seed, settings
from hypothesis import strategies as st

from fastlib.codec.derivation import shape_of
from fastlib.message import Message
from fastlib.testing import strategies
from fastlib.testing.choices import RandomChoices
from fastlib.testing.mutations import Edit, edits_of, made

from .aspects import aspects_at
from .cases import of_message, of_mistake
from .mistakes import name_of_mistake
from .places import Place, place_at, place_of_type, places_along, steps_of
from .protocol import type_name
from .reduction import Written, located, message_of, smallest
from .session import Session, StopAsking
from .spellings import BARE, PLAIN, chosen
from .systematic import Systematic
from .trees import at, changed, paths_of, without
from .verdict import Fault
from .written import scalars_in

SPELLINGS = 2
"""The number of random spellings of each message, besides fastlib's and a C++ peer's."""
MISTAKES = 4
MOST_FOUND = 100
"""The number of faults that only random messages show, after which the search ends."""

_GUESSED = st.sampled_from(
    (
        "a", "no", "yes", "on", "off", "true", "null", "~", "0", "12", "012", "08", "0x1F", "0o7",
        "0b11", "1_000", "1.0", ".5", "1e3", ".inf", ".nan", "12:30:45", "2024-01-02", "<<", "=",
    )
)  # fmt: skip
"""Unquoted texts that YAML readers may not read as text."""


@st.composite
def _messages(draw: st.DrawFn, cls: type[Message]) -> Message:
    texts = draw(st.sampled_from((strategies.TEXTS, strategies.TEXTS, _GUESSED)))
    message: Message = draw(strategies.from_message(cls, texts=texts))
    return message


def ask_generated(
    session: Session,
    systematic: Systematic,
    cls: type[Message],
    *,
    examples: int,
    number: int,
) -> None:
    """Ask for a number of random messages of a type, right and wrong. `number` is the seed.

    Raises StopAsking.
    """
    if not systematic.reads(cls):
        return
    asking = _Random(session, systematic, cls)
    words = zlib.crc32(f"{number}/{type_name(cls)}".encode())
    stopped: list[StopAsking] = []

    @seed(words)
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(_messages(cls), st.integers(0, 2**32))
    def one(message: Message, number: int) -> None:
        if stopped:
            return
        try:
            asking.ask(message, Random(number))  # noqa: S311 - spellings are no secrets
        except StopAsking as stop:
            stopped.append(stop)

    with _no_hypothesis_folder():
        one()
    if stopped:
        raise stopped[0]


@contextmanager
def _no_hypothesis_folder() -> Iterator[None]:
    """Prevents Hypothesis from creating its folder in the current directory."""
    home = getattr(configuration, "__hypothesis_home_directory", None)
    with TemporaryDirectory(prefix="fastlib-conformance-") as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(home)


class _Random:
    """Random questions of one type."""

    def __init__(self, session: Session, systematic: Systematic, cls: type[Message]) -> None:
        self._session = session
        self._systematic = systematic
        self._cls = cls
        self._shape = shape_of(cls)
        self._edits: list[Edit] = []

    def ask(self, message: Message, rng: Random) -> None:
        """Ask for a message in several spellings, and with several mistakes."""
        tree = message.emit()
        spellings = [PLAIN, BARE, *(chosen(tree, RandomChoices(rng)) for _ in range(SPELLINGS))]
        seen: set[str] = set()
        for spelling in spellings:
            text = self._session.spell(message, tree, spelling)
            if text not in seen:
                seen.add(text)
                self._ask(message, Written(tree, spelling), text)
        if len(self._session.findings):  # a mistake beside an unreadable part is not seen
            tree = self._repaired(Written(tree, PLAIN)).tree
        edits = edits_of(self._shape, tree)
        for edit in rng.sample(edits, min(len(edits), MISTAKES)):
            self._ask_mistake(tree, edit)

    def _ask_mistake(self, tree: Any, edit: Edit) -> None:
        invalid = made(edit, tree)
        place, aspect = name_of_mistake(self._cls, tree, invalid)
        text = self._session.respell(self._cls, invalid.text)
        above = places_along(self._cls, tree, steps_of(invalid.path))
        case = of_mistake(self._cls, text, place, aspect, above=above)
        if case.message is None:
            self._session.ask(case)
        elif invalid.severity == "warning":
            self._ask(case.message, Written(case.message.emit(), PLAIN), case.text)

    def _ask(self, message: Message, written: Written, text: str) -> None:
        session = self._session
        case = of_message(message, text, place_of_type(self._cls))
        for fault in session.judge(case):
            if session.findings.explained(fault):
                session.findings.add(fault, case)
            elif len(session.findings) < MOST_FOUND:
                self._locate(written, fault)

    def _fails(self, written: Written, check: str) -> bool:
        message = message_of(self._cls, written.tree)
        if message is None:
            return False
        text = self._session.spell(message, written.tree, written.spelling)
        if self._session.findings.of_spelling(text) is not None:
            return False
        case = of_message(message, text, place_of_type(self._cls))
        return any(
            fault.check == check and not self._session.findings.explained(fault)
            for fault in self._session.judge(case)
        )

    def _locate(self, written: Written, fault: Fault) -> None:
        """Find the place of a fault, unless a known fault explains it."""
        session = self._session
        repaired = self._repaired(written)
        if not self._fails(repaired, fault.check):
            return
        small = smallest(self._cls, repaired, lambda other: self._fails(other, fault.check))
        message = message_of(self._cls, small.tree)
        if message is None:
            return
        small = Written(small.tree, small.spelling.renamed(small.tree))
        case = located(self._cls, small, session.spell(message, small.tree, small.spelling))
        if case is None:
            return
        for found in session.judge(case):
            known = session.findings.add(found, case)
            if not known and not small.spelling.names:
                self._systematic.spread(found, _special_text(self._cls, small.tree, found.place))

    def _repaired(self, written: Written) -> Written:
        """Return the message without the parts and spellings that the program does not read."""
        faults = [fault for fault, _ in self._session.findings.faults() if fault.check != "refused"]
        by_place: dict[Place, list[Fault]] = {}
        for fault in faults:
            by_place.setdefault(fault.place, []).append(fault)
        tree, spelling = written
        for path in sorted(paths_of(tree), key=len, reverse=True):
            place = place_at(self._cls, tree, path)
            value = at(tree, path)
            aspects = aspects_at(place, value)
            for fault in by_place.get(place, ()):
                if fault.aspects and fault.aspects[0] not in aspects:
                    continue
                other = without(tree, path) if isinstance(path[-1], str) else None
                if other is None or message_of(self._cls, other) is None:
                    other = changed(tree, path, self._systematic.ordinary(place, value))
                if message_of(self._cls, other) is not None:
                    tree = other
                    break
        bad = {name for fault in faults for name in fault.aspects}
        return self._respelled(Written(tree, spelling.without(tree, bad)))

    def _respelled(self, written: Written) -> Written:
        """Return the message without the texts whose spelling the program does not read."""
        tree, spelling = written
        for scalar in scalars_in(spelling.write(tree)):
            if not self._session.findings.is_misspelt(scalar):
                continue
            for path in [*paths_of(tree)]:
                place = place_at(self._cls, tree, path)
                if at(tree, path) == scalar.value:
                    value = self._systematic.ordinary(place, scalar.value)
                    other = changed(tree, path, value if isinstance(value, str) else "a")
                elif path[-1] == scalar.value:
                    other = without(tree, path)
                else:
                    continue
                if message_of(self._cls, other) is not None:
                    tree = other
        if self._session.findings.of_spelling(spelling.write(tree)) is not None:
            spelling = spelling.without_texts()
        return Written(tree, spelling)


def _special_text(cls: type[Message], tree: Any, place: Place) -> Any:
    """Return the value in a place of a small message."""
    paths = (path for path in paths_of(tree) if place_at(cls, tree, path) == place)
    return next((at(tree, path) for path in paths), None)
