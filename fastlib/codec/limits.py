"""How much a reader takes before it refuses: no honest message comes near these."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what is read. Over one of them, a `LimitError` says which and where.

    Raises ValueError for what is no positive integer.
    """

    max_bytes: int = 16 * 1024 * 1024
    """Size of the text in bytes (of UTF-8, where text is given)."""
    max_depth: int = 64
    """How deep lists and mappings may be nested."""
    max_nodes: int = 1_000_000
    """Scalars, lists and mappings, each alias counted for all that it stands for."""
    max_scalar: int = 8 * 1024 * 1024
    """Characters in one scalar."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Limits: {name} is a positive integer, not {value!r:.60}")


DEFAULT_LIMITS = Limits()
