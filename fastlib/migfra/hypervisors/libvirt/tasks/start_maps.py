"""Compare a started domain with the maps of its order, and pin its vCPUs again if needed."""

from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain import pinning
from fastlib.migfra.hypervisors.libvirt.domain.bindings import BindingDifferences, read_differences
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import Changes
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.domain_vcpus import Pins, read_vcpus, rows_for_start


async def finish_maps(
    local: Connection, name: str, changes: Changes, context: Context
) -> str | None:
    """Compare an active domain with the maps of its order. Pin its vCPUs again if they differ.

    Returns the sentence about pinned vCPUs, for the details. Raises HypervisorError if its memory
    is bound to other nodes, which libvirt cannot change, or if its vCPUs stay different.
    """
    if not changes.has_map:
        return None
    found = await local.call(_read_differences, name, changes)
    sentence = None
    if found.vcpus and not found.memory:
        assert changes.vcpu_map is not None
        words = "; ".join(found.vcpus)
        context.log.warning("%s is pinned again: %s", name, words)
        # Further rows are for vCPUs that come online later.
        online = (await local.call(look_up, name)).vcpus
        await local.call(pinning.pin, name, changes.vcpu_map[:online])
        sentence = f"pinned it again, because {words}"
        found = await local.call(_read_differences, name, changes)
    if different := [*found.vcpus, *found.memory]:
        raise HypervisorError(f"libvirt started {name} otherwise: {'; '.join(different)}")
    return sentence


def _read_differences(connection: Any, name: str, changes: Changes) -> BindingDifferences:
    def rows(live: str) -> Pins:
        if changes.vcpu_map is None:
            return {}
        return rows_for_start(name, read_vcpus(parse(live)), changes.vcpu_map)

    return read_differences(connection, name, rows, changes.memnode_map)
