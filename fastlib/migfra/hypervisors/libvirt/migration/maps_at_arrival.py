"""Compare a domain at its destination with the maps of its order, and pin its vCPUs if needed."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import pinning
from fastlib.migfra.hypervisors.libvirt.domain.bindings import BindingDifferences, read_differences
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .destination_xml import rows_of
from .preparation import attempt
from .record import MigrationState


async def finish_maps(
    spec: MigrationSpec,
    state: MigrationState,
    call_destination: Callable[..., Awaitable[Any]],
    measure: Callable[[str], AbstractContextManager[object]],
    context: Context,
    problems: list[str],
) -> None:
    """Compare the domain with the maps of the order. Pin its vCPUs if their CPUs differ.

    Adds the problems.
    """
    is_pinned = spec.vcpu_map is None
    if state.arrives_by_xml:
        found = BindingDifferences()
        try:
            found = await call_destination(_read_differences, spec)
        except HypervisorError as error:
            problems.append(f"could not compare its CPUs and memory nodes: {error}")
        problems += found.memory
        is_pinned = not found.vcpus
        if not is_pinned:
            context.log.warning("%s is pinned again: %s", spec.name, "; ".join(found.vcpus))
    if not is_pinned:
        with measure("repin"):
            await attempt(problems, "repin", call_destination(pinning.pin, spec.vcpu_map))


def _read_differences(connection: Any, name: str, spec: MigrationSpec) -> BindingDifferences:
    return read_differences(connection, name, lambda live: rows_of(spec, live), spec.memnode_map)
