"""Check names of domains and hosts, and match them with regular expressions.

A name becomes part of topics, paths, cgroups and URIs. So it must not be able to change their
structure.

The expressions come from the network. One of twenty characters can make a backtracking engine run
forever. RE2 takes time linear in the text. It refuses expressions that would take longer:
back-references and look-around. It needs the package `google-re2`.
"""

import asyncio
import re
from collections.abc import Iterable
from typing import Any, Final

from fastlib.codec.printable import is_visible
from fastlib.extras import MissingExtraError, needs_extra
from fastlib.message import Message
from fastlib.migfra.errors import HypervisorError

LONGEST_NAME: Final = 200
"""The most bytes in UTF-8 of the name of a domain or host. File systems accept 255. Prefixes and
suffixes need the rest."""
LONGEST_PATTERN: Final = 4_000
"""Characters."""
_PLAIN: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:-]{{,{LONGEST_NAME - 1}}}")
"""Matches most names. Others need a check of each character."""
_MOST_MEMORY: Final = 1 << 17
"""The most bytes of memory for one expression. The time for a name grows with them. It is at most
5 ms, and no other thread of the program runs during that time."""


def check_name(name: str, of: str = "a domain") -> str:
    """Return the name. Raises HypervisorError if it is invalid."""
    why = None if _PLAIN.fullmatch(name) else _unsound(name)
    if why is not None:
        shown = name if len(name) <= 60 else f"{name[:60]}…"
        raise HypervisorError(f"{shown!r} cannot be the name of {of}: {why}")
    return name


_NAMES: Final = frozenset({"vm_name", "destination", "destinations"})
"""The fields of tasks, those of other packages too, that hold names of domains and hosts."""


def check_names(task: Message) -> None:
    """Raise HypervisorError if a task has an invalid name of a domain or host."""
    for field in task.__struct_fields__:
        value = getattr(task, field)
        if value is None:
            continue
        if isinstance(value, Message):
            check_names(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Message):
            for message in value:
                check_names(message)
        elif field in _NAMES:
            for name in (value,) if isinstance(value, str) else value:
                check_name(name, "a host" if field.startswith("destination") else "a domain")


def too_long(size: int, most: int) -> str:
    """Return the phrase that a text has too many bytes, with the remedy."""
    return f"has {size} bytes; at most {most} are accepted; give a shorter one"


def _unsound(name: str) -> str | None:
    if not name:
        return "it is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it has half a surrogate pair"
    if size > LONGEST_NAME:
        return f"it {too_long(size, LONGEST_NAME)}"
    for character in name:
        if character in "/\\+#" or not is_visible(character):
            return f"it has {character!a}"
    if name.startswith((".", "-")):
        return f"it begins with {name[0]!r}"
    return "it has a space at an end" if name != name.strip() else None


def matching(regex: str, names: Iterable[str]) -> list[str]:
    """Return the names that match as a whole, in their order. Takes time linear in their length.

    Many names may take a second. So coroutines must call `matching_in_thread`. Raises
    HypervisorError if the expression cannot be used, or without RE2.
    """
    pattern = _compile(regex)
    return [name for name in names if pattern.fullmatch(name) is not None]


async def matching_in_thread(regex: str, names: Iterable[str]) -> list[str]:
    """Call `matching` in a thread. The event loop continues."""
    return await asyncio.to_thread(matching, regex, tuple(names))


def _compile(regex: str) -> Any:
    try:
        with needs_extra("stopping by a regular expression", "re2"):
            import re2
    except MissingExtraError as error:
        raise HypervisorError(str(error)) from error
    if len(regex) > LONGEST_PATTERN:
        raise HypervisorError(
            f"the regular expression must have at most {LONGEST_PATTERN} characters, not "
            f"{len(regex)}"
        )
    options = re2.Options()
    options.max_mem = _MOST_MEMORY
    options.log_errors = False
    options.never_capture = True  # captured groups would take more time and memory
    try:
        return re2.compile(regex, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise HypervisorError(f"{regex[:100]!r} cannot be used: {_text(error)}") from None


def _text(error: Exception) -> str:
    """Return RE2's error, with a note about the features that it refuses on purpose."""
    value = error.args[0] if error.args else ""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(error)
    if "escape sequence" in text or "perl operator" in text:
        text += "; back-references and look-around are not supported"
    return text
