"""The task `evacuate node`: migrate every active domain, within the limits of migrations."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from fastlib.message import Evacuate, Result, TimeMeasurement
from fastlib.message.tasks import EvacuateParameter
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import host_info, saved_state
from fastlib.migfra.hypervisors.libvirt.domain.host_identity import (
    HostIdentity,
    check_two_hosts,
    compare_hosts,
    read_identity,
)
from fastlib.migfra.hypervisors.libvirt.domain.host_memory import read_host_memory, read_needs_of
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.libvirt.migration.settling import settle_first
from fastlib.migfra.hypervisors.libvirt.migration.turn import in_turn
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import Whereabouts, find_domain
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.domain_results import migration_result
from fastlib.migfra.virt.evacuation import check_evacuation, evacuation_spec, retry_pauses
from fastlib.migfra.virt.memory_needs import HostMemory, is_particular
from fastlib.migfra.virt.migration_queue import turn_order
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.names import check_name
from fastlib.migfra.virt.placement import Destination, Guest, Placement, place

from .evacuation_disks import read_disk_rooms, read_disk_sizes


async def evacuate(runtime: LibvirtRuntime, task: Evacuate, context: Context) -> list[Result] | str:
    """Migrate the active domains away. Returns a result for each. Raises HypervisorError."""
    parameter = task.parameter or EvacuateParameter()
    check_evacuation(task, runtime.host)
    runtime.check_destinations(task.destinations)
    with CancelScope(context) as scope:
        context.progress("place")
        uuids = await _active_domains(runtime, task)
        if not uuids:
            return await _describe_inactive(runtime, task)
        placements = await _place(runtime, task, parameter, list(uuids), context)
        context.save_state(
            placements={placed.guest: placed.host for placed in placements}, uuids=uuids
        )
        in_turn_order = await _in_turn_order(runtime, task, placements)
        results = await asyncio.gather(
            *(
                evacuate_one(runtime, task, placed, uuids[placed.guest], scope, context)
                for placed in in_turn_order
            )
        )
        by_name = {result.vm_name: result for result in results}
        return [by_name[placed.guest] for placed in placements]


async def _describe_inactive(runtime: LibvirtRuntime, task: Evacuate) -> str:
    """Return the sentence that no domain is active, with the domains that have saved images."""
    reports = (await (await runtime.local(task.driver)).call(host_info.read)).domains
    saved = [report.name for report in reports if report.managed_save]
    words = f"no domain is active on {runtime.host}"
    return words if not saved else f"{words}; the saved images of {', '.join(saved)} stay there"


async def _in_turn_order(
    runtime: LibvirtRuntime, task: Evacuate, placements: Sequence[Placement]
) -> list[Placement]:
    """Order the domains: large and small ones alternate."""
    here = await (await runtime.local(task.driver)).call(host_info.read)
    memory = {domain.name: domain.memory for domain in here.domains}
    order = turn_order([memory.get(placed.guest) or 0 for placed in placements])
    return [placements[index] for index in order]


async def _active_domains(runtime: LibvirtRuntime, task: Evacuate) -> Mapping[str, str]:
    """Return the UUIDs of the domains to move, by their names."""
    local = await runtime.local(task.driver)
    active = await local.call(host_info.active_uuids)
    if task.vm_name is None:
        return active
    name = check_name(task.vm_name)
    if name not in active:
        found = await find_domain(runtime, name, task.driver, task.destinations)
        where = "" if found.elsewhere is None else f"; {found.elsewhere}"
        raise HypervisorError(f"{name} is not active on {runtime.host}{where}")
    return {name: active[name]}


class _Host(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a destination to the query."""

    identity: HostIdentity
    info: host_info.HostInfo


def _read_host(connection: Any, name: str) -> _Host:
    return _Host(identity=read_identity(connection, name), info=host_info.read(connection))


async def _place(
    runtime: LibvirtRuntime,
    task: Evacuate,
    parameter: EvacuateParameter,
    names: list[str],
    context: Context,
) -> tuple[Placement, ...]:
    """Choose the destination of each domain from the answers of the reachable hosts."""
    hosts = [
        host for host in dict.fromkeys(task.destinations) if not runtime.connections.is_own(host)
    ]
    here = await (await runtime.local(task.driver)).call(_read_host, runtime.host)
    found, refusals = await _ask_destinations(runtime, task, hosts, here.identity, context)
    if not found:
        why = "; ".join(refusals) or "name others than the host itself"
        raise HypervisorError(f"there is no destination for the domains of {runtime.host}: {why}")
    saved = await asyncio.gather(
        *(_saved_images(runtime, task, host.identity.name, names) for host in found)
    )
    memory = {domain.name: domain.memory for domain in here.info.domains}
    needs = await (await runtime.local(task.driver)).call(read_needs_of, names)
    nodes = [HostMemory()] * len(found)
    if any(map(is_particular, needs.values())):
        nodes = await asyncio.gather(
            *(_memory_nodes(runtime, task, host.identity.name) for host in found)
        )
    sizes: Mapping[str, Mapping[str, int]] = {}
    rooms: Sequence[Mapping[str, int]] = [{}] * len(found)
    if parameter.copy_storage is not None:
        local = await runtime.local(task.driver)
        sizes = await local.call(read_disk_sizes, names, parameter.copy_disks)
        rooms = await asyncio.gather(
            *(_disk_room(runtime, task, host.identity.name, sizes, context) for host in found)
        )
    return place(
        [
            Guest(
                name=name,
                memory=memory.get(name),
                needs=needs.get(name, ()),
                disks=sizes.get(name, {}),
            )
            for name in names
        ],
        [
            msgspec.structs.replace(
                _destination(host, runtime.options.reserved_memory, images),
                nodes=each,
                disk_room=room,
            )
            for host, images, each, room in zip(found, saved, nodes, rooms, strict=True)
        ],
        parameter.mode or "auto",
        overbooking=parameter.overbooking is not False,
    )


async def _ask_destinations(
    runtime: LibvirtRuntime,
    task: Evacuate,
    hosts: Sequence[str],
    own: HostIdentity,
    context: Context,
) -> tuple[list[_Host], list[str]]:
    """Query the destinations. Returns those that can take domains, and the reasons of the others.

    A host that has several names in the list counts once, under its first name.
    """
    transport = None if task.parameter is None else task.parameter.transport

    async def ask(host: str) -> _Host:
        connection = await runtime.connections.get(host, task.driver, transport)
        return await connection.call(_read_host, host)

    answers = await asyncio.gather(*map(ask, hosts), return_exceptions=True)
    found: list[_Host] = []
    refusals = []
    for host, answer in zip(hosts, answers, strict=True):
        try:
            if isinstance(answer, BaseException):
                raise answer
            check_two_hosts(own, answer.identity)
        except HypervisorError as error:
            context.log.warning("no domain is moved to %s: %s", host, error)
            refusals.append(str(error))
            continue
        same = [each for each in found if compare_hosts(each.identity, answer.identity) == "same"]
        if same:
            context.log.info(
                "%s is the same host as %s, and counts once", host, same[0].identity.name
            )
        else:
            found.append(answer)
    return found, refusals


async def _saved_images(
    runtime: LibvirtRuntime, task: Evacuate, host: str, names: Sequence[str]
) -> frozenset[str]:
    """Return the domains that have a saved image on a host."""
    transport = None if task.parameter is None else task.parameter.transport
    connection = await runtime.connections.get(host, task.driver, transport)
    return await connection.call(saved_state.names_with_image, names)


async def _memory_nodes(runtime: LibvirtRuntime, task: Evacuate, host: str) -> HostMemory:
    """Return the memory nodes and huge pages of a host."""
    transport = None if task.parameter is None else task.parameter.transport
    connection = await runtime.connections.get(host, task.driver, transport)
    return await connection.call(read_host_memory)


async def _disk_room(
    runtime: LibvirtRuntime,
    task: Evacuate,
    host: str,
    sizes: Mapping[str, Mapping[str, int]],
    context: Context,
) -> Mapping[str, int]:
    """Return the free bytes of a host's folders for the copies of disks."""
    transport = None if task.parameter is None else task.parameter.transport
    connection = await runtime.connections.get(host, task.driver, transport)
    return await read_disk_rooms(connection, sizes.values(), context)


def _destination(host: _Host, reserved_memory: int, saved: frozenset[str]) -> Destination:
    free = host.info.free_memory
    return Destination(
        name=host.identity.name,
        cpus=host.info.cpus,
        active=len(host.info.active),
        free_memory=None if free is None else max(0, free - reserved_memory),
        saved=saved,
    )


async def evacuate_one(
    runtime: LibvirtRuntime,
    task: Evacuate,
    placed: Placement,
    uuid: str,
    scope: CancelScope,
    context: Context,
) -> Result:
    """Migrate one domain in its turn. Returns its result."""
    name = placed.guest
    measurement = TimeMeasurement(enabled=context.measurement.enabled)
    end: str | HypervisorError | None
    encrypted: bool | None = None

    async def find() -> Whereabouts:
        """Find the present host of the domain. The caller holds its lock."""
        transport = None if task.parameter is None else task.parameter.transport
        return await find_domain(
            runtime, name, task.driver, task.destinations, uuid=uuid, transport=transport
        )

    with measurement.measure("overall"), context.about(name):
        try:
            if placed.host is None:
                end = await _leave_here(runtime, task, placed, find, scope)
            else:
                spec = evacuation_spec(task, name, runtime.host, placed.host)
                end, encrypted = await _migrate_with_retries(
                    runtime, spec, find, scope, context, measurement
                )
        except HypervisorError as error:
            end = error
        except Exception as error:  # the other domains must still get their results
            context.log.exception("unexpected error in the migration of %s", name)
            end = HypervisorError(f"{type(error).__name__}: {error}")
    return migration_result(name, end, measurement, encrypted=encrypted)


async def _leave_here(
    runtime: LibvirtRuntime,
    task: Evacuate,
    placed: Placement,
    find: Callable[[], Awaitable[Whereabouts]],
    scope: CancelScope,
) -> str:
    """Return the result of a domain without a destination. Raises HypervisorError if it is here."""
    async with runtime.exclusive(placed.guest, task.driver, scope):
        found = await find()
    if found.here.active:
        raise HypervisorError(f"{placed.guest} stays on {runtime.host}: {placed.reason}")
    return found.sentence


async def _migrate_with_retries(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    find: Callable[[], Awaitable[Whereabouts]],
    scope: CancelScope,
    context: Context,
    measurement: TimeMeasurement,
) -> tuple[str | None, bool | None]:
    """Migrate one domain. Returns the details, and whether its memory was sent encrypted.

    The details are the number of retries if the task has a counter for them.

    The daemon repeats whole tasks only, but some domains of an evacuation may have moved already.
    """
    new = partial(Migration, runtime, spec, scope, context, measurement)

    async def check() -> bool:
        is_here = (await find()).here.active
        if is_here:
            await new().check()
        return is_here

    async def attempt(number: int) -> tuple[str | None, bool | None]:
        async with in_turn(runtime, (spec,), scope, context, check, is_whole_task=False):
            found = await find()
            if not found.here.active:
                return found.sentence, None
            await settle_first(runtime, spec.name)
            migration = new()
            details = await migration.run()
        return details if retries is None else None, migration.encrypted

    retries = spec.parameter.retry_counter
    (details, encrypted), made = await context.retrying(
        attempt, retries=retries, vm_name=spec.name, sleep=scope.sleep, pauses=retry_pauses()
    )
    if details is None and retries is not None:
        details = str(made)
    return details, encrypted
