"""The method `__schema__`: a type with its own wire form declares its JSON Schema.

Schemas are derived from shapes. A shape of another kind, or a type that converts texts itself,
declares the schema beside the conversion::

    @staticmethod
    def __schema__(schemas: SchemaBuilder) -> Schema:
        return schemas.text("^[0-9a-f]{2}$", also="^(0x)?[0-9a-fA-F]{1,2}$")

On a type it is a static method, on a shape a method. The method of the shape takes precedence.
"""

from typing import Any, Literal, Protocol

from .shapes import Shape

Direction = Literal["emit", "load"]
"""`emit`: the schema of written messages. `load`: the schema of accepted messages."""

Schema = dict[str, Any]
"""A JSON Schema, of draft 2020-12."""


class SchemaBuilder(Protocol):
    """Builds the schemas of one direction; passed to `__schema__`."""

    @property
    def direction(self) -> Direction:
        """Whether the schema is of written or of accepted messages."""

    @property
    def extensions(self) -> bool:
        """Whether the schema has the declarations of other packages."""

    def of(self, shape: Shape) -> Schema:
        """Return the schema of a shape."""

    def text(self, written: str, *, also: str = "", expected: str = "text") -> Schema:
        """Return the schema of a text.

        `written` is the pattern of written texts, `also` of other accepted texts. Patterns are
        those of JSON Schema; they must begin with `^` and end with `$`. `expected` describes the
        accepted texts for people; editors show it instead of the patterns.
        """
