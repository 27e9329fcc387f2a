"""The keyword arguments of the client's methods, for type checkers: the fields of the messages.

None is the same as not given, but for `timeout` and `expires`. `help(fastlib.Migrate)` and `fastlib
describe` show the meaning of each field. A test compares these lists with the messages.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TypedDict

from fastlib.message import (
    DeviceIvshmem,
    EvacuateMode,
    Extension,
    MigrationType,
    PciAddress,
    PciId,
    SwapWith,
)
from fastlib.message.node import Progress
from fastlib.message.tasks import SavedState, TimeoutAction


class SubmitOptions(TypedDict, total=False):
    """Options of sending a task."""

    id: str | None
    """The container's id; by default a unique one is made."""
    timeout: float | None
    """Seconds until a NoResultError; None is endless. The default is the client's timeout."""
    expires: datetime | timedelta | None
    """Until when a fastlib daemon may begin it: a time with a zone, or a time from now.

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
    """Whether the result tells how long each part took; absent means false."""
    driver: str | None
    """Driver of the hypervisor, such as qemu or lxctools."""
    extensions: Sequence[Extension] | None
    """Fields that other packages have added to the task."""


class StartOptions(TaskOptions, total=False):
    """See `fastlib.Start`; memory in KiB."""

    xml: str | None
    """A libvirt domain; the name is taken from its <name>."""
    vcpus: int | None
    """Number of virtual CPUs."""
    memory: int | None
    """Memory of the domain. Unit: KiB."""
    memnode_map: Sequence[Sequence[int]] | None
    """Entry i lists the host's NUMA nodes for the domain's node i."""
    ivshmem: DeviceIvshmem | None
    """Memory that the host shares with the domain."""
    transient: bool | None
    """Whether the domain is gone once it stops; needs xml."""
    pci_ids: Sequence[PciId] | None
    """Devices to attach, any free one of each kind."""
    devs: Sequence[PciAddress] | None
    """Devices to attach, by address."""
    vcpu_map: Sequence[Sequence[int]] | None
    """Entry i lists the host's CPUs that vCPU i may use."""
    probe_with_ssh: bool | None
    """Whether the result waits until the domain answers on SSH; absent means true."""
    probe_hostname: str | None
    """Host name to probe; absent means the domain's name."""
    saved_state: SavedState | None
    """restore: the domain must have a saved image, and continues from it. discard: its image is
    deleted, and it boots. Absent means that an image is restored if it fits the task.
    """


class StopOptions(TaskOptions, total=False):
    """See `fastlib.Stop`."""

    force: bool | None
    """Destroy the domain instead of shutting it down."""
    undefine: bool | None
    """Forget the domain's definition afterwards."""


class HistoryOptions(TaskOptions, total=False):
    """See `fastlib.QueryHistory`."""

    order_id: str | None
    """Id of the orders' containers."""
    key: str | None
    """Idempotency key of the order."""
    vm_name: str | None
    """Name of a domain of the orders, also one that a regex or an evacuation has found."""
    limit: int | None
    """Number of the newest orders in the report, at most; absent means 20, and 1000 is the maximum.
    As many older ones that are under way come on top.
    """


class MovingOptions(TaskOptions, total=False):
    """See `fastlib.MigrateParameter` and `fastlib.EvacuateParameter`."""

    retry_counter: int | None
    """How often a failed migration is tried again."""
    migration_type: MigrationType | None
    """live, warm or offline; absent means warm."""
    rdma_migration: bool | None
    """Whether memory moves by RDMA."""
    pscom_hook_procs: str | None
    """Processes that suspend their connections: a count, or auto."""
    transport: str | None
    """Transport between the hypervisors, such as ssh or tcp."""
    bandwidth_limit: int | None
    """Bandwidth that it may take; absent or 0 means any. Unit: MiB/s."""
    max_downtime: int | None
    """How long the domain may stand still at the end. Unit: ms."""
    on_timeout: TimeoutAction | None
    """What ends a migration that takes longer than 'timeout': abort it, pause the domain, or let it
    run on at the destination while its memory follows; absent means abort.
    """
    auto_converge: bool | None
    """Whether the domain is slowed down where it changes its memory too fast."""
    parallel_connections: int | None
    """Number of connections that memory moves by; absent means one."""
    compression: str | None
    """Method by which memory is compressed, one that the hypervisors know, such as xbzrle, mt, zlib
    or zstd; absent means none.
    """
    migration_timeout: int | None
    """The parameter's `timeout`: seconds until the daemon applies `on_timeout`."""


class MigrateOptions(MovingOptions, total=False):
    """See `fastlib.MigrateParameter`."""

    swap_with: str | SwapWith | None
    """The domain that moves here at the same time."""
    vcpu_map: Sequence[Sequence[int]] | None
    """Entry i lists the destination's CPUs that vCPU i may use."""


class EvacuateOptions(MovingOptions, total=False):
    """See `fastlib.EvacuateParameter`."""

    mode: EvacuateMode | None
    """Where domains go; absent means auto."""
    overbooking: bool | None
    """Whether hosts may get more domains than CPUs; absent means true."""
