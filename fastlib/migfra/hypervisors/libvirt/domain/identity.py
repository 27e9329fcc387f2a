"""Check a domain's identity: on each host its name and its UUID must belong together."""

from collections.abc import Mapping
from typing import Any

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .state import DomainState, look_up


class Namesakes(msgspec.Struct, frozen=True, kw_only=True):
    """The domains of a host that have a certain name or a certain UUID."""

    by_name: DomainState
    name_of_uuid: str | None = None
    """The name of the domain with the UUID. None if there is none."""


def read_namesakes(connection: Any, name: str, uuid: str | None) -> Namesakes:
    """Look up a name and a UUID. Blocks: use `Connection.call`."""
    libvirt = api()
    found = None
    if uuid is not None:
        try:
            found = connection.lookupByUUIDString(uuid).name()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    return Namesakes(by_name=look_up(connection, name), name_of_uuid=found)


def check_identity(name: str, uuid: str | None, host: str, found: Namesakes) -> None:
    """Raise HypervisorError if a host has another domain with the name or with the UUID."""
    other = found.by_name
    if uuid is not None and other.known and other.uuid != uuid:
        raise HypervisorError(
            f"{host} has another domain with the name {name} (UUID {other.uuid}, not {uuid}); "
            "undefine it there first, or give the UUID of that one"
        )
    if found.name_of_uuid is not None and found.name_of_uuid != name:
        raise HypervisorError(
            f"{host} has a domain {found.name_of_uuid} with the UUID {uuid} of {name}; undefine it "
            f"there first, or give {name} another UUID"
        )


def common_uuid(name: str, found: Mapping[str, Namesakes]) -> str | None:
    """Return the UUID that a domain has on all hosts that know it. None if no host does.

    A definition that stayed on another host is of the same domain. Raises HypervisorError if hosts
    know different domains with that name.
    """
    uuids = {host: each.by_name.uuid for host, each in found.items() if each.by_name.known}
    if len(set(uuids.values())) > 1:
        each = ", ".join(f"{uuid} on {host}" for host, uuid in sorted(uuids.items()))
        raise HypervisorError(
            f"different domains have the name {name} (UUID {each}); undefine all but one first"
        )
    return next(iter(uuids.values()), None)
