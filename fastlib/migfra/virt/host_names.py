"""Compare the spellings of hosts' names. Asks nobody."""

import ipaddress
from typing import Final

_LOCALHOST: Final = "localhost"


def canonical_name(host: str) -> str:
    """Return the one spelling of a name or address: lower case, without brackets and final dot."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        return name


def is_same_name(one: str, other: str) -> bool:
    """Tell whether two names are the same one, however they are spelled."""
    return canonical_name(one) == canonical_name(other)


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is that of whichever machine uses it."""
    name = canonical_name(host)
    if name == _LOCALHOST or name.startswith(f"{_LOCALHOST}."):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
