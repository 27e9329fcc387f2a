"""How much a reader takes before it refuses: no honest message comes near these."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what is read. Over one of them, a `LimitError` says which and where."""

    max_bytes: int = 16 * 1024 * 1024
    """Size of the text in bytes (of UTF-8, where text is given)."""
    max_depth: int = 64
    """How deep lists and mappings may be nested."""
    max_nodes: int = 1_000_000
    """Scalars, lists and mappings, each alias counted for all that it stands for."""
    max_scalar: int = 8 * 1024 * 1024
    """Characters in one scalar."""


DEFAULT_LIMITS = Limits()
