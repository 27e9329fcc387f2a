"""Lay out the simulated cluster: names and sizes of its hosts and VMs."""

import random
from typing import Final

from fastlib.migfra.hypervisors.simulated import (
    ClusterDescription,
    DomainDescription,
    HostDescription,
)

from .settings import Settings

GIB: Final = 1 << 20
"""KiB in a GiB."""
MIN_VM_GIB: Final = 2
MAX_VM_GIB: Final = 4
SLOW_BANDWIDTH: Final = 100
"""MiB/s, less than any VM writes: a migration with this limit never converges."""


def host_names(settings: Settings, prefix: str) -> list[str]:
    """Return `demo-a`, `demo-b` and so on, or numbers for more than 26 hosts."""
    if settings.hosts <= 26:
        return [f"{prefix}-{chr(ord('a') + number)}" for number in range(settings.hosts)]
    width = len(str(settings.hosts))
    return [f"{prefix}-{number:0{width}}" for number in range(1, settings.hosts + 1)]


def vm_names(settings: Settings) -> list[str]:
    """Return `vm-1`, `vm-2` and so on, all of the same length."""
    width = len(str(settings.vms))
    return [f"vm-{number:0{width}}" for number in range(1, settings.vms + 1)]


def describe_cluster(settings: Settings, hosts: list[str]) -> ClusterDescription:
    """Return hosts with room for twice their VMs, and the VMs, defined and shut off.

    All VMs write to their memory, so each live migration copies in several rounds.
    """
    rng = random.Random(settings.seed)  # noqa: S311 - no secret
    max_vms = 2 * -(-settings.vms // settings.hosts) + 2
    return ClusterDescription(
        hosts=[
            HostDescription(name=name, cpus=2 * max_vms, memory=max_vms * MAX_VM_GIB * GIB)
            for name in hosts
        ],
        domains=[
            DomainDescription(
                name=name,
                host=first_host(settings, hosts, number),
                state="shut off",
                vcpus=2,
                memory=rng.randint(MIN_VM_GIB, MAX_VM_GIB) * GIB,
                dirty_rate=float(rng.randint(SLOW_BANDWIDTH + 20, 2 * SLOW_BANDWIDTH)),
                working_set=rng.randint(256, 512) << 10,
            )
            for number, name in enumerate(vm_names(settings))
        ],
        bandwidth=1024.0,
        faults=settings.faults,
        seed=settings.seed,
    )


def first_host(settings: Settings, hosts: list[str], number: int) -> str:
    """Return the host on which the VM of this number, from 0, starts."""
    return hosts[number * len(hosts) // settings.vms]
