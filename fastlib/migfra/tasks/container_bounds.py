"""Bounds of one task container: what the daemon reads of it, and the memory that it takes.

A few MiB of text can become hundreds of MiB of objects. So the bounds are in bytes of memory,
estimated from the text, and not in numbers of containers.
"""

import hashlib
from functools import lru_cache
from typing import Final

from fastlib.codec.limits import Limits
from fastlib.message import Cancel, TaskContainer
from fastlib.migfra.virt.names import LONGEST_NAME, too_long

MAX_NODES: Final = 200_000
"""Scalars, lists and mappings that are read of a container, at most; they need about 50 MiB."""
LONGEST_ID: Final = 256
"""Maximum number of bytes in UTF-8 of an id or an idempotency key."""
SHOWN_ID: Final = 64
"""Characters of a longer one that its answer has, before a digest of the whole."""
MEMBERS_TOGETHER: Final = 256
"""Members of a container that are started at the same time, at least."""

_PER_SEPARATOR: Final = 200
"""Bytes for an entry of a list or mapping: its object, and the place in its list."""
_PER_MEMBER: Final = 1024
"""Bytes for a member that waits, beside its text: its task, and its state in the daemon."""
_PER_RUNNING_MEMBER: Final = 12_288
"""Bytes for a member that is executed: its coroutines."""
_SEPARATORS: Final = (b"\n", b",", b"[", b"{")


def read_limits(largest: int, *, bounded: bool) -> Limits:
    """Return the limits of the reader for a payload of at most `largest` bytes."""
    return _limits(largest, MAX_NODES) if bounded else Limits(max_bytes=largest)


@lru_cache(maxsize=16)
def _limits(largest: int, most_nodes: int) -> Limits:
    return Limits(max_bytes=largest, max_nodes=most_nodes)


def problem_with(container: TaskContainer, most_members: int) -> str | None:
    """Say which bound a container exceeds, and the remedy; None if it exceeds none."""
    count = len(container.tasks)
    if count > most_members:
        return (
            f"a container must have at most {most_members} members; got {count}; send several "
            "containers, or raise 'limits: {container-members: ...}' in the daemon's configuration"
        )
    texts = {"id": container.id, "idempotency-key": container.idempotency_key}
    for key, text in texts.items():
        if text is not None and is_too_long(text):
            return _too_long(key, text)
    for task in container.tasks:
        if isinstance(task, Cancel):
            if is_too_long(task.id):
                return _too_long("id", task.id)
            continue
        name = getattr(task, "vm_name", None)
        if isinstance(name, str) and is_too_long(name, LONGEST_NAME):
            return _too_long("vm-name", name, LONGEST_NAME)
    return None


def is_too_long(text: str, most: int = LONGEST_ID) -> bool:
    """Return whether an id, or another text, has more than `most` bytes."""
    # A character has at most 4 bytes.
    return 4 * len(text) > most and _size(text) > most


def short_id(id: str | None) -> str | None:
    """Return an id for an answer: itself, or the beginning and a digest of one that is too long."""
    if id is None or not is_too_long(id):
        return id
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{id[:SHOWN_ID]}… (sha256 {digest[:16]})"


def text_memory(payload: bytes) -> int:
    """Estimate the bytes of memory of a payload's values, without what is kept for its members."""
    # One character beyond ASCII lets each character of its text take up to 4 bytes.
    texts = len(payload) * (1 if payload.isascii() else 4)
    return texts + _PER_SEPARATOR * sum(map(payload.count, _SEPARATORS))


def waiting_memory(texts: int, members: int) -> int:
    """Estimate the bytes of memory of a container that waits parsed.

    `texts` is the `text_memory` of its payload.
    """
    return texts + _PER_MEMBER * members


def running_memory(waiting: int, members: int, together: int) -> int:
    """Estimate the bytes of memory of a container that is executed.

    `waiting` is what it takes while it waits. At most `together` members are started at once.
    """
    return waiting + _PER_RUNNING_MEMBER * min(members, together)


def _too_long(key: str, text: str, most: int = LONGEST_ID) -> str:
    return f"{key}: {too_long(_size(text), most)}"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
