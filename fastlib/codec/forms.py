"""How what has a wire form of its own says its schema: `__schema__`.

Schemas are derived from shapes. A shape of its own kind, or a type that converts texts itself, says
beside the conversion what no declaration tells::

    @staticmethod
    def __schema__(forms: Forms) -> Schema:
        return forms.text("^[0-9a-f]{2}$", also="^(0x)?[0-9a-fA-F]{1,2}$")

Of a type it is a static method, of a shape a method; the shape's counts first.
"""

from typing import Any, Literal, Protocol

from .shapes import Shape

Direction = Literal["emit", "load"]
"""`emit` is what is written, `load` what is understood."""

Schema = dict[str, Any]
"""A JSON Schema, of draft 2020-12."""


class Forms(Protocol):
    """What a type is given to say its schema with, for one direction."""

    @property
    def direction(self) -> Direction:
        """What the schema is of: what is written, or what is understood."""

    def of(self, shape: Shape) -> Schema:
        """The schema of a shape."""

    def text(self, written: str, *, also: str = "") -> Schema:
        """The schema of a text: the pattern of what is written, and of what is understood, too.

        The patterns are those of JSON Schema, so begin with `^` and end with `$`.
        """
