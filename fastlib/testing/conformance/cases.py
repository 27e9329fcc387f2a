"""The questions to a program: a text of a type, and fastlib's result for it."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from fastlib.codec.errors import MessageError, Problem
from fastlib.message import Message, validate
from fastlib.testing.golden import Row, rows

from .places import Place, place_at, place_of_type, steps_of

Source = Literal["message", "mistake", "golden"]
"""A message in some spelling, a text with one mistake, or a golden vector."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One text, and fastlib's result for it."""

    source: Source
    cls: type[Message]
    text: str
    message: Message | None
    """None if the text must be refused."""
    problems: tuple[Problem, ...] = ()
    """The reasons why fastlib refuses the text, or its warnings."""
    place: Place
    """The subject: the type, or one place if all other places are known to agree."""
    aspects: tuple[str, ...] = ()
    """The special features: aspects of the value, a spelling, a mistake. Empty if there are
    none."""
    above: tuple[Place, ...] = ()
    """For a mistake, its place and those above: a reader that skips one of them cannot find it."""
    row: Row | None = None
    vector: str = ""
    """The file and line of a golden vector."""

    @property
    def ours(self) -> str:
        """Return fastlib's understanding of the text, for people."""
        if self.message is not None:
            return self.message.to_yaml()
        return f"refused: {MessageError(self.cls.__name__, self.problems)}"


def of_message(message: Message, text: str, place: Place, *aspects: str) -> Case:
    """Return the case of a message in some spelling."""
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
    """Return the case of a text with a mistake or a warning, optionally in another spelling."""
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
    """Yield the golden vectors of a type. Those on which C++ peers crash come last.

    JSON has no bytes, so bytes are sent as text. Vectors that are not UTF-8 are left out.
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
    """Return the place that a problem is about."""
    return place_at(cls, tree, steps_of(problem.path))
