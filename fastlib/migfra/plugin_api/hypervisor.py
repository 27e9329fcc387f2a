"""The base class of hypervisors: one method for each task, optional, plain or `async`.

::

    class MyHypervisor(Hypervisor):
        name = "my"

        def start(self, task: Start, context: Context) -> Outcome:
            with context.measure("define"):
                ...
            return None

The method of a task is the name of its class in snake_case, so `class Snapshot(Task, …)` of another
package is handled by a method `snapshot`. A plain method runs in a thread and may block; an `async`
one runs in the daemon's loop and must not block. The daemon also calls `query`, for `query node`,
and `recover`, which determines how a task ended that was running when the daemon was killed.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from logging import Logger, LoggerAdapter, getLogger
from typing import TYPE_CHECKING, Any, ClassVar

from fastlib.message import Result, Task
from fastlib.message.task import declarations
from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError, UnsupportedError

from .config_section import ConfigSection
from .context import Context, check_state, done

if TYPE_CHECKING:
    from fastlib.migfra.virt.migration_limits import MigrationLimits

__all__ = [
    "FinalError",
    "Hypervisor",
    "HypervisorError",
    "Method",
    "NoOptions",
    "NodeContext",
    "Outcome",
    "TaskCancelledError",
    "UnsupportedError",
    "method_name",
    "supported",
]

Outcome = None | str | Result | Sequence[Result]
"""The outcome of a task: None is success, a text is success with these details.

Results are sent unchanged (`stop` by regex and `evacuate` return one for each domain).

Failures are raised.
"""

Method = Callable[[Any, Context], Outcome | Awaitable[Outcome]]


class NoOptions(ConfigSection):
    """A hypervisor without options."""


class NodeContext:
    """The daemon's services for its hypervisor, from open to close."""

    def __init__(
        self,
        host: str,
        *,
        log: Logger | LoggerAdapter[Logger] | None = None,
        pscom_request: str = "fast/pscom/<vm_name>/any_proc/request",
        pscom_response: str = "fast/pscom/<vm_name>/+/response",
        pscom_qos: int = 0,
    ) -> None:
        self.host = host
        """Name of the host, as in topics and in `destination`."""
        self.log = log or getLogger("fastlib.migfra.plugin_api.hypervisor")
        self.pscom_request = pscom_request
        """Template of the topic of requests to pscom processes to suspend and resume."""
        self.pscom_response = pscom_response
        """Template of the topic of their answers, one message for each process."""
        self.pscom_qos = pscom_qos
        self._saved_state: dict[str, Any] = {}
        self._store_state: Callable[[Mapping[str, Any]], Future[None]] | None = None

    def keep_state(
        self, saved: Mapping[str, Any], store: "Callable[[Mapping[str, Any]], Future[None]]"
    ) -> None:
        """Give the node the state of an earlier run, and the function that stores a new one.

        The daemon calls this before it opens the hypervisor.
        """
        self._saved_state = dict(saved)
        self._store_state = store

    @property
    def saved_state(self) -> Mapping[str, Any]:
        """The value that `save_state` has saved, in this run of the daemon or an earlier one."""
        return dict(self._saved_state)

    def save_state(self, **values: Any) -> "Future[None]":
        """Save small facts in the journal that do not belong to a task; see `Context.save_state`.

        They are kept when the task that led to them is answered and forgotten. Call it in the
        daemon's loop. The future is done when they are stored. Without a daemon nothing is stored.

        Raises TypeError for values that JSON would change.
        """
        check_state(values)
        self._saved_state.update(values)
        if self._store_state is not None:
            return self._store_state(dict(self._saved_state))
        return done()


class Hypervisor:
    """Base of every hypervisor. A method for a task is added by defining it."""

    name: ClassVar[str] = ""
    """As in `type:` of the configuration, and in messages."""
    Options: ClassVar[type[ConfigSection]] = NoOptions
    """The keys beside `type:`, checked like the rest of the configuration."""
    begins_itself: ClassVar[bool] = False
    """True if each method calls `Context.begin` after its waits and before it acts.

    Otherwise a task begins with the call of its method, and waits in it do not end when its order
    expires.
    """

    def __init__(self, options: Any, node: NodeContext) -> None:
        """`options` is an instance of `Options`. Open no connections here, but in `open`."""
        self.options = options
        self.node = node

    def open(self) -> Awaitable[None] | None:
        """Called once before the first task; plain or `async`. An error ends the daemon."""
        return None

    def check_open(self) -> Awaitable[None] | None:
        """Called by `migfra --check` in place of `open` and `close`; plain or `async`.

        Override it if `open` leaves a trace or takes long. Raise the errors that `open` would
        raise, and change nothing. By default `--check` calls `open` and `close`.
        """
        return None

    def close(self) -> Awaitable[None] | None:
        """Called once after the last task; plain or `async`."""
        return None

    def capabilities(self) -> Mapping[str, Any]:
        """Return further capabilities for `query node`.

        The list of implemented tasks is added to them.
        """
        return {}

    async def outages(self) -> Mapping[str, str]:
        """Return the services that the hypervisor cannot reach now, by name, with the reasons.

        Such as `libvirt on node01`. Called every few seconds; the log repeats long outages.
        """
        return {}

    def migration_limits(self) -> "MigrationLimits | None":
        """The migrations that wait and run, for the metrics; None for a hypervisor without limits.

        Called after `open`.
        """
        return None


@lru_cache(maxsize=256)
def method_name(task: type[Task]) -> str:
    """Return the name of the method for a type of task: `my_task` for `MyTask`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", task.__name__).lower()


def method_of(hypervisor: Hypervisor, task: type[Task]) -> Method:
    """Return the method for a type of task. Raises UnsupportedError."""
    found: Method | None = None
    name = method_name(task)
    if name not in RESERVED:
        found = getattr(hypervisor, name, None)
    if not callable(found):
        raise UnsupportedError(hypervisor.name, task.declaration.task)
    return found


RESERVED = frozenset(name for name in vars(Hypervisor) if not name.startswith("_")) | {
    "recover",
    "node",
    "options",
}
"""Names of methods and attributes that are not methods of tasks."""


def supported(hypervisor: Hypervisor) -> list[str]:
    """Return the titles of the tasks that the hypervisor has a method for."""
    titles = []
    for declared in declarations():
        name = method_name(declared.type)
        if name not in RESERVED and callable(getattr(hypervisor, name, None)):
            titles.append(declared.task)
    return titles
