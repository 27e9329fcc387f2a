"""The tasks of the protocol.

See docs/reference/protocol.md, "Tasks".
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from fastlib.codec.annotations import Wire
from fastlib.codec.rules import Needs, OneOf, Rule

from .base import Message
from .devices import DeviceIvshmem, PciAddress, PciId
from .history import HistoryResult
from .node import NodeResult
from .numbers import U32, U64, CpuMap, NodeMap
from .task import Task

MigrationType = Literal["live", "warm", "offline"]
"""How a domain moves: running, paused for the while, or not running."""
EvacuateMode = Literal["auto", "compact", "scatter"]
"""Where domains go: to the emptiest host, host after host, or round the hosts."""
TimeoutAction = Literal["abort", "pause", "post-copy"]
"""What ends a migration that takes too long: the domain stays, or it is paused until its memory has
arrived, or it runs on at the destination before that."""
SavedState = Literal["restore", "discard"]
"""Restore the domain from its saved image, or delete the image and boot the domain."""
Positive = Annotated[int, msgspec.Meta(ge=1, le=0xFFFF_FFFF)]

_NAME = {"name": "'name' is the old spelling, which nobody reads; write 'vm-name'"}


class Start(Task, task="start vm", result="vm started", key="vm-configurations"):
    """Start a domain: one that is defined, or one of an XML description."""

    rules: ClassVar[tuple[Rule, ...]] = (OneOf("vm_name", "xml"), Needs("transient", "xml"))

    vm_name: Annotated[str | None, Wire("Name of a defined domain.", old=_NAME)] = None
    """Name of a defined domain."""
    vcpus: Annotated[U32 | None, Wire("Number of virtual CPUs.")] = None
    """Number of virtual CPUs."""
    memory: Annotated[U64 | None, Wire("Memory of the domain.", unit="KiB")] = None
    """Memory of the domain. Unit: KiB."""
    memnode_map: Annotated[
        NodeMap | None, Wire("Entry i lists the host's NUMA nodes for the domain's node i.")
    ] = None
    """Entry i lists the host's NUMA nodes for the domain's node i."""
    xml: Annotated[str | None, Wire("A libvirt domain; the name is taken from its <name>.")] = None
    """A libvirt domain; the name is taken from its <name>."""
    ivshmem: Annotated[
        DeviceIvshmem | None, Wire("Memory that the host shares with the domain.")
    ] = None
    """Memory that the host shares with the domain."""
    transient: Annotated[
        bool | None, Wire("Whether the domain is gone once it stops; needs xml.")
    ] = None
    """Whether the domain is gone once it stops; needs xml."""
    pci_ids: Annotated[
        Sequence[PciId] | None,
        Wire("Devices to attach, any free one of each kind.", empty_is_absent=True),
    ] = None
    """Devices to attach, any free one of each kind."""
    devs: Annotated[
        Sequence[PciAddress] | None,
        Wire("Devices to attach, by address.", aliases=("dev",), empty_is_absent=True),
    ] = None
    """Devices to attach, by address."""
    vcpu_map: Annotated[
        CpuMap | None, Wire("Entry i lists the host's CPUs that vCPU i may use.")
    ] = None
    """Entry i lists the host's CPUs that vCPU i may use."""
    probe_with_ssh: Annotated[
        bool | None,
        Wire("Whether the result waits until the domain answers on SSH; absent means true."),
    ] = None
    """Whether the result waits until the domain answers on SSH; absent means true."""
    probe_hostname: Annotated[
        str | None, Wire("Host name to probe; absent means the domain's name.")
    ] = None
    """Host name to probe; absent means the domain's name."""
    saved_state: Annotated[
        SavedState | None,
        Wire(
            "restore: the domain must have a saved image, and continues from it. discard: its "
            "image is deleted, and it boots. Absent means that an image is restored if it fits the "
            "task."
        ),
    ] = None
    """restore: the domain must have a saved image, and continues from it. discard: its image is
    deleted, and it boots. Absent means that an image is restored if it fits the task.
    """


class Stop(Task, task="stop vm", result="vm stopped"):
    """Stop a domain, or every active domain whose whole name matches."""

    rules: ClassVar[tuple[Rule, ...]] = (OneOf("vm_name", "regex"),)

    vm_name: Annotated[str | None, Wire("Name of the domain.", old=_NAME)] = None
    """Name of the domain."""
    regex: Annotated[
        str | None, Wire("Regular expression over the whole names of the active domains.")
    ] = None
    """Regular expression over the whole names of the active domains."""
    force: Annotated[bool | None, Wire("Destroy the domain instead of shutting it down.")] = None
    """Destroy the domain instead of shutting it down."""
    undefine: Annotated[bool | None, Wire("Forget the domain's definition afterwards.")] = None
    """Forget the domain's definition afterwards."""


class Suspend(Task, task="suspend vm", result="vm suspended"):
    """Pause a domain."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    """Name of the domain."""


class Resume(Task, task="resume vm", result="vm resumed"):
    """Let a paused domain run on."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    """Name of the domain."""


class Repin(
    Task,
    task="repin vm",
    result="vm repinned",
    layout="inline",
    result_layout=("list", "inline"),
):
    """Change the CPUs that a domain's vCPUs may use."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    """Name of the domain."""
    vcpu_map: Annotated[CpuMap, Wire("Entry i lists the host's CPUs that vCPU i may use.")]
    """Entry i lists the host's CPUs that vCPU i may use."""


class SwapWith(Message):
    """The domain that comes back while another one migrates."""

    vm_name: Annotated[str, Wire("Name of the domain that runs on the destination.", old=_NAME)]
    """Name of the domain that runs on the destination."""
    pscom_hook_procs: Annotated[
        str | None, Wire("Processes that suspend their connections: a count, or auto.")
    ] = None
    """Processes that suspend their connections: a count, or auto."""
    vcpu_map: Annotated[
        CpuMap | None, Wire("Entry i lists the CPUs for vCPU i on the host where it arrives.")
    ] = None
    """Entry i lists the CPUs for vCPU i on the host where it arrives."""


_LIVE_MIGRATION = {
    "live-migration": "'live-migration' is the old form, which nobody reads; write "
    "'migration-type: live' for true, 'migration-type: warm' for false"
}


class MigrationOptions(Message):
    """How a domain's memory gets to another host.

    The C++ peers know those down to `transport` and ignore the others.
    """

    __keywords__: ClassVar[Mapping[str, str]] = {"timeout": "migration_timeout"}
    """Names of fields in the client and the commands, where another thing has the field's own.

    There the `timeout` of every task is that of the wait for its result.
    """

    retry_counter: Annotated[
        U32 | None,
        Wire("How often a failed migration is tried again.", aliases=("retry-counter",)),
    ] = msgspec.field(default=None, name="retry_counter")
    """How often a failed migration is tried again."""
    migration_type: Annotated[
        MigrationType | None,
        Wire("live, warm or offline; absent means warm.", old=_LIVE_MIGRATION),
    ] = None
    """live, warm or offline; absent means warm."""
    rdma_migration: Annotated[bool | None, Wire("Whether memory moves by RDMA.")] = None
    """Whether memory moves by RDMA."""
    pscom_hook_procs: Annotated[
        str | None, Wire("Processes that suspend their connections: a count, or auto.")
    ] = None
    """Processes that suspend their connections: a count, or auto."""
    transport: Annotated[
        str | None, Wire("Transport between the hypervisors, such as ssh or tcp.")
    ] = None
    """Transport between the hypervisors, such as ssh or tcp."""
    bandwidth_limit: Annotated[
        U32 | None, Wire("Bandwidth that it may take; absent or 0 means any.", unit="MiB/s")
    ] = None
    """Bandwidth that it may take; absent or 0 means any. Unit: MiB/s."""
    max_downtime: Annotated[
        U32 | None, Wire("How long the domain may stand still at the end.", unit="ms")
    ] = None
    """How long the domain may stand still at the end. Unit: ms."""
    timeout: Annotated[
        U32 | None, Wire("After how long 'on-timeout' is done; absent means never.", unit="s")
    ] = None
    """After how long 'on-timeout' is done; absent means never. Unit: s."""
    on_timeout: Annotated[
        TimeoutAction | None,
        Wire(
            "What ends a migration that takes longer than 'timeout': abort it, pause the domain, "
            "or let it run on at the destination while its memory follows; absent means abort."
        ),
    ] = None
    """What ends a migration that takes longer than 'timeout': abort it, pause the domain, or let it
    run on at the destination while its memory follows; absent means abort.
    """
    auto_converge: Annotated[
        bool | None,
        Wire("Whether the domain is slowed down where it changes its memory too fast."),
    ] = None
    """Whether the domain is slowed down where it changes its memory too fast."""
    parallel_connections: Annotated[
        Positive | None, Wire("Number of connections that memory moves by; absent means one.")
    ] = None
    """Number of connections that memory moves by; absent means one."""
    compression: Annotated[
        str | None,
        Wire(
            "Method by which memory is compressed, one that the hypervisors know, such as xbzrle, "
            "mt, zlib or zstd; absent means none."
        ),
    ] = None
    """Method by which memory is compressed, one that the hypervisors know, such as xbzrle, mt, zlib
    or zstd; absent means none.
    """


class MigrateParameter(MigrationOptions):
    """How a domain migrates."""

    swap_with: Annotated[
        SwapWith | None,
        Wire("The domain that moves here at the same time.", old_scalar="vm-name"),
    ] = None
    """The domain that moves here at the same time."""
    vcpu_map: Annotated[
        CpuMap | None, Wire("Entry i lists the destination's CPUs that vCPU i may use.")
    ] = None
    """Entry i lists the destination's CPUs that vCPU i may use."""


class Migrate(
    Task, task="migrate vm", result="vm migrated", layout="inline", result_layout="inline"
):
    """Move a running domain to another host."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    """Name of the domain."""
    destination: Annotated[str, Wire("Name of the host to move to.")]
    """Name of the host to move to."""
    parameter: Annotated[
        MigrateParameter | None, Wire("How it migrates.", empty_is_absent=True)
    ] = None
    """How it migrates."""


class EvacuateParameter(MigrationOptions):
    """How the domains of a host are placed, and how each of them migrates."""

    __first__: ClassVar[tuple[str, ...]] = ("mode", "overbooking")

    mode: Annotated[EvacuateMode | None, Wire("Where domains go; absent means auto.")] = None
    """Where domains go; absent means auto."""
    overbooking: Annotated[
        bool | None, Wire("Whether hosts may get more domains than CPUs; absent means true.")
    ] = None
    """Whether hosts may get more domains than CPUs; absent means true."""


class Evacuate(Task, task="evacuate node", result="node evacuated", layout="inline"):
    """Move every active domain of the host away."""

    destinations: Annotated[Sequence[str], Wire("Names of the hosts that take them.")]
    """Names of the hosts that take them."""
    parameter: Annotated[
        EvacuateParameter | None,
        Wire("How they are placed and migrate.", empty_is_absent=True),
    ] = None
    """How they are placed and migrate."""
    vm_name: Annotated[
        str | None, Wire("Used by a peer internally, one message for each domain.", old=_NAME)
    ] = None
    """Used by a peer internally, one message for each domain."""


class Quit(Task, task="quit", result="quit", layout=("inline", "list")):
    """End the daemon."""


class Cancel(Task, task="cancel task", result="task cancelled"):
    """End the tasks of a container that is not answered yet."""

    id: Annotated[str, Wire("Id of the container.")]
    """Id of the container."""


class Query(
    Task,
    task="query node",
    result="node queried",
    layout="inline",
    result_type=NodeResult,
    has_command=False,  # `fastlib query` sends it
):
    """Tell the domains of the host, the tasks under way, and what the host has."""


class QueryHistory(
    Task,
    task="query history",
    result="history queried",
    layout="inline",
    result_type=HistoryResult,
    has_command=False,  # `fastlib log` sends it
):
    """Tell what became of orders, from the daemon's journal.

    An order is reported if it fits one of `order-id`, `key` and `vm-name`. Without any of them, the
    newest orders are reported.
    """

    order_id: Annotated[str | None, Wire("Id of the orders' containers.", empty_is_absent=True)] = (
        None
    )
    """Id of the orders' containers."""
    key: Annotated[str | None, Wire("Idempotency key of the order.", empty_is_absent=True)] = None
    """Idempotency key of the order."""
    vm_name: Annotated[
        str | None,
        Wire(
            "Name of a domain of the orders, also one that a regex or an evacuation has found.",
            empty_is_absent=True,
        ),
    ] = None
    """Name of a domain of the orders, also one that a regex or an evacuation has found."""
    limit: Annotated[
        Positive | None,
        Wire(
            "Number of the newest orders in the report, at most; absent means 20, and 1000 is the "
            "maximum. As many older ones that are under way come on top."
        ),
    ] = None
    """Number of the newest orders in the report, at most; absent means 20, and 1000 is the maximum.
    As many older ones that are under way come on top.
    """


QUERIES: Final = (Query, QueryHistory)
"""Tasks that change nothing. So they need no journal, and a daemon answers them however late."""
