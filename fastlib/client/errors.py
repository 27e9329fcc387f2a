"""Every error of the client, in one tree::

FastlibError
└── ClientError
    ├── NoResultError         a host did not answer in time; has `.request`
    ├── NotUnderstoodError    a host answered that it could not read the task
    ├── UnexpectedResultError a host answered with something else than the task's results
    ├── IdTakenError          a container's id is that of another one on its way
    └── ClientClosedError     the client is closed, or was closed before the answer

A task that failed is no error here but a result whose status is `error`; what the network does is
a `fastlib.transport.TransportError`.
"""

from typing import TYPE_CHECKING, Final

from fastlib.codec.errors import FastlibError

if TYPE_CHECKING:
    from .request import Request


class ClientError(FastlibError):
    """Something went wrong between a task and its result."""


class NoResultError(ClientError, TimeoutError):
    """A host did not answer in time; the text says what was sent where, and what was seen since.

    The task may have been executed all the same. To ask a fastlib daemon again, submit the same
    container with the same id: it executes an id only once.
    """

    def __init__(self, request: "Request", text: str) -> None:
        self.request: Final = request
        super().__init__(text)


class NotUnderstoodError(ClientError):
    """A host answered that it could not read the task; it was not executed.

    `certain` is False if the answer had no id, as a C++ peer's has not, and was taken to be meant
    for this task because it was the only one that the host owed us an answer to.
    """

    def __init__(self, request: "Request", details: str, *, certain: bool) -> None:
        self.request: Final = request
        self.details: Final = details
        self.certain: Final = certain
        how = "" if certain else "; its answer has no id, but no other task of ours is there"
        super().__init__(f"{request}: the host could not read it: {details}{how}")


class UnexpectedResultError(ClientError):
    """A host answered a task with something else than its results."""


class IdTakenError(ClientError, ValueError):
    """A container has the id of another one that is on its way to the same host."""


class ClientClosedError(ClientError):
    """The client is closed, or was closed before a host had answered."""
