"""Decide which host a start may probe on SSH. Queries no host."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from fastlib.migfra.errors import HypervisorError

from .host_names import canonical_name, check_host, is_loopback, is_same_name, without_brackets

_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
"""A name that resolvers may take for an IPv4 address, such as `127.1` or `0x7f000001`."""


def check_probe_host(asked: str, domain: str, allowed: Sequence[str]) -> str:
    """Return the host to probe, without brackets. Raises HypervisorError if a task must not.

    A task may name the domain's name, alone or followed by `.` or `-`, such as `vm1.example.org` or
    `vm1-ib`. `allowed` has further names, DNS domains (`.example.org`) and networks (`10.0.0.0/8`).
    """
    host = without_brackets(check_host(asked))
    try:
        # The resolver refuses an empty part, and one of more than 63 characters.
        host.encode("idna")
    except UnicodeError:
        raise HypervisorError(f"{asked[:60]!r} must be a host name") from None
    name = canonical_name(host)
    if not (_is_of_domain(name, domain) or any(_matches(name, each) for each in allowed)):
        raise HypervisorError(
            f"{asked[:60]!r} is neither the domain's name nor one that the configuration allows; "
            "let the operator add it to probe-hosts in the section hypervisor"
        )
    return host


def _is_of_domain(name: str, domain: str) -> bool:
    own = canonical_name(domain)
    if is_loopback(name) or _is_address(name) or _NUMERIC.fullmatch(name):
        return False  # else a domain with an address as its name could probe that address
    return name == own or name.startswith((f"{own}.", f"{own}-"))


def _matches(name: str, allowed: str) -> bool:
    if "/" in allowed:
        return _is_address(name) and ipaddress.ip_address(name) in ipaddress.ip_network(
            allowed, strict=False
        )
    if allowed.startswith("."):
        return name.endswith(allowed.lower())
    return is_same_name(name, allowed)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_probe_host(text: str) -> bool:
    """Return whether a text of the configuration is a name, a DNS domain or a network."""
    try:
        if "/" in text:
            ipaddress.ip_network(text, strict=False)
        else:
            check_host(text.removeprefix("."))
    except (ValueError, HypervisorError):
        return False
    return True
