"""Every error of the client, in one tree::

FastlibError
└── ClientError
    ├── NoResultError         a host did not answer in time; has `.request`
    ├── NotUnderstoodError    a host answered that it could not read the task
    ├── UnexpectedResultError a host sent an answer that does not fit the task
    ├── IdTakenError          a pending container to the same host has the same id
    └── ClientClosedError     the client is closed, or was closed before the answer

A task that failed raises no error here: it has a result with the status `error`. Errors of the
network are `fastlib.transport.TransportError`.
"""

from typing import TYPE_CHECKING, Final

from fastlib.codec.errors import FastlibError

if TYPE_CHECKING:
    from .request import PendingRequest


class ClientError(FastlibError):
    """Base of all errors between a task and its result."""


class NoResultError(ClientError, TimeoutError):
    """A host did not answer in time. The text has the task, the host and all later observations.

    The host may have executed the task. To ask a fastlib daemon again, submit the same container
    with the same id: the daemon executes an id only once.
    """

    def __init__(self, request: "PendingRequest", text: str) -> None:
        self.request: Final = request
        super().__init__(text)


class NotUnderstoodError(ClientError):
    """A host answered that it could not read the task, and did not execute it.

    `certain` is False if the answer had no id, which is normal for a C++ peer. Such an answer is
    assigned to the only pending task of this client for that host.
    """

    def __init__(self, request: "PendingRequest", details: str, *, certain: bool) -> None:
        self.request: Final = request
        self.details: Final = details
        self.certain: Final = certain
        how = "" if certain else "; its answer has no id, but no other task of ours is there"
        super().__init__(f"{request}: the host could not read it: {details}{how}")


class UnexpectedResultError(ClientError):
    """A host sent an answer that does not fit the task."""


class IdTakenError(ClientError, ValueError):
    """A pending container to the same host has the same id."""


class ClientClosedError(ClientError):
    """The client is closed, or was closed before a host had answered."""
