"""One task container that was sent to a host, with the state of its request."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Final

from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.transport import Delivery


class PendingRequest:
    """A container on its way to a host, and all that is known about it so far."""

    __slots__ = (
        "container",
        "deadline",
        "delivery",
        "future",
        "host",
        "id",
        "listeners",
        "payload",
        "possible_answers",
        "progress",
        "sent",
        "timeout",
        "understood",
    )

    def __init__(
        self, host: str, container: TaskContainer, timeout: float | None, now: float
    ) -> None:
        """`container` has an id; `now` is the monotonic time at which `timeout` starts."""
        assert container.id is not None
        self.host: Final = host
        self.container: Final = container
        self.id: Final[str] = container.id
        self.payload: Final = container.to_yaml().encode()
        self.timeout: Final = timeout
        self.deadline: Final = None if timeout is None else now + timeout
        self.sent: Final = datetime.now().astimezone()
        self.delivery: Delivery | None = None
        """The transport's state of the message; None until the transport has accepted it."""
        self.future: Final[Future[ResultContainer]] = Future()
        self.understood = False
        """True once the host has reported progress of the task."""
        self.progress: Progress | None = None
        self.listeners: list[Callable[[Progress], None]] = []
        self.possible_answers: list[str] = []
        """Descriptions of answers that may belong to this request, for a NoResultError."""

    @property
    def delivered(self) -> bool:
        """True if the broker has confirmed the message."""
        future = None if self.delivery is None else self.delivery.future
        return future is not None and future.done() and future.exception() is None

    def __str__(self) -> str:
        tasks = self.container.tasks
        names = [name for name in (getattr(task, "vm_name", None) for task in tasks[:3]) if name]
        more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
        of = f" of {', '.join(names)}{more}" if names else ""
        return f"'{self.container.task}'{of} on {self.host!r} (id {self.id!r})"
