"""Reports of a migration daemon about its node and its work."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from fastlib.codec.annotations import Wire

from . import topics
from .base import Message
from .hardware import HugePagesReport, NumaNodeReport, StoragePoolReport
from .numbers import U32, U64
from .result import Result
from .topics import Topic


class DomainReport(Message):
    """One domain of a node."""

    name: Annotated[str, Wire("Name of the domain.")]
    """Name of the domain."""
    state: Annotated[
        str, Wire("State: running, paused, shut off, or another word of the hypervisor.")
    ]
    """State: running, paused, shut off, or another word of the hypervisor."""
    vcpus: Annotated[U32 | None, Wire("Number of virtual CPUs.")] = None
    """Number of virtual CPUs."""
    memory: Annotated[U64 | None, Wire("Memory of the domain.", unit="KiB")] = None
    """Memory of the domain. Unit: KiB."""
    managed_save: Annotated[
        bool | None,
        Wire("Whether the domain has a saved image, from which its next start continues."),
    ] = None
    """Whether the domain has a saved image, from which its next start continues."""


class TaskReport(Message):
    """One member of a task container that the daemon has not answered yet."""

    id: Annotated[str | None, Wire("Id of the container.")] = None
    """Id of the container."""
    task: Annotated[str, Wire("Title of the task.")]
    """Title of the task."""
    vm_name: Annotated[str | None, Wire("Name of the domain.")] = None
    """Name of the domain."""
    state: Annotated[str, Wire("State: queued, running, retrying or cancelling.")]
    """State: queued, running, retrying or cancelling."""
    since: Annotated[
        float | None,
        Wire(
            "Time at which it was accepted, since the beginning of 1970 (UTC).",
            unit="s",
            decimals=6,
        ),
    ] = None
    """Time at which it was accepted, since the beginning of 1970 (UTC). Unit: s."""


class UnsettledReport(Message):
    """A migration that ended while a host was silent. It is decided again once both answer."""

    vm_name: Annotated[str, Wire("Name of the domain.")]
    """Name of the domain."""
    source: Annotated[str, Wire("Host that the domain was to leave.")]
    """Host that the domain was to leave."""
    destination: Annotated[str, Wire("Host that the domain was to migrate to.")]
    """Host that the domain was to migrate to."""
    since: Annotated[
        float | None,
        Wire("Time at which it ended, since the beginning of 1970 (UTC).", unit="s", decimals=6),
    ] = None
    """Time at which it ended, since the beginning of 1970 (UTC). Unit: s."""


class NodeReport(Message):
    """The resources, domains and tasks of a node. Absent values are unknown."""

    host: Annotated[str, Wire("Name of the host.")]
    """Name of the host."""
    hypervisor: Annotated[str, Wire("The hypervisor, as in the daemon's configuration.")]
    """The hypervisor, as in the daemon's configuration."""
    cpus: Annotated[U32 | None, Wire("Number of CPUs of the host.")] = None
    """Number of CPUs of the host."""
    memory: Annotated[U64 | None, Wire("Memory of the host.", unit="KiB")] = None
    """Memory of the host. Unit: KiB."""
    free_memory: Annotated[
        U64 | None, Wire("Memory that is free for further domains.", unit="KiB")
    ] = None
    """Memory that is free for further domains. Unit: KiB."""
    cpu_model: Annotated[str | None, Wire("Model of the host's CPUs.")] = None
    """Model of the host's CPUs."""
    cpu_vendor: Annotated[str | None, Wire("Vendor of the host's CPUs.")] = None
    """Vendor of the host's CPUs."""
    numa_nodes: Annotated[
        Sequence[NumaNodeReport] | None, Wire("The NUMA nodes of the host, by their numbers.")
    ] = None
    """The NUMA nodes of the host, by their numbers."""
    huge_pages: Annotated[
        Sequence[HugePagesReport] | None,
        Wire("Huge pages of the whole host, the smallest size first."),
    ] = None
    """Huge pages of the whole host, the smallest size first."""
    storage_pools: Annotated[
        Sequence[StoragePoolReport] | None, Wire("The storage pools of the host, by their names.")
    ] = None
    """The storage pools of the host, by their names."""
    domains: Annotated[Sequence[DomainReport], Wire("The domains that the node knows.")] = ()
    """The domains that the node knows."""
    tasks: Annotated[
        Sequence[TaskReport], Wire("The tasks that wait or run, the oldest first.")
    ] = ()
    """The tasks that wait or run, the oldest first."""
    unsettled: Annotated[
        Sequence[UnsettledReport] | None,
        Wire("Migrations whose silent host may have remains or a copy of the domain."),
    ] = None
    """Migrations whose silent host may have remains or a copy of the domain."""
    capabilities: Annotated[
        Mapping[str, Any] | None,
        Wire(
            "Abilities of the hypervisor: texts, lists and mappings, as the hypervisor "
            "reports them."
        ),
    ] = None
    """Abilities of the hypervisor: texts, lists and mappings, as the hypervisor reports them."""
    versions: Annotated[
        Mapping[str, str] | None, Wire("Versions of the programs, by their names.")
    ] = None
    """Versions of the programs, by their names."""
    degraded: Annotated[
        str | None,
        Wire(
            "Reason why the daemon accepts no tasks at present, and the remedy.",
            empty_is_absent=True,
        ),
    ] = None
    """Reason why the daemon accepts no tasks at present, and the remedy."""


class NodeResult(Result):
    """Result of a query: the report or the error."""

    vm_name: Annotated[str, Wire("Not used: a query is not about a domain.")] = "n/a"
    """Not used: a query is not about a domain."""
    node: Annotated[NodeReport | None, Wire("The report.")] = None
    """The report."""


class Progress(Message):
    """Progress of a task, on `fast/migfra/<host>/progress` while it waits or runs."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.PROGRESS,)

    id: Annotated[str | None, Wire("Id of the container.")] = None
    """Id of the container."""
    vm_name: Annotated[str | None, Wire("Name of the domain.")] = None
    """Name of the domain."""
    # The key is not `task`, because that key gives the type of a message.
    task: Annotated[str | None, Wire("Title of the task.")] = msgspec.field(
        default=None, name="title"
    )
    """Title of the task."""
    phase: Annotated[
        str,
        Wire("Present phase of the task, such as memory. Each hypervisor has phases of its own."),
    ]
    """Present phase of the task, such as memory. Each hypervisor has phases of its own."""
    percent: Annotated[
        float | None, Wire("Part of the task that is done, 0 to 100.", unit="%", decimals=3)
    ] = None
    """Part of the task that is done, 0 to 100. Unit: %."""
    transferred: Annotated[U64 | None, Wire("Data that has been sent.", unit="bytes")] = None
    """Data that has been sent. Unit: bytes."""
    total: Annotated[U64 | None, Wire("Data that must be sent in total.", unit="bytes")] = None
    """Data that must be sent in total. Unit: bytes."""
    remaining: Annotated[U64 | None, Wire("Data that must still be sent.", unit="bytes")] = None
    """Data that must still be sent. Unit: bytes."""
    disk_transferred: Annotated[
        U64 | None, Wire("Part of 'transferred' that is of disks.", unit="bytes")
    ] = None
    """Part of 'transferred' that is of disks. Unit: bytes."""
    disk_total: Annotated[U64 | None, Wire("Part of 'total' that is of disks.", unit="bytes")] = (
        None
    )
    """Part of 'total' that is of disks. Unit: bytes."""
    disk_remaining: Annotated[
        U64 | None, Wire("Part of 'remaining' that is of disks.", unit="bytes")
    ] = None
    """Part of 'remaining' that is of disks. Unit: bytes."""
    dirty_rate: Annotated[
        float | None,
        Wire("Rate at which the domain changes its memory.", unit="bytes/s", decimals=3),
    ] = None
    """Rate at which the domain changes its memory. Unit: bytes/s."""
    expected: Annotated[
        float | None, Wire("Expected time until the end of the task.", unit="s", decimals=6)
    ] = None
    """Expected time until the end of the task. Unit: s."""
    position: Annotated[
        U32 | None, Wire("Place of the task in the queue while it waits; 1 is the next one.")
    ] = None
    """Place of the task in the queue while it waits; 1 is the next one."""
    idempotency_key: Annotated[
        str | None, Wire("Idempotency key of its container.", empty_is_absent=True)
    ] = None
    """Idempotency key of its container."""
    request_digest: Annotated[
        str | None,
        Wire(
            "Digest of the container's message: the first 32 hexadecimal digits of the "
            "SHA-256 of its bytes. Absent if the container has an idempotency key.",
            empty_is_absent=True,
        ),
    ] = None
    """Digest of the container's message: the first 32 hexadecimal digits of the SHA-256 of its
    bytes. Absent if the container has an idempotency key.
    """


class Presence(Message):
    """Presence of a daemon, on `fast/migfra/<host>/status`. The broker retains it.

    `status: offline` is also its last will. A daemon with the key `degraded` executes the orders
    that it has accepted, and accepts no others. With `status: online` and `instance`, and without
    `started`, a daemon asks for other daemons of its host. Such a message is not retained.
    """

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.PRESENCE,)

    status: Annotated[
        Literal["online", "offline"], Wire("Whether the daemon is connected to the broker.")
    ]
    """Whether the daemon is connected to the broker."""
    version: Annotated[str | None, Wire("Version of the daemon.")] = None
    """Version of the daemon."""
    hypervisor: Annotated[str | None, Wire("The hypervisor, as in the daemon's configuration.")] = (
        None
    )
    """The hypervisor, as in the daemon's configuration."""
    started: Annotated[
        float | None,
        Wire(
            "Time at which the daemon started, since the beginning of 1970 (UTC).",
            unit="s",
            decimals=6,
        ),
    ] = None
    """Time at which the daemon started, since the beginning of 1970 (UTC). Unit: s."""
    degraded: Annotated[
        str | None,
        Wire(
            "Reason why the daemon accepts no tasks at present, and the remedy.",
            empty_is_absent=True,
        ),
    ] = None
    """Reason why the daemon accepts no tasks at present, and the remedy."""
    time: Annotated[
        datetime | None,
        Wire("The daemon's clock when it sent this message. Compare it with your own."),
    ] = None
    """The daemon's clock when it sent this message. Compare it with your own."""
    client_id: Annotated[
        str | None, Wire("The daemon's client id at the broker.", empty_is_absent=True)
    ] = None
    """The daemon's client id at the broker."""
    instance: Annotated[
        str | None,
        Wire("A random text that differs for each run of the daemon.", empty_is_absent=True),
    ] = None
    """A random text that differs for each run of the daemon."""

    @property
    def is_claim(self) -> bool:
        """Whether a daemon only asks for other daemons of its host. This is not retained."""
        return self.status == "online" and self.instance is not None and self.started is None
