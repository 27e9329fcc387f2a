"""The tasks of the protocol (PROTOCOL.md section 3)."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from ..codec.declare import Needs, OneOf, Rule, Wire
from .base import Message
from .devices import DeviceIvshmem, PciAddress, PciId
from .numbers import U32, U64, CpuMap, NodeMap
from .task import Task

MigrationType = Literal["live", "warm", "offline"]
"""How a domain moves: running, paused for the while, or not running."""
EvacuateMode = Literal["auto", "compact", "scatter"]
"""Where domains go: to the emptiest host, host after host, or round the hosts."""

_NAME = {"name": "'name' is the old spelling, which nobody reads; write 'vm-name'"}


class Start(Task, task="start vm", result="vm started", key="vm-configurations"):
    """Start a domain: one that is defined, or one of an XML description."""

    rules: ClassVar[tuple[Rule, ...]] = (OneOf("vm_name", "xml"), Needs("transient", "xml"))

    vm_name: Annotated[str | None, Wire("Name of a defined domain.", old=_NAME)] = None
    vcpus: Annotated[U32 | None, Wire("Number of virtual CPUs.")] = None
    memory: Annotated[U64 | None, Wire("Memory of the domain.", unit="KiB")] = None
    memnode_map: Annotated[
        NodeMap | None, Wire("Entry i lists the host's NUMA nodes for the domain's node i.")
    ] = None
    xml: Annotated[str | None, Wire("A libvirt domain; the name is taken from its <name>.")] = None
    ivshmem: Annotated[
        DeviceIvshmem | None, Wire("Memory that the host shares with the domain.")
    ] = None
    transient: Annotated[
        bool | None, Wire("Whether the domain is gone once it stops; needs xml.")
    ] = None
    pci_ids: Annotated[
        Sequence[PciId] | None,
        Wire("Devices to attach, any free one of each kind.", empty_is_absent=True),
    ] = None
    devs: Annotated[
        Sequence[PciAddress] | None,
        Wire("Devices to attach, by address.", aliases=("dev",), empty_is_absent=True),
    ] = None
    vcpu_map: Annotated[
        CpuMap | None, Wire("Entry i lists the host's CPUs that vCPU i may use.")
    ] = None
    probe_with_ssh: Annotated[
        bool | None,
        Wire("Whether the result waits until the domain answers on SSH; absent means true."),
    ] = None
    probe_hostname: Annotated[
        str | None, Wire("Host name to probe; absent means the domain's name.")
    ] = None


class Stop(Task, task="stop vm", result="vm stopped"):
    """Stop a domain, or every active domain whose whole name matches."""

    rules: ClassVar[tuple[Rule, ...]] = (OneOf("vm_name", "regex"),)

    vm_name: Annotated[str | None, Wire("Name of the domain.", old=_NAME)] = None
    regex: Annotated[
        str | None, Wire("Regular expression over the whole names of the active domains.")
    ] = None
    force: Annotated[bool | None, Wire("Destroy the domain instead of shutting it down.")] = None
    undefine: Annotated[bool | None, Wire("Forget the domain's definition afterwards.")] = None


class Suspend(Task, task="suspend vm", result="vm suspended"):
    """Pause a domain."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]


class Resume(Task, task="resume vm", result="vm resumed"):
    """Let a paused domain run on."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]


class Repin(
    Task,
    task="repin vm",
    result="vm repinned",
    layout="inline",
    result_layout=("list", "inline"),
):
    """Change the CPUs that a domain's vCPUs may use."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    vcpu_map: Annotated[CpuMap, Wire("Entry i lists the host's CPUs that vCPU i may use.")]


class SwapWith(Message):
    """The domain that comes back while another one migrates."""

    vm_name: Annotated[str, Wire("Name of the domain that runs on the destination.", old=_NAME)]
    pscom_hook_procs: Annotated[
        str | None, Wire("Processes that suspend their connections: a count, or auto.")
    ] = None
    vcpu_map: Annotated[
        CpuMap | None, Wire("Entry i lists the CPUs for vCPU i on the host where it arrives.")
    ] = None


_LIVE_MIGRATION = {
    "live-migration": "'live-migration' is the old form, which nobody reads; write "
    "'migration-type: live' for true, 'migration-type: warm' for false"
}


class MigrateParameter(Message):
    """How a domain migrates."""

    retry_counter: Annotated[
        U32 | None,
        Wire("How often a failed migration is tried again.", aliases=("retry-counter",)),
    ] = msgspec.field(default=None, name="retry_counter")
    migration_type: Annotated[
        MigrationType | None,
        Wire("live, warm or offline; absent means warm.", old=_LIVE_MIGRATION),
    ] = None
    rdma_migration: Annotated[bool | None, Wire("Whether memory moves by RDMA.")] = None
    pscom_hook_procs: Annotated[
        str | None, Wire("Processes that suspend their connections: a count, or auto.")
    ] = None
    transport: Annotated[
        str | None, Wire("Transport between the hypervisors, such as ssh or tcp.")
    ] = None
    swap_with: Annotated[
        SwapWith | None,
        Wire("The domain that moves here at the same time.", old_scalar="vm-name"),
    ] = None
    vcpu_map: Annotated[
        CpuMap | None, Wire("Entry i lists the destination's CPUs that vCPU i may use.")
    ] = None


class Migrate(
    Task, task="migrate vm", result="vm migrated", layout="inline", result_layout="inline"
):
    """Move a running domain to another host."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    destination: Annotated[str, Wire("Name of the host to move to.")]
    parameter: Annotated[
        MigrateParameter | None, Wire("How it migrates.", empty_is_absent=True)
    ] = None


class EvacuateParameter(Message):
    """How the domains of a host are placed, and how they migrate."""

    mode: Annotated[EvacuateMode | None, Wire("Where domains go; absent means auto.")] = None
    overbooking: Annotated[
        bool | None, Wire("Whether hosts may get more domains than CPUs; absent means true.")
    ] = None
    retry_counter: Annotated[
        U32 | None,
        Wire("How often a failed migration is tried again.", aliases=("retry-counter",)),
    ] = msgspec.field(default=None, name="retry_counter")
    migration_type: Annotated[
        MigrationType | None,
        Wire("live, warm or offline; absent means warm.", old=_LIVE_MIGRATION),
    ] = None
    rdma_migration: Annotated[bool | None, Wire("Whether memory moves by RDMA.")] = None
    pscom_hook_procs: Annotated[
        str | None, Wire("Processes that suspend their connections: a count, or auto.")
    ] = None
    transport: Annotated[
        str | None, Wire("Transport between the hypervisors, such as ssh or tcp.")
    ] = None


class Evacuate(Task, task="evacuate node", result="node evacuated", layout="inline"):
    """Move every active domain of the host away."""

    destinations: Annotated[Sequence[str], Wire("Names of the hosts that take them.")]
    parameter: Annotated[
        EvacuateParameter | None,
        Wire("How they are placed and migrate.", empty_is_absent=True),
    ] = None
    vm_name: Annotated[
        str | None, Wire("Used by a peer internally, one message for each domain.", old=_NAME)
    ] = None


class Quit(Task, task="quit", result="quit", layout=("inline", "list")):
    """End the daemon."""
