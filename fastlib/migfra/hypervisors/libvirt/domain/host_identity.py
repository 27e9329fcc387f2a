"""Identify hosts by their libvirt, independently of the names that reached them.

One host has many names: upper case, a trailing dot, FQDN, addresses, aliases. So hosts are compared
by libvirt's host UUID. libvirt does the same before a migration, and refuses one between two hosts
of one UUID.
"""

from typing import Any, Literal

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.host_names import canonical_name, is_same_name

from .xml import parse

Relation = Literal["same", "shared UUID", "different"]
"""How two hosts compare. "shared UUID": two hosts whose libvirts have the same UUID by mistake."""


class HostIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A host: the name that reached it, and the UUID and hostname that its libvirt reports."""

    name: str
    """The name or address in the order or the configuration."""
    uuid: str | None = None
    """libvirt's host UUID. None for a driver that has none."""
    hostname: str = ""
    """libvirt's name of the host."""


def read_identity(connection: Any, name: str) -> HostIdentity:
    """Query a libvirt for its host. `name` is the name that reached it. Blocks."""
    found = parse(connection.getCapabilities()).findtext("host/uuid")
    uuid = found.strip().lower() if found is not None else ""
    return HostIdentity(name=name, uuid=uuid or None, hostname=connection.getHostname())


def compare_hosts(one: HostIdentity, other: HostIdentity) -> Relation:
    """Compare the hosts that two names reached.

    Two hosts with faulty BIOSes may have the same UUID. Their hostnames differ. Without UUIDs only
    the names can be compared.
    """
    if one.uuid is None or other.uuid is None:
        return "same" if is_same_name(one.name, other.name) else "different"
    if one.uuid != other.uuid:
        return "different"
    if _is_same_hostname(one.hostname, other.hostname):
        return "same"
    return "shared UUID"


def check_two_hosts(source: HostIdentity, destination: HostIdentity) -> None:
    """Raise HypervisorError if libvirt would take both for one host, and refuse to migrate."""
    relation = compare_hosts(source, destination)
    if relation == "same":
        raise HypervisorError(
            f"{destination.name} is {source.name} itself (host UUID {source.uuid}); name another "
            "destination"
        )
    if relation == "shared UUID":
        raise HypervisorError(
            f"{source.name} and {destination.name} have the same host UUID {source.uuid}, and "
            "libvirt does not migrate between them; set host_uuid in libvirtd.conf (or "
            "virtqemud.conf) of one of them, and restart its libvirt"
        )


def check_same_host(connection: Any, expected: HostIdentity) -> None:
    """Raise HypervisorError if a name leads to another host than before. Blocks.

    A host whose BIOS has no UUID gets another one with each start of libvirt. So only a host with
    another UUID and another hostname counts as another one.
    """
    hostname = connection.getHostname()
    if _is_same_hostname(hostname, expected.hostname):
        return
    found = read_identity(connection, expected.name)
    if expected.uuid is not None and found.uuid not in (None, expected.uuid):
        raise HypervisorError(
            f"{expected.name} is {hostname} now, and was {expected.hostname} when the migration "
            "began; check DNS and the option hosts"
        )


def _is_same_hostname(one: str, other: str) -> bool:
    """Return whether two hostnames are of one host. One of them may lack the DNS domain."""
    short, long = sorted((canonical_name(one), canonical_name(other)), key=len)
    return long == short or long.startswith(f"{short}.")
