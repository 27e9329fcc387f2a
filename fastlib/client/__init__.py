"""The scheduler's side: send a task to the daemon of a host, await its result.

`MigfraClient` for threads, `AsyncMigfraClient` for coroutines, both over a communicator of
`fastlib.transport`::

    with MigfraClient.connect("broker.example.org") as client:
        result = client.migrate("vm1", "hostA", "hostB", migration_type="live").result()
"""

from .aio import AsyncMigfraClient
from .client import MigfraClient
from .errors import (
    ClientClosedError,
    ClientError,
    HostOfflineError,
    IdTakenError,
    NoResultError,
    NotUnderstoodError,
    UnexpectedResultError,
)
from .handle import AsyncHandle, Handle
from .observed import AsyncWatch, ObservedMessage, Watch
from .options import (
    EvacuateOptions,
    HistoryOptions,
    MigrateOptions,
    StartOptions,
    StopOptions,
    SubmitOptions,
    TaskOptions,
)

__all__ = [
    "AsyncHandle",
    "AsyncMigfraClient",
    "AsyncWatch",
    "ClientClosedError",
    "ClientError",
    "EvacuateOptions",
    "Handle",
    "HistoryOptions",
    "HostOfflineError",
    "IdTakenError",
    "MigfraClient",
    "MigrateOptions",
    "NoResultError",
    "NotUnderstoodError",
    "ObservedMessage",
    "StartOptions",
    "StopOptions",
    "SubmitOptions",
    "TaskOptions",
    "UnexpectedResultError",
    "Watch",
]
