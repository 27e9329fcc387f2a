"""Decide whether an answer or a report of progress with the id of a request is about it. No I/O.

Any client that may send tasks can send another one with the same id, or even the same key. Results
and progress of a fastlib daemon identify their order. For an accepted order they have its
idempotency key. For any other message, such as a refused one, they have the digest of its bytes.
Those of C++ peers and older daemons have neither.
"""

from typing import Literal

from .request import PendingRequest

Match = Literal["proven", "possible", "other"]
"""`possible`: only the id matches the request. `other`: it is about another request."""


def match(request: PendingRequest, key: str | None, digest: str | None) -> Match:
    """Decide whether a message with the id of a request is about it.

    `key` is its idempotency key, `digest` its request digest. With a digest, the key is only that
    of the message, and the daemon may have refused it.
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
