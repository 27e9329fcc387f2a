"""Logs the events of tasks, and notes them in the journal for their history."""

import asyncio
import logging
from collections.abc import Callable
from logging import getLogger
from typing import Any, Final

from fastlib.message import Result
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api.context import ProgressFacts
from fastlib.migfra.telemetry.logs import About

from .descriptions import describe_task
from .jobs import Job, Member
from .results import NO_DOMAIN

log = getLogger("fastlib.migfra.task")

MAX_NOTE: Final = 1000
"""Maximum number of characters of one note."""
RETRY_PHASE: Final = "retry"
"""The phase by which `Context.retrying` reports a retry, which has a note of its own."""
_IN_PROGRESS: Final = "was in progress when the daemon ended; the daemon determines its state"
_LEVELS: Final = {
    "success": logging.INFO,
    "cancelled": logging.INFO,
    "expired": logging.WARNING,
    "error": logging.WARNING,
}


class Events:
    """The events of all members. Its methods may be called from any thread but `ended`."""

    def __init__(self, journal: Journal, loop: asyncio.AbstractEventLoop) -> None:
        self._journal = journal
        self._loop = loop

    def begun(self, job: Job, member: Member) -> None:
        """Log that a member acts on its domain from now on; the journal has noted it."""
        level = _level("success", job)
        if log.isEnabledFor(level):
            task = describe_task(member.task, member.domain)
            _log(level, job, member.domain, f"begins: {task}")

    def recovered(self, job: Job, member: Member) -> None:
        """Log and note that the daemon determines the state of a member of an earlier run."""
        task = describe_task(member.task, member.domain)
        _log(logging.INFO, job, member.domain, f"{_IN_PROGRESS}: {task}")
        self._note_soon(job, member, "recovered", _IN_PROGRESS, None)

    def phase(self, job: Job, member: Member, facts: ProgressFacts) -> None:
        """Log and note that a domain of a member has reached another phase."""
        place = "" if facts.position is None else f", place {facts.position}"
        domain = facts.vm_name or member.domain
        _log(logging.INFO, job, domain, f"{job.title}: phase {facts.phase}{place}")
        if facts.phase != RETRY_PHASE:
            self._note_soon(job, member, "phase", f"{facts.phase}{place}", facts.vm_name)

    def retried(self, job: Job, member: Member, text: str, vm_name: str | None) -> None:
        """Log and note a retry of a member, or of one domain of it; `text` has the reason."""
        what = f"{job.title} failed, {text}" if vm_name is None else f"{job.title}: {text}"
        _log(logging.WARNING, job, vm_name or member.domain, what)
        self._note_soon(job, member, "retry", text, vm_name)

    def ended(self, job: Job, member: Member, outcome: str, seconds: float) -> None:
        """Log and note that a member has ended after `seconds`, each domain with its reason."""
        domain, what = member.domain, job.title
        single = member.results[0] if len(member.results) == 1 else None
        kind = "expired" if outcome == "expired" else "ended"
        if single is not None and single.vm_name in (domain, NO_DOMAIN, None):
            reason = _reason(single)
            if domain is None:  # only its options name its domains
                what = describe_task(member.task, None)
        else:
            reason, what = _count(member.results), describe_task(member.task, None)
            for result in member.results:
                level = _LEVELS.get(str(result.status), logging.INFO)
                end = f"{result.status}{_reason(result)}"
                _log(level, job, result.vm_name, f"{job.title} ended with {end}")
                self._note(job, member, "ended", end, result.vm_name)
        end = f"{outcome} after {seconds:.3f} s{reason}"
        _log(_level(outcome, job), job, domain, f"{what} ended with {end}")
        if kind == "ended" and len(job.members) == 1:
            job.outcome = end[:MAX_NOTE]
        else:
            self._note(job, member, kind, end, None)

    def _note_soon(
        self, job: Job, member: Member, kind: str, text: str, vm_name: str | None
    ) -> None:
        """Note an event in the loop, whichever thread this is, and keep the order of events."""
        if job.number is not None:
            call_in_loop(self._loop, self._note, job, member, kind, text, vm_name)

    def _note(self, job: Job, member: Member, kind: str, text: str, vm_name: str | None) -> None:
        if job.number is not None:
            self._journal.note(job.number, member.position, kind, text[:MAX_NOTE], vm_name)


def call_in_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any
) -> None:
    """Call a function in the thread of the loop: at once in this thread, soon from another one."""
    try:
        is_here = asyncio.get_running_loop() is loop
    except RuntimeError:
        is_here = False
    if is_here:
        function(*arguments)
    else:
        loop.call_soon_threadsafe(function, *arguments)


def _log(level: int, job: Job, domain: str | None, text: str) -> None:
    if log.isEnabledFor(level):
        log.log(level, "%s", text, extra={"about": About(job.id, domain)})


def _level(outcome: str, job: Job) -> int:
    """Return the level of a line about a task: a query changes nothing and comes often."""
    is_query = job.number is None
    return logging.DEBUG if is_query and outcome == "success" else _LEVELS[outcome]


def _reason(result: Result) -> str:
    return f": {result.details}" if result.details else ""


def _count(results: tuple[Result, ...]) -> str:
    errors = sum(result.status == "error" for result in results)
    domains = "1 domain" if len(results) == 1 else f"{len(results)} domains"
    return f": {domains}, {len(results) - errors} with success, {errors} with an error"
