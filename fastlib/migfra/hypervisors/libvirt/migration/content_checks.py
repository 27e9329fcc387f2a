"""Compare samples of the content of files and devices on both hosts of a migration."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from fastlib.migfra.hypervisors.libvirt.domain.file_probe import Prober, read_samples
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .storage_decision import StorageFacts

Ask = Callable[..., Awaitable[Any]]
"""Calls a function on a host. Returns the error if that libvirt cannot do it."""


def sizes_to_compare(paths: Sequence[str], facts: StorageFacts) -> dict[str, int]:
    """Return the sizes (bytes) of the paths that have the same size on both hosts."""
    return {
        path: size
        for path in paths
        if (size := facts.here[path].size) is not None and size == facts.there[path].size
    }


async def compare_content(
    ask: Ask, spec: MigrationSpec, prober: Prober, sizes: Mapping[str, int]
) -> dict[str, bool]:
    """Return whether the samples are equal. Leaves out paths that cannot be compared."""
    if not sizes:
        return {}
    here, there = await asyncio.gather(
        *(ask(host, read_samples, prober, sizes) for host in (spec.source, spec.destination))
    )
    if isinstance(here, LibvirtError) or isinstance(there, LibvirtError):
        return {}
    return {path: here[path] == there[path] for path in sizes if here[path] and there[path]}


async def find_other_devices(
    ask: Ask, spec: MigrationSpec, prober: Prober, sizes: Mapping[str, int]
) -> Collection[str]:
    """Return the devices of a running domain that are shown to be others at the destination.

    The domain may write a device while both hosts read it. So a difference counts only if the
    source reads the same content before the destination and after it.
    """
    first = await compare_content(ask, spec, prober, sizes)
    differ = {path: sizes[path] for path, same in first.items() if not same}
    if not differ:
        return ()
    before, there, after = [
        await ask(host, read_samples, prober, differ)
        for host in (spec.source, spec.destination, spec.source)
    ]
    if any(isinstance(answer, LibvirtError) for answer in (before, there, after)):
        return ()
    return [
        path
        for path in differ
        if before[path] and there[path] and before[path] == after[path] != there[path]
    ]
