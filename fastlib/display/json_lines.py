"""Encode messages for programs: one JSON object a line."""

import math
from datetime import datetime
from typing import Any

import msgspec

from fastlib.codec.printable import escape_json
from fastlib.codec.scalars import write_float
from fastlib.message import Message


def encode_json(tree: Any) -> bytes:
    """Return a plain tree as JSON on one line, without a line end.

    NaN and infinities, which JSON lacks, become the texts that YAML has for them. Characters that a
    terminal could obey are written as escapes.
    """
    return escape_json(msgspec.json.encode(_finite(tree)).decode()).encode()


def message_row(
    time: datetime, host: str, kind: str, message: Message | None, error: Exception | None = None
) -> dict[str, Any]:
    """Return one message as a plain tree, which has the same keys for every message."""
    return {
        "time": time.isoformat(),
        "host": host,
        "kind": kind,
        "id": getattr(message, "id", None),
        "message": None if message is None else message.emit(),
        "error": None if error is None else str(error),
    }


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(item) for key, item in tree.items()}
    if isinstance(tree, list):
        return [_finite(item) for item in tree]
    return write_float(tree) if isinstance(tree, float) and not math.isfinite(tree) else tree
