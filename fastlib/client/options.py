"""What the client's methods take by keyword: the fields of the messages, for type checkers.

The messages say what each means (`fastlib describe`); a test holds these lists to them.
"""

from collections.abc import Callable, Sequence
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
from fastlib.message.tasks import TimeoutAction


class SubmitOptions(TypedDict, total=False):
    """How a task is sent."""

    id: str
    """The container's id; without it one is made that no other has."""
    timeout: float | None
    """Seconds until the client gives up waiting; None never does. Else the client's own."""
    on_progress: Callable[[Progress], None]
    """Called for each report of progress, if the daemon sends such."""


class TaskOptions(SubmitOptions, total=False):
    """What every task has."""

    concurrent_execution: bool
    time_measurement: bool
    driver: str
    extensions: Sequence[Extension]
    """What other packages have added to the task."""


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


class StopOptions(TaskOptions, total=False):
    """See `fastlib.Stop`."""

    force: bool
    undefine: bool


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
    """The parameter's `timeout`: seconds until the daemon does what `on_timeout` says."""


class MigrateOptions(MovingOptions, total=False):
    """See `fastlib.MigrateParameter`."""

    swap_with: str | SwapWith
    vcpu_map: Sequence[Sequence[int]]


class EvacuateOptions(MovingOptions, total=False):
    """See `fastlib.EvacuateParameter`."""

    mode: EvacuateMode
    overbooking: bool
