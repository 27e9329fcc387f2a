"""Publish the progress of tasks at a bounded rate."""

import asyncio
from contextlib import suppress
from logging import getLogger
from typing import Final

from fastlib.codec.errors import ValidationError
from fastlib.message import topics
from fastlib.message.node import Progress
from fastlib.migfra.plugin_api.context import ProgressFacts
from fastlib.migfra.telemetry.counters import Counters
from fastlib.migfra.virt.migration_limits import QUEUED
from fastlib.transport import AsyncCommunicator, TransportError

from .events import Events, call_in_loop
from .jobs import Job, Member

log = getLogger("fastlib.migfra")

QOS: Final = 0
"""QoS 0: a late message is worth less than the next one."""


class ProgressPublisher:
    """Sends the progress of every task of a daemon."""

    def __init__(
        self,
        communicator: AsyncCommunicator,
        host: str,
        interval: float,
        counters: Counters,
        events: Events,
    ) -> None:
        self._communicator = communicator
        self._host = host
        self.interval: Final = interval
        self._counters = counters
        self.events: Final = events
        self._sending: set[asyncio.Task[None]] = set()

    def of(self, job: Job, member: Member) -> "Reporter":
        """Return the object to which a member reports."""
        return Reporter(self, job, member)

    def send(self, job: Job, member: Member, facts: ProgressFacts) -> None:
        """Publish progress if there is a connection; otherwise drop it.

        A task that has not begun has only the phase `queued`. Any other phase shows that it has
        begun.
        """
        if facts.phase != QUEUED and not member.expiry.has_acted:
            return
        if not self._communicator.is_connected or len(self._sending) > 100:
            return
        try:
            progress = Progress(
                task=job.title,
                id=job.id,
                idempotency_key=None if job.container is None else job.container.idempotency_key,
                request_digest=job.request_digest,
                phase=facts.phase,
                vm_name=facts.vm_name or member.vm_name,
                percent=facts.percent,
                transferred=facts.transferred,
                total=facts.total,
                remaining=facts.remaining,
                disk_transferred=facts.disk_transferred,
                disk_total=facts.disk_total,
                disk_remaining=facts.disk_remaining,
                dirty_rate=facts.dirty_rate,
                expected=facts.expected,
                position=facts.position,
            )
        except ValidationError as error:
            log.warning("the hypervisor reported invalid progress, which is not sent: %s", error)
            return
        sending = asyncio.create_task(self._send(job, progress.to_yaml().encode()))
        self._sending.add(sending)
        sending.add_done_callback(self._sent)

    def _sent(self, sending: "asyncio.Task[None]") -> None:
        self._sending.discard(sending)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            log.error("a progress message could not be sent", exc_info=error)

    async def _send(self, job: Job, payload: bytes) -> None:
        topic = topics.PROGRESS(job.came_to or self._host)
        with suppress(TransportError):  # the next message has newer values
            await self._communicator.send(payload, topic, QOS, timeout=1)

    def moved(self, amount: int) -> None:
        """Count `amount` more bytes that have moved to another host."""
        self._counters.migrated_bytes += amount


class Reporter:
    """The progress of one member. `report` may be called from any thread, at any rate."""

    def __init__(self, progress: ProgressPublisher, job: Job, member: Member) -> None:
        self._progress = progress
        self._job = job
        self._member = member
        self._loop = asyncio.get_running_loop()
        self._latest: dict[str | None, ProgressFacts] = {}
        self._phases: dict[str | None, str] = {}
        self._moved: dict[str | None, int] = {}
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def report(self, facts: ProgressFacts) -> None:
        """Report the present values.

        They are published at once, or at the end of the interval unless newer values come.
        """
        call_in_loop(self._loop, self._take, facts)

    def _take(self, facts: ProgressFacts) -> None:
        if self._ended:
            return
        if facts.transferred is not None:
            before = self._moved.get(facts.vm_name, 0)
            self._moved[facts.vm_name] = facts.transferred
            self._progress.moved(max(0, facts.transferred - before))
        self._note_phase(facts)
        self._latest[facts.vm_name] = facts
        if self._timer is None:
            pause = max(0.0, self._next - self._loop.time())
            self._timer = self._loop.call_later(pause, self._publish)

    def _note_phase(self, facts: ProgressFacts) -> None:
        """Log and note the phase of a domain if it has changed."""
        if self._phases.get(facts.vm_name) == facts.phase:
            return
        self._phases[facts.vm_name] = facts.phase
        self._progress.events.phase(self._job, self._member, facts)

    def _publish(self) -> None:
        self._timer = None
        self._next = self._loop.time() + self._progress.interval
        latest, self._latest = self._latest, {}
        for facts in latest.values():
            try:
                self._progress.send(self._job, self._member, facts)
            except Exception:  # progress must not harm the task
                log.exception("a progress message of %s could not be sent", self._job.title)

    def end(self) -> None:
        """Publish nothing more, because the member has ended."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
