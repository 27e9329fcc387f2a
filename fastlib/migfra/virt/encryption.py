"""Decide from the configuration and the order whether a migration is encrypted. Pure."""

from typing import Literal

from fastlib.migfra.errors import FinalError

EncryptionMode = Literal["required", "preferred", "off"]
"""Always, where both hosts can, or never."""


def effective_mode(configured: EncryptionMode, ordered: bool | None) -> EncryptionMode:
    """Return the mode of one order. Raises FinalError if the configuration forbids the order."""
    if ordered is None or (ordered and configured == "required"):
        return configured
    if not ordered and configured == "off":
        return configured
    if ordered and configured == "off":
        raise FinalError(
            "encrypted: true does not work with encryption: off of the daemon's configuration; "
            "leave it out, or let the operator set encryption to preferred or required in the "
            "section hypervisor"
        )
    if configured == "required":
        raise FinalError(
            "encrypted: false does not work with encryption: required of the daemon's "
            "configuration; leave it out, or let the operator set encryption to preferred in the "
            "section hypervisor"
        )
    return "required" if ordered else "off"
