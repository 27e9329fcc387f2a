"""The docstring that stands in the source of a class."""

from typing import Any


def own_doc(cls: type[Any]) -> str | None:
    """Return it. The `__doc__` of a struct may also list its fields."""
    doc: str | None = cls.__dict__.get("__doc__")
    return doc
