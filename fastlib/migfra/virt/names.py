"""Names of domains and hosts: which are sound, and which match a regular expression.

A name ends up in topics, paths, cgroups and URIs, so it must not be able to leave its place there.

The expressions come from the network, and a backtracking engine can be made to run for ever by one
of twenty characters. RE2 takes time linear in the text and refuses what it could not do so:
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
"""Bytes in UTF-8 of the name of a domain or host; file systems take 255, and prefixes and suffixes
need room."""
LONGEST_PATTERN: Final = 4_000
"""Characters."""
_PLAIN: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.:-]{{,{LONGEST_NAME - 1}}}")
"""Most names. They need no look at each character."""
_MOST_MEMORY: Final = 1 << 17
"""Bytes that one expression may take. The time for a name grows with them: it is 5 ms at most, in
which no other thread of the program runs."""


def check_name(name: str, of: str = "a domain") -> str:
    """The name itself if it is a sound one. Raises HypervisorError."""
    why = None if _PLAIN.fullmatch(name) else _unsound(name)
    if why is not None:
        shown = name if len(name) <= 60 else f"{name[:60]}…"
        raise HypervisorError(f"{shown!r} cannot be the name of {of}: {why}")
    return name


_NAMES: Final = frozenset({"vm_name", "destination", "destinations"})
"""The fields of tasks, those of other packages too, that hold names of domains and hosts."""


def check_names(task: Message) -> None:
    """Raises HypervisorError if a name of a domain or host, anywhere in a task, is unsound."""
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
    """Say that a text has too many bytes, and the remedy."""
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
    """The names that match as a whole, in their order, in time linear in their length.

    Many names may take a second, so a coroutine calls `matching_in_thread`. Raises HypervisorError
    if the expression cannot be used, or without RE2.
    """
    pattern = _compile(regex)
    return [name for name in names if pattern.fullmatch(name) is not None]


async def matching_in_thread(regex: str, names: Iterable[str]) -> list[str]:
    """Do what `matching` does, while the event loop goes on."""
    return await asyncio.to_thread(matching, regex, tuple(names))


def _compile(regex: str) -> Any:
    try:
        with needs_extra("stopping by a regular expression", "re2"):
            import re2
    except MissingExtraError as error:
        raise HypervisorError(str(error)) from error
    if len(regex) > LONGEST_PATTERN:
        raise HypervisorError(
            f"the regular expression has {len(regex)} characters; {LONGEST_PATTERN} are allowed"
        )
    options = re2.Options()
    options.max_mem = _MOST_MEMORY
    options.log_errors = False
    options.never_capture = True  # what a group has matched would take more time and memory
    try:
        return re2.compile(regex, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise HypervisorError(f"{regex[:100]!r} cannot be used: {_text(error)}") from None


def _text(error: Exception) -> str:
    """What is wrong, with the remedy for what RE2 refuses on purpose."""
    value = error.args[0] if error.args else ""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(error)
    if "escape sequence" in text or "perl operator" in text:
        text += "; back-references and look-around are not supported"
    return text
