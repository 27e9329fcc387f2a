"""Check the names of hosts, and compare their spellings. Queries no host."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, NewType

from fastlib.migfra.errors import HypervisorError

UriHost = NewType("UriHost", str)
"""A checked name or address of a host. It is safe in a URI and on a command line.

Only `check_host` makes one.
"""
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
_LOCALHOST: Final = "localhost"


def check_host(host: str) -> UriHost:
    """Return a host's name or address in the form that URIs need. Raises HypervisorError.

    An IPv6 address gets brackets. It must have no scope (`%eth0`), which may be any text.
    """
    if _HOST.fullmatch(host):
        return UriHost(host)
    try:
        address = ipaddress.IPv6Address(without_brackets(host))
    except ValueError:
        raise HypervisorError(
            f"{host[:60]!r} cannot be the name of a host: it must consist of letters, digits, "
            "'.', '-' and '_'"
        ) from None
    if address.scope_id is not None:
        raise HypervisorError(
            f"{host[:60]!r} cannot be the name of a host: an IPv6 address must have no scope; "
            "leave out what follows '%'"
        )
    return UriHost(f"[{address.compressed}]")


def without_brackets(host: str) -> str:
    """Return the address between a pair of brackets, or the host itself."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def check_destination(
    host: str, *, destinations: Sequence[str] | None, nodes: Sequence[str]
) -> None:
    """Raise HypervisorError if the configuration does not let tasks choose this destination.

    Without `destinations` tasks may choose the `nodes`, without both any valid name.
    """
    check_host(host)
    allowed = nodes or None if destinations is None else destinations
    if allowed is not None and not any(is_same_name(host, each) for each in allowed):
        key = "destinations" if destinations is not None else "nodes or destinations"
        raise HypervisorError(
            f"{host[:60]!r} is not a destination that the configuration allows; choose "
            f"another, or let the operator add it to {key} in the section hypervisor"
        )


def canonical_name(host: str) -> str:
    """Return the canonical spelling of a host: lower case, without brackets and final dot."""
    name = without_brackets(host).rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).compressed
    except ValueError:
        return name


def is_same_name(one: str, other: str) -> bool:
    """Return whether two names are the same one in any spelling."""
    return canonical_name(one) == canonical_name(other)


def is_loopback(host: str) -> bool:
    """Return whether a name or address means the machine that uses it."""
    name = canonical_name(host)
    if name == _LOCALHOST or name.startswith(f"{_LOCALHOST}."):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
