"""Every error of the client, in one tree::

FastlibError
└── ClientError
    ├── NoResultError         a host did not answer in time; has `.outcome`, `.reason`, `.request`
    ├── HostOfflineError      the host's daemon is offline, and `only_if_online` was given
    ├── NotUnderstoodError    a host answered that it could not read the task
    ├── UnexpectedResultError a host sent an answer that does not fit the task
    ├── IdTakenError          a pending container to the same host has the same id
    └── ClientClosedError     the client is closed, or was before the answer; has `.reason`

A failed task has a result with the status `error` and raises no error by default.
`handle.result(check=True)` raises `fastlib.TaskFailedError` for it. Errors of the network are
`fastlib.transport.TransportError`.
"""

from typing import TYPE_CHECKING, Final

from fastlib.codec.errors import FastlibError
from fastlib.transport.errors import ClosedError

from .outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from .request import PendingRequest


class ClientError(FastlibError):
    """Base of all errors between a task and its result."""


class NoResultError(ClientError, TimeoutError):
    """A host did not answer in time. The text has the task, the host and all later observations.

    `outcome` says what happened to the order, and `reason` how that is known:

    - `never begun`: it was not executed and will not be executed.
    - `begun`: a daemon has begun it. It may have ended, and its result may still come.
    - `unknown`: neither is certain. A fastlib daemon can report it: `fastlib log ID --host HOST`.

    To request the result again from a fastlib daemon, submit `request.container`. The daemon
    executes its idempotency key only once, and never after its `expires`.
    """

    def __init__(self, request: "PendingRequest", outcome: Outcome, text: str) -> None:
        self.request: Final = request
        self.outcome: Final[OutcomeKind] = outcome.kind
        self.reason: Final = outcome.reason
        super().__init__(text)


class HostOfflineError(ClientError):
    """The daemon of the host is offline, so an order with `only_if_online` was not sent."""

    def __init__(self, host: str) -> None:
        self.host: Final = host
        super().__init__(
            f"the daemon of {host!r} is offline, so nothing was sent; start it, or send without "
            "`only_if_online` to let the order wait until it expires"
        )


class NotUnderstoodError(ClientError):
    """A host answered that it could not read the task.

    `certain` is True if the task was not executed. It is False if the answer does not prove that it
    is about this message. For example, a C++ peer does not repeat the id, so its answer is assigned
    to the only pending task of this client for that host. It is also False if the message was sent
    more than once, or the host has reported progress of it.
    """

    def __init__(self, request: "PendingRequest", details: str, *, certain: bool) -> None:
        self.request: Final = request
        self.details: Final = details
        self.certain: Final = certain
        how = "" if certain else f"; {_doubt(request)}"
        super().__init__(f"{request}: the host could not read it: {details}{how}")


def _doubt(request: "PendingRequest") -> str:
    if request.understood:
        return "but the daemon reported progress of this order earlier"
    if request.repeated or request.sent_before:
        return "an earlier copy may have been executed"
    return (
        "the answer has no id or digest that only this message has, so it may belong to "
        "another message"
    )


class UnexpectedResultError(ClientError):
    """A host sent an answer that does not fit the task."""


class IdTakenError(ClientError, ValueError):
    """A pending container to the same host has the same id."""


class ClientClosedError(ClientError):
    """The client is closed, or was closed before a host had answered. The text says why.

    `reason` is None if the program has closed the client. Otherwise the communicator under the
    client has ended, and `reason` is its ClosedError. If `reason.failure` is None, the program has
    closed the communicator. Otherwise `reason.failure` is the exception that has ended it.
    """

    def __init__(self, reason: ClosedError | None = None, request: object = None) -> None:
        """`request` is the pending request that the client no longer waits for."""
        self.reason: Final = reason
        text = "the client is closed" if request is None else f"{request}: the client is closed"
        if reason is not None:
            text += f", because its communicator has ended: {reason}"
        super().__init__(text)
        self.__cause__ = reason
