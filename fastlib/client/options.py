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
    time_measurement: bool | None
    driver: str | None
    extensions: Sequence[Extension] | None
    """Fields that other packages have added to the task."""


class StartOptions(TaskOptions, total=False):
    """See `fastlib.Start`; memory in KiB."""

    xml: str | None
    vcpus: int | None
    memory: int | None
    memnode_map: Sequence[Sequence[int]] | None
    ivshmem: DeviceIvshmem | None
    transient: bool | None
    pci_ids: Sequence[PciId] | None
    devs: Sequence[PciAddress] | None
    vcpu_map: Sequence[Sequence[int]] | None
    probe_with_ssh: bool | None
    probe_hostname: str | None
    saved_state: SavedState | None


class StopOptions(TaskOptions, total=False):
    """See `fastlib.Stop`."""

    force: bool | None
    undefine: bool | None


class HistoryOptions(TaskOptions, total=False):
    """See `fastlib.QueryHistory`."""

    order_id: str | None
    key: str | None
    vm_name: str | None
    limit: int | None


class MovingOptions(TaskOptions, total=False):
    """See `fastlib.MigrateParameter` and `fastlib.EvacuateParameter`."""

    retry_counter: int | None
    migration_type: MigrationType | None
    rdma_migration: bool | None
    pscom_hook_procs: str | None
    transport: str | None
    bandwidth_limit: int | None
    max_downtime: int | None
    on_timeout: TimeoutAction | None
    auto_converge: bool | None
    parallel_connections: int | None
    compression: str | None
    migration_timeout: int | None
    """The parameter's `timeout`: seconds until the daemon applies `on_timeout`."""


class MigrateOptions(MovingOptions, total=False):
    """See `fastlib.MigrateParameter`."""

    swap_with: str | SwapWith | None
    vcpu_map: Sequence[Sequence[int]] | None


class EvacuateOptions(MovingOptions, total=False):
    """See `fastlib.EvacuateParameter`."""

    mode: EvacuateMode | None
    overbooking: bool | None
