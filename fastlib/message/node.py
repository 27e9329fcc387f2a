"""What a migration daemon tells of its node and of its work."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from fastlib.codec.annotations import Wire

from . import topics
from .base import Message
from .numbers import U32, U64
from .result import Result
from .topics import Topic


class DomainReport(Message):
    """One domain of a node."""

    name: Annotated[str, Wire("Name of the domain.")]
    """Name of the domain."""
    state: Annotated[
        str, Wire("What it does: running, paused, shut off, or a word of the hypervisor's own.")
    ]
    """What it does: running, paused, shut off, or a word of the hypervisor's own."""
    vcpus: Annotated[U32 | None, Wire("Number of virtual CPUs.")] = None
    """Number of virtual CPUs."""
    memory: Annotated[U64 | None, Wire("Memory of the domain.", unit="KiB")] = None
    """Memory of the domain. Unit: KiB."""
    managed_save: Annotated[
        bool | None,
        Wire("Whether it has a saved image, from which its next start continues it."),
    ] = None
    """Whether it has a saved image, from which its next start continues it."""


class TaskReport(Message):
    """One member of a task container that the daemon has not answered yet."""

    id: Annotated[str | None, Wire("Id of its container.")] = None
    """Id of its container."""
    task: Annotated[str, Wire("Title of the task.")]
    """Title of the task."""
    vm_name: Annotated[str | None, Wire("Name of the domain.")] = None
    """Name of the domain."""
    state: Annotated[str, Wire("Where it stands: queued, running, retrying or cancelling.")]
    """Where it stands: queued, running, retrying or cancelling."""
    since: Annotated[
        float | None,
        Wire("When it was accepted, after the beginning of 1970 (UTC).", unit="s", decimals=6),
    ] = None
    """When it was accepted, after the beginning of 1970 (UTC). Unit: s."""


class NodeReport(Message):
    """What a node has, and what it does. What is absent is not known."""

    host: Annotated[str, Wire("Name of the host.")]
    """Name of the host."""
    hypervisor: Annotated[str, Wire("The hypervisor, as in the daemon's configuration.")]
    """The hypervisor, as in the daemon's configuration."""
    cpus: Annotated[U32 | None, Wire("Number of CPUs of the host.")] = None
    """Number of CPUs of the host."""
    memory: Annotated[U64 | None, Wire("Memory of the host.", unit="KiB")] = None
    """Memory of the host. Unit: KiB."""
    free_memory: Annotated[
        U64 | None, Wire("How much of it domains can still get.", unit="KiB")
    ] = None
    """How much of it domains can still get. Unit: KiB."""
    domains: Annotated[Sequence[DomainReport], Wire("The domains that the node knows.")] = ()
    """The domains that the node knows."""
    tasks: Annotated[Sequence[TaskReport], Wire("The tasks under way, the oldest first.")] = ()
    """The tasks under way, the oldest first."""
    capabilities: Annotated[
        Mapping[str, Any] | None,
        Wire("What the hypervisor can do: texts, lists and mappings as they stand."),
    ] = None
    """What the hypervisor can do: texts, lists and mappings as they stand."""
    versions: Annotated[
        Mapping[str, str] | None, Wire("Versions of the programs, by their names.")
    ] = None
    """Versions of the programs, by their names."""
    degraded: Annotated[
        str | None,
        Wire("Why the daemon accepts no tasks at present, and the remedy.", empty_is_absent=True),
    ] = None
    """Why the daemon accepts no tasks at present, and the remedy."""


class NodeResult(Result):
    """How a query ended: the report, or the error."""

    vm_name: Annotated[str, Wire("Name of the domain; there is none.")] = "n/a"
    """Name of the domain; there is none."""
    node: Annotated[NodeReport | None, Wire("What was asked for.")] = None
    """What was asked for."""


class Progress(Message):
    """How far a task is; on `fast/migfra/<host>/progress` while it runs."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.PROGRESS,)

    id: Annotated[str | None, Wire("Id of its container.")] = None
    """Id of its container."""
    vm_name: Annotated[str | None, Wire("Name of the domain.")] = None
    """Name of the domain."""
    # Not under the key `task`, as that would tell the type of the whole message.
    task: Annotated[str | None, Wire("Title of the task.")] = msgspec.field(
        default=None, name="title"
    )
    """Title of the task."""
    phase: Annotated[
        str, Wire("What it does now, such as memory; each hypervisor has phases of its own.")
    ]
    """What it does now, such as memory; each hypervisor has phases of its own."""
    percent: Annotated[float | None, Wire("How much is done, 0 to 100.", unit="%")] = None
    """How much is done, 0 to 100. Unit: %."""
    transferred: Annotated[U64 | None, Wire("What has been sent so far.", unit="bytes")] = None
    """What has been sent so far. Unit: bytes."""
    total: Annotated[U64 | None, Wire("What is to be sent in all.", unit="bytes")] = None
    """What is to be sent in all. Unit: bytes."""
    remaining: Annotated[U64 | None, Wire("What is still to be sent.", unit="bytes")] = None
    """What is still to be sent. Unit: bytes."""
    dirty_rate: Annotated[
        float | None, Wire("How fast the domain changes its memory.", unit="bytes/s")
    ] = None
    """How fast the domain changes its memory. Unit: bytes/s."""
    expected: Annotated[float | None, Wire("How long it still takes.", unit="s", decimals=6)] = None
    """How long it still takes. Unit: s."""
    position: Annotated[
        U32 | None, Wire("Its place in the queue while it waits; 1 is the next one.")
    ] = None
    """Its place in the queue while it waits; 1 is the next one."""
    idempotency_key: Annotated[
        str | None, Wire("Idempotency key of its container.", empty_is_absent=True)
    ] = None
    """Idempotency key of its container."""
    request_digest: Annotated[
        str | None,
        Wire(
            "The message of its container, unless that has an idempotency key: the first 32 "
            "hexadecimal digits of the SHA-256 of its bytes.",
            empty_is_absent=True,
        ),
    ] = None
    """The message of its container, unless that has an idempotency key: the first 32 hexadecimal
    digits of the SHA-256 of its bytes.
    """


class Presence(Message):
    """Whether a daemon is there; on `fast/migfra/<host>/status`, where the broker keeps it.

    `status: offline` is also its last will. A daemon with the key `degraded` executes what it has
    accepted, and accepts nothing more. `status: online` with `instance` and without `started`,
    which is never retained, is a daemon that asks whether there is another one of its host.
    """

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.PRESENCE,)

    status: Annotated[Literal["online", "offline"], Wire("Whether the daemon is there.")]
    """Whether the daemon is there."""
    version: Annotated[str | None, Wire("Version of the daemon.")] = None
    """Version of the daemon."""
    hypervisor: Annotated[str | None, Wire("The hypervisor, as in the daemon's configuration.")] = (
        None
    )
    """The hypervisor, as in the daemon's configuration."""
    started: Annotated[
        float | None,
        Wire("When the daemon began, after the beginning of 1970 (UTC).", unit="s", decimals=6),
    ] = None
    """When the daemon began, after the beginning of 1970 (UTC). Unit: s."""
    degraded: Annotated[
        str | None,
        Wire("Why it accepts no tasks at present, and the remedy.", empty_is_absent=True),
    ] = None
    """Why it accepts no tasks at present, and the remedy."""
    time: Annotated[
        datetime | None, Wire("Its clock when it published this; compare it with your own.")
    ] = None
    """Its clock when it published this; compare it with your own."""
    client_id: Annotated[str | None, Wire("Its client id at the broker.", empty_is_absent=True)] = (
        None
    )
    """Its client id at the broker."""
    instance: Annotated[
        str | None,
        Wire("A random text that differs for each run of the daemon.", empty_is_absent=True),
    ] = None
    """A random text that differs for each run of the daemon."""

    @property
    def is_claim(self) -> bool:
        """Whether a daemon only asks if there is another one of its host. It is never retained."""
        return self.status == "online" and self.instance is not None and self.started is None
