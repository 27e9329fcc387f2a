"""The tasks of the protocol.

See docs/reference/protocol.md, "Tasks".
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal

import msgspec

from fastlib.codec.annotations import Wire
from fastlib.codec.rules import Needs, OneOf, Requires, Rule

from .base import Message
from .devices import DeviceIvshmem, DiskName, NewDisk, PciAddress, PciId
from .history import HistoryResult
from .node import NodeResult
from .numbers import U32, U64, CpuMap, NodeMap
from .result import MigrationResult
from .task import Task

MigrationType = Literal["live", "warm", "offline"]
"""State of the domain during a migration: running, paused, or not running."""
EvacuateMode = Literal["auto", "compact", "scatter"]
"""Choice of destinations: the emptiest host, host after host, or each host in turn."""
TimeoutAction = Literal["abort", "pause", "post-copy"]
"""End of a migration that takes too long: the domain stays; or it is paused until its memory has
arrived; or it runs at the destination before that."""
CopyStorage = Literal["all", "incremental"]
"""Copy whole disks, or only the data that they have on top of their backing files."""
SourceDisks = Literal["keep", "remove"]
"""Keep the images on the source after their copy has arrived, or remove them."""
SavedState = Literal["restore", "discard"]
"""Restore the domain from its saved image, or delete the image and boot the domain."""
Positive = Annotated[int, msgspec.Meta(ge=1, le=0xFFFF_FFFF)]

_NAME = {"name": "'name' is the old spelling, which no peer reads; write 'vm-name'"}
_BASE_NAME = {
    "base-name": "'base-name' is of a development branch of the C++ daemon; write "
    "'disks: [{target: vda, base: PATH}]' with the path of the image, and name each domain in a "
    "member of its own"
}
_DHCP_INFO = {
    "dhcp-info": "'dhcp-info' is of a development branch of the C++ daemon; write the address "
    "as <mac address='…'/> into the <interface> of 'xml', and give the host name to the DHCP server"
}


class Start(Task, task="start vm", result="vm started", key="vm-configurations"):
    """Start a defined domain, or a domain from its XML."""

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
    xml: Annotated[
        str | None,
        Wire(
            "XML of a libvirt domain. Its <name> is the name of the domain.",
            old=_DHCP_INFO,
            refuses_old=True,
        ),
    ] = None
    """XML of a libvirt domain. Its <name> is the name of the domain."""
    ivshmem: Annotated[
        DeviceIvshmem | None, Wire("Memory that the host shares with the domain.")
    ] = None
    """Memory that the host shares with the domain."""
    transient: Annotated[
        bool | None, Wire("Whether libvirt removes the domain when it stops; needs xml.")
    ] = None
    """Whether libvirt removes the domain when it stops; needs xml."""
    pci_ids: Annotated[
        Sequence[PciId] | None,
        Wire(
            "Kinds of devices to attach; the daemon takes any free device of each kind.",
            empty_is_absent=True,
        ),
    ] = None
    """Kinds of devices to attach; the daemon takes any free device of each kind."""
    devs: Annotated[
        Sequence[PciAddress] | None,
        Wire("Addresses of the devices to attach.", aliases=("dev",), empty_is_absent=True),
    ] = None
    """Addresses of the devices to attach."""
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
            "restore: the domain continues from its saved image, and must have one. "
            "discard: the daemon deletes the image, and the domain boots. Absent means that "
            "the daemon restores an image if it fits the task."
        ),
    ] = None
    """restore: the domain continues from its saved image, and must have one. discard: the daemon
    deletes the image, and the domain boots. Absent means that the daemon restores an image if it
    fits the task.
    """
    disks: Annotated[
        Sequence[NewDisk] | None,
        Wire(
            "Disks to create for the domain. Its definition names them, so it keeps them.",
            old=_BASE_NAME,
            refuses_old=True,
            empty_is_absent=True,
        ),
    ] = None
    """Disks to create for the domain. Its definition names them, so it keeps them."""


class Stop(Task, task="stop vm", result="vm stopped"):
    """Stop a domain, or every active domain whose whole name matches."""

    rules: ClassVar[tuple[Rule, ...]] = (
        OneOf("vm_name", "regex"),
        Needs("remove_storage", "undefine"),
    )

    vm_name: Annotated[str | None, Wire("Name of the domain.", old=_NAME)] = None
    """Name of the domain."""
    regex: Annotated[
        str | None, Wire("Regular expression over the whole names of the active domains.")
    ] = None
    """Regular expression over the whole names of the active domains."""
    force: Annotated[bool | None, Wire("Destroy the domain instead of shutting it down.")] = None
    """Destroy the domain instead of shutting it down."""
    undefine: Annotated[bool | None, Wire("Delete the definition of the domain afterwards.")] = None
    """Delete the definition of the domain afterwards."""
    remove_storage: Annotated[
        bool | None,
        Wire("Remove also the images that starts have created by 'disks'; needs undefine."),
    ] = None
    """Remove also the images that starts have created by 'disks'; needs undefine."""


class Suspend(Task, task="suspend vm", result="vm suspended"):
    """Pause a domain."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    """Name of the domain."""


class Resume(Task, task="resume vm", result="vm resumed"):
    """Resume a paused domain."""

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
    """The domain that migrates in the other direction at the same time."""

    vm_name: Annotated[str, Wire("Name of the domain that runs on the destination.", old=_NAME)]
    """Name of the domain that runs on the destination."""
    pscom_hook_procs: Annotated[
        str | None, Wire("Processes that suspend their connections: a count, or auto.")
    ] = None
    """Processes that suspend their connections: a count, or auto."""
    vcpu_map: Annotated[
        CpuMap | None,
        Wire("Entry i lists the CPUs that vCPU i may use on the host where it arrives."),
    ] = None
    """Entry i lists the CPUs that vCPU i may use on the host where it arrives."""
    memnode_map: Annotated[
        NodeMap | None,
        Wire("Entry i lists the NUMA nodes for the domain's node i on the host where it arrives."),
    ] = None
    """Entry i lists the NUMA nodes for the domain's node i on the host where it arrives."""


_LIVE_MIGRATION = {
    "live-migration": "'live-migration' is the old form, which no peer reads; write "
    "'migration-type: live' for true, 'migration-type: warm' for false"
}


class MigrationOptions(Message):
    """Options of a migration.

    C++ peers read the options down to `transport`, and ignore the others.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        Requires("copy_disks", "copy_storage"),
        Requires("source_disks", "copy_storage"),
    )
    __keywords__: ClassVar[Mapping[str, str]] = {"timeout": "migration_timeout"}
    """Names of fields in the client and the commands, if their own names mean other things there.

    The `timeout` of every task is that of the wait for its result.
    """

    retry_counter: Annotated[
        U32 | None,
        Wire("Number of further tries after a failed migration.", aliases=("retry-counter",)),
    ] = msgspec.field(default=None, name="retry_counter")
    """Number of further tries after a failed migration."""
    migration_type: Annotated[
        MigrationType | None,
        Wire("live, warm or offline; absent means warm.", old=_LIVE_MIGRATION),
    ] = None
    """live, warm or offline; absent means warm."""
    rdma_migration: Annotated[bool | None, Wire("Whether the memory is sent by RDMA.")] = None
    """Whether the memory is sent by RDMA."""
    pscom_hook_procs: Annotated[
        str | None, Wire("Processes that suspend their connections: a count, or auto.")
    ] = None
    """Processes that suspend their connections: a count, or auto."""
    transport: Annotated[
        str | None, Wire("Transport between the hypervisors, such as ssh or tcp.")
    ] = None
    """Transport between the hypervisors, such as ssh or tcp."""
    bandwidth_limit: Annotated[
        U32 | None,
        Wire("Bandwidth that the migration may use; absent or 0 means no limit.", unit="MiB/s"),
    ] = None
    """Bandwidth that the migration may use; absent or 0 means no limit. Unit: MiB/s."""
    max_downtime: Annotated[
        U32 | None, Wire("Maximum downtime of the domain at the end.", unit="ms")
    ] = None
    """Maximum downtime of the domain at the end. Unit: ms."""
    timeout: Annotated[
        U32 | None,
        Wire("Time after which the daemon executes 'on-timeout'; absent means never.", unit="s"),
    ] = None
    """Time after which the daemon executes 'on-timeout'; absent means never. Unit: s."""
    on_timeout: Annotated[
        TimeoutAction | None,
        Wire(
            "End of a migration that takes longer than 'timeout'. abort: the domain stays. "
            "pause: it is paused until its memory has arrived. post-copy: it runs at the "
            "destination, and its memory follows. Absent means abort."
        ),
    ] = None
    """End of a migration that takes longer than 'timeout'. abort: the domain stays. pause: it is
    paused until its memory has arrived. post-copy: it runs at the destination, and its memory
    follows. Absent means abort.
    """
    auto_converge: Annotated[
        bool | None,
        Wire("Whether the hypervisor slows the domain down if it changes its memory too fast."),
    ] = None
    """Whether the hypervisor slows the domain down if it changes its memory too fast."""
    parallel_connections: Annotated[
        Positive | None, Wire("Number of connections for the memory; absent means one.")
    ] = None
    """Number of connections for the memory; absent means one."""
    compression: Annotated[
        str | None,
        Wire(
            "Method of compression of the memory that both hypervisors support, such as "
            "xbzrle, mt, zlib or zstd; absent means none."
        ),
    ] = None
    """Method of compression of the memory that both hypervisors support, such as xbzrle, mt, zlib
    or zstd; absent means none.
    """
    encrypted: Annotated[
        bool | None,
        Wire(
            "Whether everything that the hypervisors send each other is encrypted by TLS; absent "
            "means what the daemon's configuration says."
        ),
    ] = None
    """Whether everything that the hypervisors send each other is encrypted by TLS; absent means
    what the daemon's configuration says.
    """
    copy_storage: Annotated[
        CopyStorage | None,
        Wire(
            "Copy of the disks that the two hosts do not share. all: whole disks. incremental: "
            "the data on top of the backing files, which the destination must have. Absent means "
            "that nothing is copied."
        ),
    ] = None
    """Copy of the disks that the two hosts do not share. all: whole disks. incremental: the data on
    top of the backing files, which the destination must have. Absent means that nothing is copied.
    """
    copy_disks: Annotated[
        Sequence[DiskName] | None,
        Wire(
            "Targets of the disks to copy, such as vda; needs copy-storage. Absent means all that "
            "the hosts do not share.",
            empty_is_absent=True,
        ),
    ] = None
    """Targets of the disks to copy, such as vda; needs copy-storage. Absent means all that the
    hosts do not share.
    """
    source_disks: Annotated[
        SourceDisks | None,
        Wire(
            "keep or remove the images on the source after their copies have arrived; needs "
            "copy-storage. Absent means keep."
        ),
    ] = None
    """keep or remove the images on the source after their copies have arrived; needs copy-storage.
    Absent means keep.
    """


class MigrateParameter(MigrationOptions):
    """Options of the migration of one domain."""

    swap_with: Annotated[
        SwapWith | None,
        Wire("The domain that moves to the source host at the same time.", old_scalar="vm-name"),
    ] = None
    """The domain that moves to the source host at the same time."""
    vcpu_map: Annotated[
        CpuMap | None, Wire("Entry i lists the destination's CPUs that vCPU i may use.")
    ] = None
    """Entry i lists the destination's CPUs that vCPU i may use."""
    memnode_map: Annotated[
        NodeMap | None,
        Wire("Entry i lists the destination's NUMA nodes for the domain's node i."),
    ] = None
    """Entry i lists the destination's NUMA nodes for the domain's node i."""


class Migrate(
    Task,
    task="migrate vm",
    result="vm migrated",
    layout="inline",
    result_layout="inline",
    result_type=MigrationResult,
):
    """Migrate a domain to another host."""

    vm_name: Annotated[str, Wire("Name of the domain.", old=_NAME)]
    """Name of the domain."""
    destination: Annotated[str, Wire("Name of the host to move to.")]
    """Name of the host to move to."""
    parameter: Annotated[
        MigrateParameter | None, Wire("Options of the migration.", empty_is_absent=True)
    ] = None
    """Options of the migration."""


class EvacuateParameter(MigrationOptions):
    """Options of an evacuation: the placement of the domains, and their migrations."""

    __first__: ClassVar[tuple[str, ...]] = ("mode", "overbooking")

    mode: Annotated[
        EvacuateMode | None,
        Wire(
            "Choice of the destinations: auto, to the emptiest host; compact, host after "
            "host; scatter, round the hosts. Absent means auto."
        ),
    ] = None
    """Choice of the destinations: auto, to the emptiest host; compact, host after host; scatter,
    round the hosts. Absent means auto.
    """
    overbooking: Annotated[
        bool | None,
        Wire("Whether hosts may get more domains than they have CPUs; absent means true."),
    ] = None
    """Whether hosts may get more domains than they have CPUs; absent means true."""


class Evacuate(
    Task,
    task="evacuate node",
    result="node evacuated",
    layout="inline",
    result_type=MigrationResult,
):
    """Migrate every active domain of the host to other hosts."""

    names_its_domain: ClassVar[bool] = False

    destinations: Annotated[Sequence[str], Wire("Names of the hosts that the domains may move to.")]
    """Names of the hosts that the domains may move to."""
    parameter: Annotated[
        EvacuateParameter | None,
        Wire("Options of placement and migrations.", empty_is_absent=True),
    ] = None
    """Options of placement and migrations."""
    vm_name: Annotated[
        str | None, Wire("Used by a peer internally, one message for each domain.", old=_NAME)
    ] = None
    """Used by a peer internally, one message for each domain."""


class Quit(Task, task="quit", result="quit", layout=("inline", "list")):
    """End the daemon."""


class Cancel(Task, task="cancel task", result="task cancelled"):
    """End the tasks of a container that was not answered yet."""

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
    """Report the domains and the resources of the host, and the tasks that wait or run."""


class QueryHistory(
    Task,
    task="query history",
    result="history queried",
    layout="inline",
    result_type=HistoryResult,
    has_command=False,  # `fastlib log` sends it
):
    """Report the history of orders, from the daemon's journal.

    The report has each order that fits one of `order-id`, `key` and `vm-name`. Without any of them,
    it has the newest orders.
    """

    names_its_domain: ClassVar[bool] = False

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
            "Largest number of the newest orders in the report; absent means 20, and 1000 "
            "is the maximum. The report also has up to this number of older orders that "
            "wait or run."
        ),
    ] = None
    """Largest number of the newest orders in the report; absent means 20, and 1000 is the maximum.
    The report also has up to this number of older orders that wait or run.
    """


QUERIES: Final = (Query, QueryHistory)
"""Tasks that change nothing. So they need no journal, and a daemon also answers late ones."""
