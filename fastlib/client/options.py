"""The keyword arguments of the client's methods, for type checkers: the fields of the messages.

None means "not given", except for `timeout` and `expires`. `help(fastlib.Migrate)` and `fastlib
describe` show the meaning of each field. A test compares these lists with the messages.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypedDict

from fastlib.message import (
    CopyStorage,
    DeviceIvshmem,
    EvacuateMode,
    Extension,
    MigrationType,
    NewDisk,
    PciAddress,
    PciId,
    SavedState,
    SourceDisks,
    SwapWith,
    TimeoutAction,
)
from fastlib.message.node import Progress


class SubmitOptions(TypedDict, total=False):
    """Options of sending a task."""

    id: str | None
    """The container's id; a unique one by default."""
    timeout: float | None
    """Seconds until a NoResultError; None waits without a limit. The default is the client's
    timeout."""
    expires: datetime | timedelta | None
    """The time until which a fastlib daemon may begin it: a time with a zone, or a timedelta from
    now.

    None waits without a limit. The default is the timeout's end, or the container's own `expires`.
    """
    only_if_online: bool | None
    """Raise HostOfflineError, and send nothing, if the presence of the host's daemon is offline."""
    idempotency_key: str | None
    """A fastlib daemon executes a key only once. The default is the container's, or a random one.
    """
    on_progress: Callable[[Progress], None] | None
    """Called for each report of progress. Only fastlib daemons report progress."""


class TaskOptions(SubmitOptions, total=False):
    """Fields of every task."""

    concurrent_execution: bool | None
    """Whether the member runs in its own thread; absent means true."""
    time_measurement: bool | None
    """Whether the result has the duration of each part; absent means false."""
    driver: str | None
    """Driver of the hypervisor, such as qemu or lxctools."""
    extensions: Sequence[Extension] | None
    """Fields that other packages have added to the task."""


class StartOptions(TaskOptions, total=False):
    """See `fastlib.Start`; memory in KiB."""

    xml: str | None
    """XML of a libvirt domain. Its <name> is the name of the domain."""
    vcpus: int | None
    """Number of virtual CPUs."""
    memory: int | None
    """Memory of the domain. Unit: KiB."""
    memnode_map: Sequence[Sequence[int]] | None
    """Entry i lists the host's NUMA nodes for the domain's node i."""
    ivshmem: DeviceIvshmem | None
    """Memory that the host shares with the domain."""
    transient: bool | None
    """Whether libvirt removes the domain when it stops; needs xml."""
    pci_ids: Sequence[PciId] | None
    """Kinds of devices to attach; the daemon takes any free device of each kind."""
    devs: Sequence[PciAddress] | None
    """Addresses of the devices to attach."""
    vcpu_map: Sequence[Sequence[int]] | None
    """Entry i lists the host's CPUs that vCPU i may use."""
    probe_with_ssh: bool | None
    """Whether the result waits until the domain answers on SSH; absent means true."""
    probe_hostname: str | None
    """Host name to probe; absent means the domain's name."""
    saved_state: SavedState | None
    """restore: the domain continues from its saved image, and must have one. discard: the daemon
    deletes the image, and the domain boots. Absent means that the daemon restores an image if it
    fits the task.
    """
    disks: Sequence[NewDisk] | None
    """Disks to create for the domain. Its definition names them, so it keeps them."""


class StopOptions(TaskOptions, total=False):
    """See `fastlib.Stop`."""

    force: bool | None
    """Destroy the domain instead of shutting it down."""
    undefine: bool | None
    """Delete the definition of the domain afterwards."""
    remove_storage: bool | None
    """Remove also the images that starts have created by 'disks'; needs undefine."""


class HistoryOptions(TaskOptions, total=False):
    """See `fastlib.QueryHistory`."""

    order_id: str | None
    """Id of the orders' containers."""
    key: str | None
    """Idempotency key of the order."""
    vm_name: str | None
    """Name of a domain of the orders, also one that a regex or an evacuation has found."""
    limit: int | None
    """Largest number of the newest orders in the report; absent means 20, and 1000 is the maximum.
    The report also has up to this number of older orders that wait or run.
    """


class MovingOptions(TaskOptions, total=False):
    """See `fastlib.MigrateParameter` and `fastlib.EvacuateParameter`."""

    retry_counter: int | None
    """Number of further tries after a failed migration."""
    migration_type: MigrationType | None
    """live, warm or offline; absent means warm."""
    rdma_migration: bool | None
    """Whether the memory is sent by RDMA."""
    pscom_hook_procs: str | None
    """Processes that suspend their connections: a count, or auto."""
    transport: str | None
    """Transport between the hypervisors, such as ssh or tcp."""
    bandwidth_limit: int | None
    """Bandwidth that the migration may use; absent or 0 means no limit. Unit: MiB/s."""
    max_downtime: int | None
    """Maximum downtime of the domain at the end. Unit: ms."""
    on_timeout: TimeoutAction | None
    """End of a migration that takes longer than 'timeout'. abort: the domain stays. pause: it is
    paused until its memory has arrived. post-copy: it runs at the destination, and its memory
    follows. Absent means abort.
    """
    auto_converge: bool | None
    """Whether the hypervisor slows the domain down if it changes its memory too fast."""
    parallel_connections: int | None
    """Number of connections for the memory; absent means one."""
    compression: str | None
    """Method of compression of the memory that both hypervisors support, such as xbzrle, mt, zlib
    or zstd; absent means none.
    """
    encrypted: bool | None
    """Whether everything that the hypervisors send each other is encrypted by TLS; absent means
    what the daemon's configuration says.
    """
    copy_storage: CopyStorage | None
    """Copy of the disks that the two hosts do not share. all: whole disks. incremental: the data on
    top of the backing files, which the destination must have. Absent means that nothing is copied.
    """
    copy_disks: Sequence[str] | None
    """Targets of the disks to copy, such as vda; needs copy-storage. Absent means all that the
    hosts do not share.
    """
    source_disks: SourceDisks | None
    """keep or remove the images on the source after their copies have arrived; needs copy-storage.
    Absent means keep.
    """
    migration_timeout: int | None
    """The parameter's `timeout`: seconds until the daemon applies `on_timeout`."""


class MigrateOptions(MovingOptions, total=False):
    """See `fastlib.MigrateParameter`."""

    swap_with: str | SwapWith | None
    """The domain that moves to the source host at the same time."""
    vcpu_map: Sequence[Sequence[int]] | None
    """Entry i lists the destination's CPUs that vCPU i may use."""
    memnode_map: Sequence[Sequence[int]] | None
    """Entry i lists the destination's NUMA nodes for the domain's node i."""


class EvacuateOptions(MovingOptions, total=False):
    """See `fastlib.EvacuateParameter`."""

    mode: EvacuateMode | None
    """Choice of the destinations: auto, to the emptiest host; compact, host after host; scatter,
    round the hosts. Absent means auto.
    """
    overbooking: bool | None
    """Whether hosts may get more domains than they have CPUs; absent means true."""
