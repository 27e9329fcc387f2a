"""What a program is asked: a text of a type, and what fastlib makes of it."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from fastlib.codec.errors import MessageError, Problem
from fastlib.message import Message, validate
from fastlib.testing.golden import Row, rows

from .places import Place, place_at, place_of_type, steps_of

Source = Literal["message", "mistake", "golden"]
"""A message in some spelling, a text with one mistake, a golden vector."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One text, and what fastlib makes of it."""

    source: Source
    cls: type[Message]
    text: str
    message: Message | None
    """None for a text that is to be refused."""
    problems: tuple[Problem, ...] = ()
    """Why fastlib refuses the text, or its warnings."""
    place: Place
    """What the text is about: the type, or one place where all others are known to agree."""
    aspects: tuple[str, ...] = ()
    """What is special there: aspects of the value, a spelling, a mistake. Empty if nothing is."""
    above: tuple[Place, ...] = ()
    """Of a mistake, the places above it and its own: who skips one of them cannot find it."""
    row: Row | None = None
    vector: str = ""
    """File and line of a golden vector."""

    @property
    def ours(self) -> str:
        """What we understand, in words for people."""
        if self.message is not None:
            return self.message.to_yaml()
        return f"refused: {MessageError(self.cls.__name__, self.problems)}"


def of_message(message: Message, text: str, place: Place, *aspects: str) -> Case:
    """A message in some spelling."""
    return Case(
        source="message",
        cls=type(message),
        text=text,
        message=message,
        place=place,
        aspects=aspects,
    )


def of_mistake(
    cls: type[Message], text: str, place: Place, *aspects: str, above: tuple[Place, ...] = ()
) -> Case:
    """A text with a mistake, which may be but a warning, perhaps in another spelling."""
    return _read(
        Case(
            source="mistake",
            cls=cls,
            text=text,
            message=None,
            place=place,
            aspects=aspects,
            above=above,
        )
    )


def golden_cases(cls: type[Message]) -> Iterator[Case]:
    """The golden vectors of a type, those on which C++ peers crash last.

    JSON has no bytes, so a vector of bytes is asked as the text that they are, and none if they are
    no UTF-8.
    """
    for name in ("peer-behaviour", "peer-killers"):
        for row in rows(name):
            text = _as_text(row.text)
            if row.cls is cls and text is not None:
                yield _read(
                    Case(
                        source="golden",
                        cls=cls,
                        text=text,
                        message=None,
                        place=place_of_type(cls),
                        aspects=(row.why,),
                        row=row,
                        vector=f"{name}:{row.number}",
                    )
                )


def _as_text(text: str | bytes) -> str | None:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _read(case: Case) -> Case:
    report = validate(case.text, case.cls)
    message = report.message
    assert message is None or isinstance(message, Message)
    return msgspec.structs.replace(case, message=message, problems=tuple(report.problems))


def place_of_problem(cls: type[Message], tree: Any, problem: Problem) -> Place:
    """The place that a problem is about."""
    return place_at(cls, tree, steps_of(problem.path))
