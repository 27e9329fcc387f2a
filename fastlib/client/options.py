"""The keyword arguments of the client's methods, for type checkers: the fields of the messages.

`fastlib describe` shows the meaning of each field. A test compares these lists with the messages.
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

    id: str
    """The container's id; by default a unique one is made."""
    timeout: float | None
    """Seconds until a NoResultError; None is endless. The default is the client's timeout."""
    expires: datetime | timedelta | None
    """Until when a fastlib daemon may begin it: a time with a zone, or a time from now.

    None waits without a limit. The default is the timeout's end, or the container's own `expires`.
    """
    only_if_online: bool
    """Raise HostOfflineError, and send nothing, if the presence of the host's daemon is offline."""
    idempotency_key: str
    """A fastlib daemon executes a key only once. The default is the container's, or a random one.
    """
    on_progress: Callable[[Progress], None]
    """Called for each report of progress. Only fastlib daemons report progress."""


class TaskOptions(SubmitOptions, total=False):
    """Fields of every task."""

    concurrent_execution: bool
    time_measurement: bool
    driver: str
    extensions: Sequence[Extension]
    """Fields that other packages have added to the task."""


class StartOptions(TaskOptions, total=False):
    """See `fastlib.Start`; memory in KiB."""

    xml: str
    vcpus: int
    memory: int
    memnode_map: Sequence[Sequence[int]]
    ivshmem: DeviceIvshmem
    transient: bool
    pci_ids: Sequence[PciId]
    devs: Sequence[PciAddress]
    vcpu_map: Sequence[Sequence[int]]
    probe_with_ssh: bool
    probe_hostname: str
    saved_state: SavedState


class StopOptions(TaskOptions, total=False):
    """See `fastlib.Stop`."""

    force: bool
    undefine: bool


class HistoryOptions(TaskOptions, total=False):
    """See `fastlib.QueryHistory`."""

    order_id: str
    key: str
    vm_name: str
    limit: int


class MovingOptions(TaskOptions, total=False):
    """See `fastlib.MigrateParameter` and `fastlib.EvacuateParameter`."""

    retry_counter: int
    migration_type: MigrationType
    rdma_migration: bool
    pscom_hook_procs: str
    transport: str
    bandwidth_limit: int
    max_downtime: int
    on_timeout: TimeoutAction
    auto_converge: bool
    parallel_connections: int
    compression: str
    migration_timeout: int
    """The parameter's `timeout`: seconds until the daemon applies `on_timeout`."""


class MigrateOptions(MovingOptions, total=False):
    """See `fastlib.MigrateParameter`."""

    swap_with: str | SwapWith
    vcpu_map: Sequence[Sequence[int]]


class EvacuateOptions(MovingOptions, total=False):
    """See `fastlib.EvacuateParameter`."""

    mode: EvacuateMode
    overbooking: bool
