"""JSON for programs: one object a line."""

import math
from typing import Any

import msgspec

from fastlib.codec.scalars import write_float

from .terminal import write_data


def encode(tree: Any) -> bytes:
    """A plain tree as JSON on one line, without its end."""
    return msgspec.json.encode(_finite(tree))


def write_line(tree: Any) -> None:
    """Writes a plain tree to standard output at once: whoever reads a pipe waits for it."""
    write_data(encode(tree) + b"\n", flush=True)


def _finite(tree: Any) -> Any:
    """The tree, numbers that JSON does not have as the text that YAML has for them."""
    if isinstance(tree, dict):
        return {key: _finite(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_finite(item) for item in tree]
    return write_float(tree) if isinstance(tree, float) and not math.isfinite(tree) else tree
