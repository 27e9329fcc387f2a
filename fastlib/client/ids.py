"""Ids of requests."""

import base64
import secrets


def new_id() -> str:
    """Return an id that nobody guesses: 128 random bits as 26 lower-case letters and digits.

    Ids are shown to other schedulers, so one must not tell the next one.
    """
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()
