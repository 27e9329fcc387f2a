"""The native ceiling: rapidyaml parses in C++ and writes JSON, which msgspec decodes into structs.

Neither half makes a Python object that is not in the message.
"""

from collections.abc import Callable

import msgspec
import ryml

from .base import Contender
from .structs import AnyResult, AnyTask

decode_task: Callable[[str | memoryview], AnyTask] = msgspec.json.Decoder(AnyTask).decode
decode_result: Callable[[str | memoryview], AnyResult] = msgspec.json.Decoder(AnyResult).decode


def first_document(text: bytes) -> str:
    """The JSON of the first document."""
    tree = ryml.parse_in_arena(text)
    node = tree.root_id()
    if tree.is_stream(node):
        node = tree.first_child(node)
    json: str = ryml.emit_json(tree, node)
    return json


def load_task(text: bytes) -> AnyTask:
    return decode_task(first_document(text))


def load_result(text: bytes) -> AnyResult:
    return decode_result(first_document(text))


CONTENDER = Contender(
    name="rapidyaml",
    how="parse_in_arena, emit_json, msgspec.json.Decoder; the native ceiling",
    packages=("rapidyaml", "msgspec"),
    load={"task": load_task, "result": load_result},
    plain=msgspec.to_builtins,
    emit=None,
    native_memory=True,
)
