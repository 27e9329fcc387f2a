"""Regular expressions that are compiled when they are first used.

Compiling one takes up to a millisecond, and a program that only validates a file uses few.
"""

import re
from typing import Any, cast

_METHODS = ("findall", "finditer", "fullmatch", "match", "search", "split", "sub")


def lazy_pattern(pattern: str, flags: int = 0) -> "re.Pattern[str]":
    """Return a compiled pattern, or an object like it that is compiled later.

    After the first use its methods are those of the compiled pattern, so they are as fast.
    """
    return cast("re.Pattern[str]", _LazyPattern(pattern, flags))


class _LazyPattern:
    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern = pattern
        self.flags = flags

    def __getattr__(self, name: str) -> Any:
        """Compile the pattern; this is called only for a method that is not set yet."""
        if name not in _METHODS:
            raise AttributeError(name)
        compiled = re.compile(self.pattern, self.flags)
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)
