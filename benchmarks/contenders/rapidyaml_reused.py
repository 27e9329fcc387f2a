"""The native ceiling with one tree and one buffer kept for all calls.

At large messages that saves much of the time, which goes into growing them; but unlike every other
contender this one is not safe to call from two threads, so it sets no target.
"""

from typing import Any

import msgspec
import ryml

from .base import Contender
from .rapidyaml import decode_result, decode_task
from .structs import AnyResult, AnyTask

_tree: Any = ryml.Tree()
_json = bytearray(1 << 16)


def first_document(text: bytes) -> memoryview:
    """The JSON of the first document, valid until the next call."""
    global _json
    _tree.clear()
    _tree.clear_arena()
    ryml.parse_in_arena(text, tree=_tree)
    node = _tree.root_id()
    if _tree.is_stream(node):
        node = _tree.first_child(node)
    while True:
        try:
            return memoryview(ryml.emit_json_in_place(_tree, _json, node))
        except IndexError:  # the buffer is too small
            _json = bytearray(2 * len(_json))


def load_task(text: bytes) -> AnyTask:
    return decode_task(first_document(text))


def load_result(text: bytes) -> AnyResult:
    return decode_result(first_document(text))


CONTENDER = Contender(
    name="rapidyaml*",
    how="the same with tree and buffer kept between calls, so for one thread only",
    packages=("rapidyaml", "msgspec"),
    load={"task": load_task, "result": load_result},
    plain=msgspec.to_builtins,
    emit=None,
    native_memory=True,
)
