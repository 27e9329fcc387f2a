"""The digest by which an answer identifies the request."""

import hashlib
from typing import Final

DIGITS: Final = 32
"""Hexadecimal digits of a digest: 128 bits, so finding a second message with it is infeasible."""


def request_digest(payload: bytes) -> str:
    """Return the digest of a message: the first digits of the SHA-256 of its bytes."""
    return short_digest(hashlib.sha256(payload).hexdigest())


def short_digest(sha256: str) -> str:
    """Return the digest of a message from the hexadecimal digits of its SHA-256."""
    return sha256[:DIGITS]
