"""Decide whether an answer or a report of progress with the id of a request is about it. No I/O.

Anybody who may send tasks can send another one with the same id, or even the same key. Results and
progress of a fastlib daemon say what they are about: of an order that it has accepted by the
idempotency key, of any other message, such as one that it refuses, by the digest of its bytes.
Those of C++ and of older daemons say neither.
"""

from typing import Literal

from .request import PendingRequest

Match = Literal["proven", "possible", "other"]
"""`possible`: only the id says that it is about the request. `other`: it is about another one."""


def match(request: PendingRequest, key: str | None, digest: str | None) -> Match:
    """Return whether a message with the id of a request is about it.

    `key` is its idempotency key, `digest` its request digest. With a digest, the key is only that
    of the message, which may have been refused.
    """
    if digest is not None:
        return "proven" if digest == request.digest else "other"
    if key is not None:
        return "proven" if key == request.container.idempotency_key else "other"
    return "possible"


def is_certain(request: PendingRequest, found: Match) -> bool:
    """Return True if an answer `unknown` proves that the order was not executed.

    An earlier copy may have been executed, and a daemon that reports progress has read it.
    """
    only_copy = not request.sent_before and not request.repeated
    return found == "proven" and only_copy and not request.understood
