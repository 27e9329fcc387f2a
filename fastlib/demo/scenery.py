"""The simulated cluster that the story takes place in."""

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
LARGEST: Final = 4
"""GiB of the largest VM."""
SLOW: Final = 100
"""MiB/s, less than any VM writes: a migration that is held to it does not end by itself."""


def host_names(settings: Settings, prefix: str) -> list[str]:
    """`demo-a`, `demo-b` and so on, or numbers where there are more than letters."""
    if settings.hosts <= 26:
        return [f"{prefix}-{chr(ord('a') + number)}" for number in range(settings.hosts)]
    width = len(str(settings.hosts))
    return [f"{prefix}-{number:0{width}}" for number in range(1, settings.hosts + 1)]


def vm_names(settings: Settings) -> list[str]:
    """`vm-1`, `vm-2` and so on, of the same length."""
    width = len(str(settings.vms))
    return [f"vm-{number:0{width}}" for number in range(1, settings.vms + 1)]


def describe(settings: Settings, hosts: list[str]) -> ClusterDescription:
    """Hosts with room for twice their VMs, and the VMs, defined and shut off.

    All of them write to their memory, so that live migrations take their rounds.
    """
    chance = random.Random(settings.seed)  # noqa: S311 - no secret
    most = 2 * -(-settings.vms // settings.hosts) + 2
    return ClusterDescription(
        hosts=[HostDescription(name=name, cpus=2 * most, memory=most * LARGEST * GIB)
               for name in hosts],
        domains=[
            DomainDescription(
                name=name,
                host=home(settings, hosts, number),
                state="shut off",
                vcpus=2,
                memory=chance.randint(2, LARGEST) * GIB,
                dirty_rate=float(chance.randint(SLOW + 20, 2 * SLOW)),
                working_set=chance.randint(256, 512) << 10,
            )
            for number, name in enumerate(vm_names(settings))
        ],
        bandwidth=1024.0,
        faults=settings.faults,
        seed=settings.seed,
    )  # fmt: skip


def home(settings: Settings, hosts: list[str], number: int) -> str:
    """The host that a VM starts on."""
    return hosts[number * len(hosts) // settings.vms]
