"""A task container on its way to a host, and its results on their way back."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from typing import Final

from fastlib.message import ResultContainer, TaskContainer
from fastlib.message.node import Progress
from fastlib.transport import Delivery


class Request:
    """What was asked of which host, and what is known of it since."""

    __slots__ = (
        "alive",
        "container",
        "deadline",
        "delivery",
        "doubts",
        "future",
        "host",
        "id",
        "listeners",
        "payload",
        "progress",
        "sent",
        "timeout",
    )

    def __init__(
        self, host: str, container: TaskContainer, timeout: float | None, now: float
    ) -> None:
        """`container` has an id; `now` is the monotonic time from which `timeout` counts."""
        assert container.id is not None
        self.host: Final = host
        self.container: Final = container
        self.id: Final[str] = container.id
        self.payload: Final = container.to_yaml().encode()
        self.timeout: Final = timeout
        self.deadline: Final = None if timeout is None else now + timeout
        self.sent: Final = datetime.now().astimezone()
        self.delivery: Delivery | None = None
        """What the transport says of the message; None until it has accepted it."""
        self.future: Final[Future[ResultContainer]] = Future()
        self.alive = False
        """True once the host has shown that it understood the task."""
        self.progress: Progress | None = None
        self.listeners: list[Callable[[Progress], None]] = []
        self.doubts: list[str] = []
        """Answers that may have been meant for this, for the error if none else comes."""

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
