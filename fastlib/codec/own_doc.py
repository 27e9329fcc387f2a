"""The docstring in the source of a class."""

from typing import Any


def own_doc(cls: type[Any]) -> str | None:
    """Return the docstring in the source. The `__doc__` of a struct may also list its fields."""
    doc: str | None = cls.__dict__.get("__doc__")
    return doc
