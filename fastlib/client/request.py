"""One task container that was sent to a host, with the state of its request."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Final

from fastlib.clock import Clock
from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.message.request_digest import request_digest
from fastlib.message.tasks import QUERIES
from fastlib.transport import Delivery

from .outcome import JournalView


class Absence:
    """A period in which a daemon is known to be offline; each period is another object."""


class PendingRequest:
    """A container that was sent to a host, with all facts about it so far."""

    __slots__ = (
        "absence",
        "asked",
        "container",
        "deadline",
        "delivery",
        "digest",
        "expires",
        "future",
        "heard",
        "host",
        "id",
        "incarnations",
        "journal",
        "listeners",
        "looked",
        "monotonic",
        "payload",
        "possible_answers",
        "progress",
        "repeated",
        "sent",
        "sent_before",
        "timeout",
        "understood",
        "withdrawn",
    )

    def __init__(
        self,
        host: str,
        container: TaskContainer,
        timeout: float | None,
        clock: Clock,
        *,
        sent_before: bool,
    ) -> None:
        """`container` has an id and its `expires`; `timeout` starts now."""
        assert container.id is not None
        self.host: Final = host
        self.container: Final = container
        self.id: Final[str] = container.id
        self.payload: Final = container.to_yaml().encode()
        self.digest: Final = request_digest(self.payload)
        """The digest by which an answer of a fastlib daemon identifies it."""
        self.timeout: Final = timeout
        self.expires: Final = container.expires
        self.deadline = None if timeout is None else clock.monotonic() + timeout
        """The monotonic time at which the request fails; postponed while it waits for certainty."""
        self.monotonic: Final = clock.monotonic()
        """The monotonic time of `sent`."""
        self.sent: Final = datetime.fromtimestamp(clock.now(), UTC).astimezone()
        self.sent_before = sent_before
        """True if an earlier order may have the same idempotency key."""
        self.repeated = False
        """True if this client has sent it more than once."""
        self.absence: Absence | None = None
        """The absence of the host's daemon in which it was sent, if the daemon was offline."""
        self.incarnations: set[tuple[str, int]] = set()
        """The runs of the daemon, with the connection of this client, that it was sent to."""
        self.asked = 0
        """Number of queries of the daemon for the order in its journal."""
        self.journal: JournalView | None = None
        """The daemon's answer to that query."""
        self.looked = False
        """True if the daemon's presence was requested from the broker again."""
        self.heard = False
        """True if the broker has answered that request, and the daemon was still in that
        absence."""
        self.withdrawn = False
        """True if the transport dropped it before it wrote any of it."""
        self.delivery: Delivery | None = None
        """The transport's state of the message; None until the transport has accepted it."""
        self.future: Final[Future[ResultContainer]] = Future()
        self.understood = False
        """True once the host has reported progress of the task."""
        self.progress: Progress | None = None
        self.listeners: list[Callable[[Progress], None]] = []
        self.possible_answers: list[str] = []
        """Descriptions of answers that may belong to this request, for a NoResultError."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the facts, for an error that is pickled: without callbacks and waiting parties."""
        left = {"delivery", "future", "listeners", "absence"}
        return {name: getattr(self, name) for name in self.__slots__ if name not in left}

    def __setstate__(self, facts: dict[str, Any]) -> None:
        for name, value in facts.items():
            setattr(self, name, value)
        self.absence, self.delivery, self.listeners = None, None, []
        future: Future[ResultContainer] = Future()
        future.cancel()
        object.__setattr__(self, "future", future)

    @property
    def only_asks(self) -> bool:
        """True if it is a query, which changes nothing."""
        return any(isinstance(task, QUERIES) for task in self.container.tasks)

    @property
    def delivered(self) -> bool:
        """True if the broker has confirmed the message."""
        future = None if self.delivery is None else self.delivery.future
        return future is not None and future.done() and future.exception() is None

    def seconds_left(self, clock: Clock) -> float | None:
        """Return the seconds until it expires by the wall clock; None is never."""
        return None if self.expires is None else self.expires.timestamp() - clock.now()

    def __str__(self) -> str:
        tasks = self.container.tasks
        names = [name for name in (getattr(task, "vm_name", None) for task in tasks[:3]) if name]
        more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
        of = f" of {', '.join(names)}{more}" if names else ""
        return f"'{self.container.task}'{of} on {self.host!r} (id {self.id!r})"
