"""Caches of objects derived from declarations, and one function that empties all of them.

Shapes, compiled readers and writers, checks and strategies are derived from the declared classes
when they are first needed. When `fastlib.testing.isolated_registry` removes declarations, their
derived objects must also go.
"""

from collections.abc import Callable
from typing import Any

_clear: list[Callable[[], None]] = []


def derived_cache() -> dict[Any, Any]:
    """Return a dictionary that `clear_derived_caches` empties."""
    cache: dict[Any, Any] = {}
    _clear.append(cache.clear)
    return cache


def on_clear(clear: Callable[[], None]) -> None:
    """Call `clear` whenever all derived caches are emptied; for other caches than dictionaries."""
    _clear.append(clear)


def clear_derived_caches() -> None:
    """Clear all objects derived from declarations. They are derived again when needed."""
    for clear in _clear:
        clear()
