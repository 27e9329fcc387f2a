"""Limits of the size and depth of a text. No regular message comes near the defaults."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a text. A text that exceeds one raises LimitError with the position.

    Raises ValueError for a limit that is not a positive integer.
    """

    max_bytes: int = 16 * 1024 * 1024
    """Maximum size of the text in bytes (of UTF-8, if it is a str)."""
    max_depth: int = 64
    """Maximum levels of nested lists and mappings."""
    max_nodes: int = 1_000_000
    """Maximum number of scalars, lists and mappings. An alias counts as all its nodes."""
    max_scalar: int = 8 * 1024 * 1024
    """Maximum number of characters in one scalar."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Limits: {name} must be a positive integer, not {value!r:.60}")


DEFAULT_LIMITS = Limits()
