"""What a program is asked: a text of a type, and what fastlib makes of it."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from fastlib.codec.errors import FastlibError
from fastlib.message import Message
from fastlib.testing.golden import Row, rows
from fastlib.testing.mutations import InvalidText

Source = Literal["spelling", "mistake", "golden"]
"""A message in one of many spellings, a text with one mistake, a golden vector."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One text, and what fastlib makes of it."""

    source: Source
    cls: type[Message]
    text: str
    message: Message | None
    """None for a text that is to be refused."""
    error: FastlibError | None = None
    """Why fastlib refuses it."""
    mistake: InvalidText | None = None
    row: Row | None = None
    vector: str = ""
    """File and line of a golden vector."""

    @property
    def ours(self) -> str:
        """What we understand, in words for people."""
        return self.message.to_yaml() if self.message is not None else f"refused: {self.error}"


def of_mistake(cls: type[Message], invalid: InvalidText) -> Case:
    """A text with a mistake, which may be but a warning."""
    return _read(Case(source="mistake", cls=cls, text=invalid.text, message=None, mistake=invalid))


def golden_cases(cls: type[Message]) -> Iterator[Case]:
    """The golden vectors of a type, those on which C++ peers crash last.

    JSON has no bytes, so a vector of bytes is asked as the text that they are, and none if they are
    no UTF-8.
    """
    for name in ("peer-behaviour", "peer-killers"):
        for row in rows(name):
            text = _as_text(row.text)
            if row.cls is cls and text is not None:
                at = f"{name}:{row.number}"
                yield _read(
                    Case(source="golden", cls=cls, text=text, message=None, row=row, vector=at)
                )


def _as_text(text: str | bytes) -> str | None:
    if isinstance(text, str):
        return text
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None


def _read(case: Case) -> Case:
    try:
        return msgspec.structs.replace(case, message=case.cls.from_yaml(case.text))
    except FastlibError as error:
        return msgspec.structs.replace(case, error=error)
