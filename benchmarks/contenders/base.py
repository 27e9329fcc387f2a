"""What a contender has to do."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Kind = Literal["task", "result"]
"""Which container a message is; a receiver knows it from the topic."""


class Contender(NamedTuple):
    """A way to turn text into typed objects and back."""

    name: str
    how: str
    """Which calls it is made of, for the reader of the table."""
    packages: tuple[str, ...]
    """The distributions whose versions matter."""
    load: Mapping[Kind, Callable[[bytes], Any]]
    """The typed message of the first document of a text."""
    plain: Callable[[Any], Any]
    """The plain tree of a typed message, with wire keys and without absent fields."""
    emit: Callable[[Any], str] | None
    """The text of a typed message; None for a contender that only loads."""
    native_memory: bool = False
    """Whether much of its memory is outside of what Python can trace."""
