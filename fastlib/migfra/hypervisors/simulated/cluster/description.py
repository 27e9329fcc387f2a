"""The description of a simulated cluster: hosts, links, domains and planned faults.

Rates are in MiB/s, memory is in KiB as on the wire, times are seconds of the cluster's own time.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec

from fastlib.codec.annotations import Wire
from fastlib.codec.rules import Between, Positive, Rule
from fastlib.message.numbers import U32, U64
from fastlib.migfra.plugin_api.config_section import ConfigSection

State = Literal["running", "paused", "shut off"]
"""The state of a domain."""
FaultKind = Literal["error", "hang", "unreachable", "managedsave", "shutdown"]
"""A call fails. A call takes longer. Other hosts cannot reach a host. A domain is saved and shut
off. A host saves all of its domains and shuts down."""
SAVING: Final = ("managedsave", "shutdown")
"""The faults that save domains. Each does so once, when its time has come."""


class StoragePoolDescription(ConfigSection):
    """A storage pool of a host. No task uses its space."""

    name: Annotated[str, Wire("Name of the pool.")]
    path: Annotated[str, Wire("Folder of its volumes.")]
    capacity: Annotated[U64, Wire("Its size.", unit="MiB")]
    free: Annotated[U64 | None, Wire("Its free space; absent means all of it.", unit="MiB")] = None


DEFAULT_POOLS: Final = (
    StoragePoolDescription(
        name="default", path="/var/lib/libvirt/images", capacity=100 << 10, free=80 << 10
    ),
)


class HostDescription(ConfigSection):
    """A host of the cluster."""

    rules: ClassVar[tuple[Rule, ...]] = (Between("numa_nodes", 1, 64),)

    name: Annotated[str, Wire("Name of the host.")]
    cpus: Annotated[U32, Wire("Its CPUs.")] = 16
    memory: Annotated[U64, Wire("Its memory.", unit="KiB")] = 64 << 20
    certificates: Annotated[
        bool, Wire("Whether its hypervisor has certificates for encrypted migrations.")
    ] = False
    numa_nodes: Annotated[
        U32, Wire("Number of its NUMA nodes. They have equal parts of its CPUs and memory.")
    ] = 2
    cpu_model: Annotated[str, Wire("Model of its CPUs.")] = "Skylake-Server"
    storage_pools: Annotated[Sequence[StoragePoolDescription], Wire("Its storage pools.")] = (
        DEFAULT_POOLS
    )


class LinkDescription(ConfigSection):
    """The link between two hosts."""

    rules: ClassVar[tuple[Rule, ...]] = (Positive("bandwidth"), Positive("connection_bandwidth"))

    hosts: Annotated[Sequence[str], Wire("The two hosts.")]
    bandwidth: Annotated[float, Wire("Its bandwidth.", unit="MiB/s")]
    duplex: Annotated[bool, Wire("Whether it has this bandwidth in each direction.")] = True
    connection_bandwidth: Annotated[
        float | None,
        Wire("The highest rate of one connection; absent means no bound.", unit="MiB/s"),
    ] = None


class DomainDescription(ConfigSection):
    """A domain that is defined in the cluster."""

    rules: ClassVar[tuple[Rule, ...]] = (Between("dirty_rate", 0),)

    name: Annotated[str, Wire("Name of the domain.")]
    host: Annotated[str, Wire("Name of its host.")]
    state: Annotated[State, Wire("Its state.")] = "running"
    managed_save: Annotated[
        bool, Wire("Whether it has a saved image on its host; then it is shut off.")
    ] = False
    vcpus: Annotated[U32, Wire("Number of its virtual CPUs.")] = 1
    memory: Annotated[U64, Wire("Its memory.", unit="KiB")] = 1 << 20
    dirty_rate: Annotated[float, Wire("Rate at which it writes to its memory.", unit="MiB/s")] = 0.0
    working_set: Annotated[
        U64 | None, Wire("The memory that it writes to; absent means all.", unit="KiB")
    ] = None
    disk: Annotated[
        U64,
        Wire(
            "The data on its disk vda, if only its host has the disk; 0 means that all hosts share "
            "its disks.",
            unit="KiB",
        ),
    ] = 0


class _NeedsHost(Rule):
    """A fault must have the keys that its kind needs."""

    attributes = ("kind", "host")

    def broken(self, get: Any) -> tuple[str | None, str] | None:
        kind = get("kind")
        if kind in ("unreachable", "shutdown") and get("host") is None:
            return "kind", f"{kind} needs {{host}}"
        return None


class Fault(ConfigSection):
    """A planned or random fault."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _NeedsHost(),
        Between("percent", 0, 100),
        Between("begin", 0),
        Positive("until"),
        Positive("seconds"),
        Between("rate", 0, 1),
    )

    kind: Annotated[
        FaultKind,
        Wire(
            "A call fails, a call hangs, a host is unreachable, domains are saved, or a host "
            "saves its domains and shuts down."
        ),
    ]
    task: Annotated[
        str | None, Wire("The calls that it affects, such as start or migrate; absent means all.")
    ] = None
    vm_name: Annotated[str | None, Wire("The domain that it affects; absent means all.")] = None
    host: Annotated[str | None, Wire("The host that it affects; absent means all.")] = None
    percent: Annotated[
        float | None, Wire("Progress of the migration at that time; absent means its begin.")
    ] = None
    begin: Annotated[float, Wire("Time of its beginning.", unit="s")] = msgspec.field(
        default=0.0, name="from"
    )
    until: Annotated[float | None, Wire("Time of its end; absent means never.", unit="s")] = None
    seconds: Annotated[
        float | None, Wire("Time that a call hangs; absent means forever.", unit="s")
    ] = None
    times: Annotated[
        U32 | None, Wire("Number of times that it hits each domain; absent means always.")
    ] = None
    rate: Annotated[float, Wire("Its probability, each time.")] = 1.0
    text: Annotated[str | None, Wire("Text of the error.")] = None


class ClusterDescription(ConfigSection):
    """The initial state of a cluster."""

    rules: ClassVar[tuple[Rule, ...]] = (Positive("bandwidth"),)

    hosts: Annotated[Sequence[HostDescription], Wire("Its hosts.")] = ()
    links: Annotated[Sequence[LinkDescription], Wire("Links that differ from `bandwidth`.")] = ()
    domains: Annotated[Sequence[DomainDescription], Wire("The domains defined in it.")] = ()
    bandwidth: Annotated[
        float, Wire("Bandwidth between any two hosts, in each direction.", unit="MiB/s")
    ] = 1024.0
    faults: Annotated[Sequence[Fault], Wire("Faults in it.")] = ()
    seed: Annotated[U64, Wire("Seed of the random faults.")] = 0
