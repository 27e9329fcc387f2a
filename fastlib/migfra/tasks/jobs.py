"""Jobs: a container from its acceptance to its answer, its members, and the table of them all."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any, Final, Literal

from fastlib.clock import SYSTEM_CLOCK, Clock
from fastlib.message import Cancel, Result, Task, TaskContainer, TaskReport
from fastlib.message.request_digest import request_digest
from fastlib.migfra.journal.schema import MemberState, Unfinished
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.expiry import Deadline, Expiry

from .results import NO_DOMAIN, vm_name_of

State = Literal["queued", "running", "retrying"]

JOB_SIZE: Final = 2048
"""Bytes of memory of a job whose container is not in memory."""
MAX_REPORTS: Final = 1000
"""Maximum number of running and queued tasks in one report."""


def seconds_of(instant: datetime | None) -> float | None:
    """Return an instant in seconds since 1970, None for none."""
    return None if instant is None else instant.timestamp()


class Member:
    """One task of a container."""

    def __init__(
        self, task: Task, position: int, earlier: MemberState | None, expiry: Expiry | None = None
    ) -> None:
        self.task: Final = task
        self.position: Final = position
        self.earlier: Final = earlier
        """The part that an earlier run of the daemon has begun."""
        self.vm_name: Final = vm_name_of(task)
        self.domain: Final = None if self.vm_name == NO_DOMAIN else self.vm_name
        """The domain of the task, None for a task without one."""
        self.cancellation: Final = Cancellation()
        self.expiry: Final = expiry or Expiry()
        """Whether it has begun, and the latest time at which it may."""
        self.state: State = "queued"
        self.was_cancelled = False
        """True if it was cancelled, and has not ended with success."""
        self.begin_is_noted = False
        """Whether the journal noted with its acceptance that it is passed to the hypervisor."""
        self.begin_is_stored = False
        """Whether the journal has noted its begin."""
        self.has_expired = False
        """True if it was not begun, as its order had expired."""
        self.results: tuple[Result, ...] = ()
        self.saved_state: Mapping[str, Any] = {} if earlier is None else earlier.saved_state
        """The value that the hypervisor has saved by `Context.save_state`."""
        self.waits = False
        """Whether it only waits for its turn in the hypervisor."""
        self._on_wait: Callable[[], object] | None = None
        self._before_begin: Callable[[], object] | None = None

    def before_begin(self, callback: Callable[[], object]) -> None:
        """Register `callback`. It is called once, right before the journal notes the begin."""
        self._before_begin = callback

    def begins_now(self) -> None:
        """Announce that the next step is its begin: members that begin later do not overtake it."""
        callback, self._before_begin = self._before_begin, None
        if callback is not None:
            callback()

    def on_wait(self, callback: Callable[[], object]) -> None:
        """Register `callback`.

        It is called each time the member waits for its turn in the hypervisor.
        """
        self._on_wait = callback

    def set_waiting(self, waits: bool) -> None:
        """Note that the member only waits for its turn in the hypervisor, or no longer."""
        self.waits = waits
        self.state = "queued" if waits else "running"
        if waits and self._on_wait is not None:
            self._on_wait()

    def end(self) -> None:
        """Remove the callbacks. They refer to this member, so it would be a cycle of objects."""
        self._on_wait = None
        self.expiry.on_begin(None)

    @property
    def ends_at_once(self) -> bool:
        """True if it needs no place because it is cancelled or has expired."""
        return self.cancellation.cancelled or self.expiry.expired

    @property
    def failed(self) -> bool:
        """True if a result says so."""
        for result in self.results:  # noqa: SIM110  faster than a generator, once for each task
            if result.status == "error":
                return True
        return False


class Job:
    """A container that must be answered."""

    def __init__(
        self,
        number: int | None,
        id: str | None,
        container: TaskContainer | None,
        *,
        recovered: Unfinished | None = None,
        host: str = "this host",
        clock: Clock = SYSTEM_CLOCK,
        deadline: Deadline | None = None,
        size: int = 0,
    ) -> None:
        """`recovered` is the journal's record of a job of an earlier run of the daemon.

        For other jobs, `size` is the size of the payload in bytes.

        `deadline` is the deadline of the container since its arrival; None for one that arrives
        now.
        """
        self._host = host
        self._clock = clock
        self.number: Final = number
        """Its number in the journal; None if the journal does not have it: it may be executed
        twice.
        """
        self.id: Final = id
        self.request_digest: str | None = None
        """Digest of the message that brought it; None if its key identifies it."""
        self.recovered: Final = recovered is not None
        self.came_to: Final = None if recovered is None else recovered.host
        """The name of the host that it came to, None if it is this one or not known."""
        self.repeated_here = False
        """True if it came to another name of this host, and then again to this one."""
        self.since: Final = clock.now() if recovered is None else recovered.accepted
        if deadline is None and recovered is not None:
            deadline = Deadline(recovered.expires, clock, latest=recovered.latest_begin)
        self.deadline = Deadline(None, clock) if deadline is None else deadline
        """Latest time at which its members may begin."""
        self.size: Final = size if recovered is None else recovered.size
        """Bytes of its payload."""
        self.memory = 0
        """Bytes of memory that its container takes while it is held, estimated."""
        self.title = "unknown" if container is None else container.task
        self.cancelled = recovered is not None and recovered.cancelled
        self.begun = False
        self.is_answered = False
        """Whether its answer is in the journal, and may have been sent."""
        self.has_ended = False
        """Whether `JobTable` has removed it since."""
        self.outcome: str | None = None
        """How its only member has ended, for the journal, which stores it with the answer."""
        self._on_cancel: Callable[[Job], object] | None = None
        self._ended: asyncio.Event | None = None
        """Set by `JobTable`, if a caller waits for it."""
        self.members: list[Member] = []
        self.container: TaskContainer | None = None
        self._earlier = {} if recovered is None else recovered.members
        if container is not None and deadline is None:
            self.hold(container)
        elif container is not None:
            self._hold(container)

    def hold(self, container: TaskContainer) -> None:
        """Hold the container in memory."""
        expires = seconds_of(container.expires)
        if self.deadline.expires != expires:
            self.deadline = Deadline(expires, self._clock)
        self._hold(container)

    def _hold(self, container: TaskContainer) -> None:
        self.container = container
        self.title = container.task
        self.members = [self._member(task, n) for n, task in enumerate(container.tasks)]
        if self.cancelled:
            for member in self.members:
                member.cancellation.cancel()

    def _member(self, task: Task, position: int) -> Member:
        earlier = self._earlier.get(position)
        expiry = Expiry(host=self._host, begun=earlier is not None, deadline=self.deadline)
        return Member(task, position, earlier, expiry)

    @property
    def domain(self) -> str | None:
        """The domain of its only member; None without members or with several."""
        return self.members[0].domain if len(self.members) == 1 else None

    @property
    def begun_before(self) -> bool:
        """True if an earlier run of the daemon has begun one of its members."""
        return bool(self._earlier)

    @property
    def can_expire(self) -> bool:
        """True if it has an expiry and none of its members has begun."""
        return self.deadline.expires is not None and not self.begun and not self._earlier

    @property
    def is_cancel(self) -> bool:
        """True for a `cancel task` that is in memory; they are never dropped."""
        return bool(self.members) and isinstance(self.members[0].task, Cancel)

    @property
    def only_waits(self) -> bool:
        """True while each member waits in the hypervisor or has ended."""
        return all(member.waits or member.results for member in self.members)

    def came_as(self, payload: bytes) -> None:
        """Note the message that brought it: the answer has its digest, or the key if there is one.

        Another message may have another spelling of the same order, and the same key.
        """
        if self.container is None or self.container.idempotency_key is None:
            self.request_digest = request_digest(payload)

    def end(self) -> None:
        """Note that its answer is in the journal, and that the table does not have it."""
        self.has_ended = True
        if self._ended is not None:
            self._ended.set()

    async def wait_until_ended(self) -> None:
        """Wait until its answer is in the journal."""
        if not self.has_ended:
            if self._ended is None:
                self._ended = asyncio.Event()
            await self._ended.wait()

    def drop(self) -> None:
        """Free the memory of the container until its turn; the journal has it."""
        self.container = None
        self.members = []

    def cancel(self) -> None:
        """Cancel every member, and call the callbacks of a job that has not begun."""
        self.cancelled = True
        for member in self.members:
            member.cancellation.cancel()
        if self._on_cancel is not None:
            self._on_cancel(self)

    def on_cancel(self, callback: "Callable[[Job], object]") -> None:
        """Register `callback`. It is called when the job is cancelled."""
        self._on_cancel = callback

    def reports(self) -> list[TaskReport]:
        """Return the reports of its members for `query node`."""
        if not self.members:
            return [TaskReport(task=self.title, state="queued", id=self.id, since=self.since)]
        return [
            TaskReport(
                task=self.title,
                state="cancelling" if member.cancellation.cancelled else member.state,
                id=self.id,
                vm_name=member.vm_name,
                since=self.since,
            )
            for member in self.members
        ]


class JobTable:
    """The table of all jobs that are accepted and not answered.

    The thread of the journal sends an answer before the loop hears that it is stored. It calls
    `answered` for that. The table has no such job from then on: a client with an answer never sees
    its job here.
    """

    def __init__(self) -> None:
        self._by_number: dict[int | None, Job] = {}
        self._by_id: dict[str, dict[Job, None]] = {}
        self._size = 0
        self._cancels: set[int | None] = set()
        """The numbers of `cancel task`. A job that is loaded later is not among them."""
        self._answered: deque[Job] = deque()
        """Jobs that are to be removed before the table is read."""
        self._sending = threading.Lock()

    def __iter__(self) -> Iterator[Job]:
        self._remove_answered()
        return iter(tuple(self._by_number.values()))

    @property
    def size(self) -> int:
        """Bytes of all jobs: their payloads, and `JOB_SIZE` for each."""
        self._remove_answered()
        return self._size

    @property
    def cancels(self) -> int:
        """Number of `cancel task` among them."""
        self._remove_answered()
        return len(self._cancels)

    def add(self, job: Job) -> None:
        if self._by_number.get(job.number) is not job:
            self._size += job.size + JOB_SIZE
            if job.is_cancel:
                self._cancels.add(job.number)
        self._by_number[job.number] = job
        if job.id is not None:
            self._by_id.setdefault(job.id, {})[job] = None

    def answered(self, job: Job, send: Callable[[], object]) -> None:
        """Note that the answer to a job is in the journal, and send it by `send`.

        Any thread may call it. `reports` waits meanwhile: a report without the job is sent after
        the answer.
        """
        with self._sending:
            self._note_answered(job)
            send()

    def remove(self, job: Job) -> None:
        """Remove a job whose answer is in the journal, unless it was removed before."""
        if not job.is_answered:
            self._note_answered(job)
        self._remove_answered()

    def _note_answered(self, job: Job) -> None:
        job.is_answered = True
        self._answered.append(job)

    def _remove_answered(self) -> None:
        while self._answered:
            self._remove(self._answered.popleft())

    def _remove(self, job: Job) -> None:
        if self._by_number.get(job.number) is job:
            del self._by_number[job.number]
            self._size -= job.size + JOB_SIZE
            self._cancels.discard(job.number)
        if job.id is not None and job.id in self._by_id:
            self._by_id[job.id].pop(job, None)
            if not self._by_id[job.id]:
                del self._by_id[job.id]
        job.end()

    def find_number(self, number: int) -> Job | None:
        """Return the job of a number in the journal; None if it is not in the table."""
        self._remove_answered()
        return self._by_number.get(number)

    def find(self, id: str) -> list[Job]:
        """Return the jobs of an id, the oldest first."""
        self._remove_answered()
        return list(self._by_id.get(id, ()))

    def reports(self) -> list[TaskReport]:
        """Return the running and queued tasks, the oldest first, at most `MAX_REPORTS`."""
        with self._sending:
            oldest = list(self)[:MAX_REPORTS]
        return list(chain.from_iterable(job.reports() for job in oldest))[:MAX_REPORTS]
