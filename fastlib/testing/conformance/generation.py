"""Generated messages: asked until nothing new is found, each difference shrunk to its smallest.

This needs Hypothesis; the rest of the package does not.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from fastlib.codec.derivation import shape_of
from fastlib.message import Message
from fastlib.testing import strategies
from fastlib.testing.choices import PlainChoices, Way
from fastlib.testing.mutations import Edit, edits_of, made
from fastlib.testing.yaml_variants import yaml_variant

from . import reasons
from .cases import Case, of_mistake
from .protocol import type_name
from .session import Session, StopAsking

MOST_ROUNDS = 12
"""So many series at most of one type, each of which passes over what the others found."""
MOST_SPELLINGS = 3
MOST_MISTAKES = 8
MOST_FOUND = 100
"""After so many differences a new one is still kept, but not made small."""


class _Differs(Exception):
    """A difference; each has a class of its own, as Hypothesis shrinks each class by itself."""


class _Bare(PlainChoices):
    """Texts without quotes wherever YAML allows it: so the C++ peers write, and readers guess."""

    def habit(self, ways: Sequence[Way]) -> Way:
        return next((way for way in ways if way == "bare"), ways[0])


_GUESSED = st.sampled_from(
    (
        "a", "no", "yes", "on", "off", "true", "null", "~", "0", "12", "012", "08", "0x1F", "0o7",
        "0b11", "1_000", "1.0", ".5", "1e3", ".inf", ".nan", "12:30:45", "2024-01-02", "<<", "=",
    )
)  # fmt: skip
"""What readers of YAML take for something else than text, where it is not in quotes."""


@st.composite
def _spellings(draw: st.DrawFn, cls: type[Message]) -> list[Case]:
    """A message in several spellings, as it takes longer to make one than to write it."""
    texts_of_fields = draw(st.sampled_from((strategies.TEXTS, strategies.TEXTS, _GUESSED)))
    message = draw(strategies.from_message(cls, texts=texts_of_fields))
    others = draw(st.lists(strategies.yaml_texts(message), max_size=MOST_SPELLINGS))
    texts = [message.to_yaml(), yaml_variant(message, _Bare()), *others]
    return [
        Case(source="spelling", cls=cls, text=text, message=message)
        for text in dict.fromkeys(texts)
    ]


_NUMBERS = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda d: d[0] * 100 + d[1])
_PICKS = st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=MOST_MISTAKES)


@st.composite
def _mistakes(draw: st.DrawFn, cls: type[Message]) -> list[Case]:
    """A message with one mistake, several times with another one."""
    message = draw(strategies.from_message(cls, texts=strategies.PLAIN_TEXTS))
    tree = message.emit()
    by_kind: dict[str, list[Edit]] = {}
    for edit in edits_of(shape_of(cls), tree):
        by_kind.setdefault(edit.mistake, []).append(edit)
    kinds = list(by_kind.values())
    picks = ((kinds[kind % len(kinds)], number) for kind, number in draw(_PICKS))
    found = (made(edits[number % len(edits)], tree) for edits, number in picks)
    return [of_mistake(cls, invalid) for invalid in {each.text: each for each in found}.values()]


def ask_generated(session: Session, cls: type[Message], *, examples: int, number: int) -> None:
    """Asks for so many examples of a type, right ones and wrong ones; `number` is the seed."""
    for what, cases in (("spellings", _spellings(cls)), ("mistakes", _mistakes(cls))):
        settled: set[str] = set()
        for turn in range(MOST_ROUNDS):
            words = f"{number}/{type_name(cls)}/{what}/{turn}"
            new = _series(session, cls, cases, examples, zlib.crc32(words.encode()), settled)
            if session.given_up:
                return
            if not new:
                break
            settled |= new


def _otherwise(session: Session, case: Case) -> str | None:
    """What is wrong with the answer to the same message in another spelling.

    A program that refuses one spelling is wrong once, and may be wrong about what is said, too.
    """
    if case.source != "spelling":
        return None
    assert case.message is not None
    text = case.message.to_yaml(style="flow")
    return session.ask(msgspec.structs.replace(case, text=text))


def _series(
    session: Session,
    cls: type[Message],
    cases: st.SearchStrategy[list[Case]],
    examples: int,
    number: int,
    settled: set[str],
) -> set[str]:
    """The names of what was found, beside what is `settled` and what other types have shown."""
    kinds: dict[str, type[_Differs]] = {}
    wrongly: set[str] = set()
    passed = settled.union(session.findings.names())

    @seed(number)
    @_settings(examples)
    @given(cases)
    def one(examples: list[Case]) -> None:
        for case in examples:
            name = session.ask(case)
            if name is not None and name in passed and name.startswith("accepted/"):
                name = _otherwise(session, case)
            if name is None or name in passed or len(passed) >= MOST_FOUND:
                continue
            if name.startswith("refused/"):
                wrongly.add(name)
            else:
                kind = kinds.setdefault(name, type("_Differs", (_Differs,), {}))
                raise kind(name)

    _run(session, cls, one)
    for name in sorted(wrongly):
        _shrink_mistake(session, cls, name, examples, number)
    return wrongly.union(kinds)


def _shrink_mistake(
    session: Session, cls: type[Message], name: str, examples: int, number: int
) -> None:
    """Makes the message small in which a mistake is not found, whichever of its kind it is."""

    @seed(number)
    @_settings(examples)
    @given(strategies.from_message(cls, texts=strategies.PLAIN_TEXTS))
    def one(message: Message) -> None:
        tree = message.emit()
        for edit in edits_of(shape_of(cls), tree):
            invalid = made(edit, tree)
            of_kind = f"refused/{reasons.of_mistake(invalid)}" == name
            if of_kind and session.ask(of_mistake(cls, invalid)) == name:
                raise _Differs(name)

    _run(session, cls, one)


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=True,
        print_blob=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )


def _run(session: Session, cls: type[Message], test: Any) -> None:
    """Lets Hypothesis ask; the smallest text of each difference is kept as it is asked."""
    try:
        test()
    except (_Differs, Flaky):
        pass
    except StopAsking:
        session.leave(cls)
    except BaseExceptionGroup as group:
        others = group.split((_Differs, Flaky))[1]
        if others is not None:
            raise others from None
