"""Ids of requests."""

import base64
import secrets


def new_id() -> str:
    """Return an unguessable id: 128 random bits as 26 lower-case letters and digits.

    Other schedulers see ids, so an id must not reveal the next one.
    """
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()
