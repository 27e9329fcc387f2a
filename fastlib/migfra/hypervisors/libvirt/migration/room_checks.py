"""Check before a migration that the destination has memory for the domain, where it needs it."""

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.host_memory import read_host_memory
from fastlib.migfra.hypervisors.libvirt.domain.host_room import (
    check_memory_nodes,
    read_memory_nodes,
)
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.virt.memory_needs import (
    Amount,
    is_particular,
    normal_memory,
    problem_of_memory,
    read_needs,
)
from fastlib.migfra.virt.migration_spec import MigrationSpec


async def check_room(
    runtime: LibvirtRuntime, spec: MigrationSpec, arriving: str, free_memory: int | None
) -> None:
    """Raise HypervisorError if the destination lacks memory, memory nodes or huge pages.

    `arriving` is the domain's XML when it arrives. `free_memory` is that of the destination in KiB,
    None if it is not known. Changes nothing.
    """
    needs = read_needs(parse(arriving))
    if spec.check_room and free_memory is not None:
        free = max(0, free_memory - runtime.options.reserved_memory)
        needed = normal_memory(needs)
        if needed > free:
            raise HypervisorError(
                f"{spec.destination} has {free} KiB of memory free, {spec.name} needs {needed} KiB"
            )
    if not is_particular(needs):
        return
    destination = await runtime.connections.get(spec.destination, spec.driver, spec.transport)
    if spec.memnode_map is not None:
        nodes = await destination.call(read_memory_nodes)
        check_memory_nodes(spec.destination, nodes, spec.memnode_map)
    memory = await destination.call(read_host_memory)
    # The partner of a swap frees its memory.
    amount: Amount = "free" if spec.partner is None else "total"
    problem = problem_of_memory(
        spec.name, spec.destination, needs, memory, nodes=amount, pages=amount
    )
    if problem is not None:
        raise HypervisorError(problem)
