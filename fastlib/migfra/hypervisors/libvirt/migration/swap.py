"""Swap two domains: in parallel, one after the other, or with one of them on storage.

Either both arrive, or a domain that has not arrived stays on its host. The error says where both
are.
"""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.domain import host_info
from fastlib.migfra.hypervisors.libvirt.domain.host_memory import read_host_memory
from fastlib.migfra.hypervisors.libvirt.domain.state import look_up, read_xml
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.memory_needs import (
    HostMemory,
    Need,
    bound_nodes,
    is_particular,
    normal_memory,
    problem_of_memory,
    read_needs,
    with_released,
)
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.placement import Guest, SwapOrder, swap_order

from .destination_xml import arrives_by_xml, live_with_maps
from .migration import Migration
from .record import MigrationState
from .swap_via_storage import MigrationViaStorage

_GIVEN_UP: Final = "given up with its partner"


async def swap(
    runtime: LibvirtRuntime, there: MigrationSpec, back: MigrationSpec, context: Context
) -> tuple[str | None, bool | None]:
    """Swap two domains. Returns the details, and whether the memory of both was encrypted.

    Raises HypervisorError with the hosts of both.
    """
    with CancelScope(context) as first, CancelScope(context) as second:
        order = await _order(runtime, there, back)
        context.log.info("swap of %s and %s: %s", there.name, back.name, order)
        legs = [(there, first), (back, second)]
        if order in ("second", "save-second"):
            legs.reverse()
        measurement = context.measurement
        (one, one_scope), (other, other_scope) = legs
        if order in ("save-first", "save-second"):
            saved = MigrationViaStorage(runtime, one, one_scope, context, measurement)
            moved = Migration(runtime, other, other_scope, context, measurement)
            pair: tuple[Migration, Migration] = (saved, moved)
            await _check_both(*pair)
            details = await _swap_via_storage(runtime, saved, moved, context)
        else:
            pair = (
                Migration(runtime, one, one_scope, context, measurement),
                Migration(runtime, other, other_scope, context, measurement),
            )
            await _check_both(*pair)
            if order == "parallel":
                details = await _swap_in_parallel(pair, (one_scope, other_scope))
            else:
                details = await _swap_in_turn(*pair)
    return "; ".join(details) or None, encrypted_of(each.record.state for each in pair)


def encrypted_of(states: Iterable[MigrationState]) -> bool | None:
    """Return whether the memory of all was sent encrypted. None if there was none to encrypt."""
    found = {state.encrypted for state in states}
    return None if None in found or not found else all(found)


async def check_swap(
    runtime: LibvirtRuntime,
    there: MigrationSpec,
    back: MigrationSpec,
    scope: CancelScope,
    context: Context,
) -> None:
    """Check that both can migrate. Changes nothing. Raises HypervisorError."""
    await _order(runtime, there, back)
    measurement = context.measurement
    await _check_both(
        *(Migration(runtime, spec, scope, context, measurement) for spec in (there, back))
    )


class _Leg(msgspec.Struct, frozen=True, kw_only=True):
    """A domain of a swap, and the memory of its present host."""

    guest: Guest
    """The domain with its needs at the destination."""
    present_needs: Sequence[Need]
    free_memory: int | None
    """KiB. None if it is not known."""
    nodes: HostMemory


def _read_needs(
    connection: Any, name: str, spec: MigrationSpec
) -> tuple[Sequence[Need], Sequence[Need]]:
    """Read what a domain needs on its source, and at its destination. Blocks."""
    live = read_xml(connection, name, active=True)
    present = read_needs(parse(live))
    if not arrives_by_xml(spec, connection.getType()):
        return present, present
    try:
        return present, read_needs(parse(live_with_maps(spec, live)))
    except HypervisorError:  # a map does not fit; the check of the migration says so
        return present, present


async def _read_leg(runtime: LibvirtRuntime, spec: MigrationSpec) -> _Leg:
    connection = await runtime.connections.get(spec.source, spec.driver, spec.transport)
    observed = await connection.call(look_up, spec.name)
    if not observed.active:
        raise HypervisorError(f"{spec.name} does not run on {spec.source}; nothing was swapped")
    free = await connection.call(host_info.free_memory)
    if free is not None:
        free = max(0, free - runtime.options.reserved_memory)
    present, arriving = await connection.call(_read_needs, spec.name, spec)
    return _Leg(
        guest=Guest(name=spec.name, memory=observed.memory, needs=arriving),
        present_needs=present,
        free_memory=free,
        nodes=await connection.call(read_host_memory),
    )


def _check_size(spec: MigrationSpec, guest: Guest, leaves: _Leg) -> None:
    """Raise HypervisorError if a host lacks memory for a domain also without its partner."""
    partner, free, needed = leaves.guest.name, leaves.free_memory, guest.normal_memory
    released = normal_memory(leaves.present_needs)
    if needed is not None and free is not None and needed > free + released:
        raise HypervisorError(
            f"{spec.destination} has too little memory for {guest.name} even without "
            f"{partner}; nothing was swapped"
        )
    # The check of the migration names nodes that the host lacks.
    if is_particular(guest.needs) and bound_nodes(guest.needs) <= leaves.nodes.nodes.keys():
        nodes = with_released(leaves.nodes, leaves.present_needs)
        problem = problem_of_memory(guest.name, spec.destination, guest.needs, nodes)
        if problem is not None:
            raise HypervisorError(
                f"{problem}; the memory of {partner} counts as free; nothing was swapped"
            )


async def _order(runtime: LibvirtRuntime, there: MigrationSpec, back: MigrationSpec) -> SwapOrder:
    """Choose the order of the swap by the free memory on both hosts. Raises HypervisorError."""
    first, second = await asyncio.gather(_read_leg(runtime, there), _read_leg(runtime, back))
    _check_size(there, first.guest, second)
    _check_size(back, second.guest, first)
    order = swap_order(
        first.guest, first.free_memory, second.guest, second.free_memory,
        first_nodes=first.nodes, second_nodes=second.nodes,
    )  # fmt: skip
    if order in ("save-first", "save-second") and there.parameter.copy_storage is not None:
        raise HypervisorError(
            f"neither {there.source} nor {back.source} has memory for both domains, and a domain "
            "that is saved cannot copy its disks; migrate one of them to a third host first"
        )
    return order


async def _check_both(*migrations: Migration) -> None:
    """Check both domains before a change to either. Raises HypervisorError."""
    ended = await asyncio.gather(
        *(migration.check() for migration in migrations), return_exceptions=True
    )
    errors = [end for end in ended if isinstance(end, BaseException)]
    _raise_unexpected(errors)
    if errors:
        words = "; ".join(str(error) for error in errors)
        raise _failed(errors, f"{words}; nothing was swapped")


async def _swap_in_parallel(
    pair: tuple[Migration, Migration], scopes: tuple[CancelScope, CancelScope]
) -> list[str]:
    async def one(index: int) -> str | None:
        try:
            return await _migrate_checked(pair[index])
        except BaseException as error:
            if not isinstance(error, ArrivedError):
                scopes[1 - index].cancel(_GIVEN_UP)
            raise

    ended = await asyncio.gather(one(0), one(1), return_exceptions=True)
    errors = [end for end in ended if isinstance(end, BaseException)]
    _raise_unexpected(errors)
    if errors:
        # The error of the migration that failed first has the reason, so it comes first.
        errors.sort(key=lambda error: _GIVEN_UP in str(error))
        words = [str(error) for error in errors]
        for migration, end in zip(pair, ended, strict=True):
            if not isinstance(end, BaseException):
                words.append(await migration.describe_on_destination())
        one_moved = any(
            not isinstance(end, BaseException) or isinstance(end, ArrivedError) for end in ended
        )
        raise _failed(errors, "; ".join(words), one_moved=one_moved)
    return [end for end in ended if isinstance(end, str)]


async def _migrate_checked(migration: Migration) -> str | None:
    """Run a checked migration to its end."""
    return await migration.finish(await migration.prepare_and_move())


def _raise_unexpected(errors: list[BaseException]) -> None:
    for error in errors:
        if not isinstance(error, HypervisorError):
            raise error


def _failed(
    errors: Sequence[BaseException], words: str, *, one_moved: bool = False
) -> HypervisorError:
    if one_moved or any(isinstance(error, FinalError) for error in errors):
        # A retry would search for the domains on hosts that they have left.
        return FinalError(f"the swap failed: {words}")
    if all(isinstance(error, TaskCancelledError) for error in errors):
        return TaskCancelledError(words)
    return HypervisorError(f"the swap failed: {words}")


async def _swap_in_turn(first: Migration, second: Migration) -> list[str]:
    """Move the first domain, then the second. Before that there is no memory for the second."""
    problem: ArrivedError | None = None
    details: list[str | None] = []
    try:
        details.append(await _migrate_checked(first))
    except ArrivedError as error:
        problem = error
    try:
        details.append(await _migrate_checked(second))
    except HypervisorError as error:
        arrived = str(problem or await first.describe_on_destination())
        raise _failed([error], f"{error}; {arrived}", one_moved=True) from error
    if problem is not None:
        arrived = await second.describe_on_destination()
        raise _failed([problem], f"{problem}; {arrived}", one_moved=True) from problem
    return [text for text in details if text is not None]


async def _swap_via_storage(
    runtime: LibvirtRuntime, saved: MigrationViaStorage, moved: Migration, context: Context
) -> list[str]:
    """Save the first domain to storage, move the second, then restore the first."""
    spec = saved.spec
    details = None
    problem: ArrivedError | None = None
    path = _path(runtime, spec)
    await saved.run_or_undo(saved.check_path(path))
    with context.measure(spec.timer):
        await saved.run_or_undo(saved.prepare())
        with context.measure(f"downtime-{spec.name}"):
            await saved.save(path)
            try:
                details = await _migrate_checked(moved)
            except ArrivedError as error:
                problem = error
            except Exception as error:
                words = "; ".join([str(error), *await saved.restore_on_source()])
                if not isinstance(error, HypervisorError):
                    context.log.warning("%s", words)
                    raise
                raise _failed([error], words) from error
            try:
                await saved.restore_on_destination()
            except HypervisorError as error:
                arrived = str(problem or await moved.describe_on_destination())
                raise _failed([error], f"{error}; {arrived}", one_moved=True) from error
    if problem is not None:
        arrived = await saved.describe_on_destination()
        raise _failed([problem], f"{problem}; {arrived}", one_moved=True) from problem
    return [] if details is None else [details]


def _path(runtime: LibvirtRuntime, spec: MigrationSpec) -> str:
    """Return the file to save a domain to. Raises HypervisorError without a shared folder."""
    if runtime.options.snapshot_directory is None:
        raise HypervisorError(
            f"neither {spec.source} nor {spec.destination} has memory for both domains; name a "
            "folder that all hosts share as snapshot-directory; one of the domains can then be "
            "saved there"
        )
    return str(Path(runtime.options.snapshot_directory) / f"{spec.name}.save")
