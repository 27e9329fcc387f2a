"""Log how a task has ended: a line for the task, and one for each of several domains."""

import logging
from logging import getLogger
from typing import Final

from fastlib.message import Result
from fastlib.migfra.telemetry.logs import About

from .descriptions import describe_task
from .jobs import Job, Member
from .results import NO_DOMAIN

log = getLogger("fastlib.migfra.task")

_LEVELS: Final = {
    "success": logging.INFO,
    "cancelled": logging.INFO,
    "expired": logging.WARNING,
    "error": logging.WARNING,
}


def log_end(job: Job, member: Member, outcome: str, seconds: float) -> None:
    """Log the outcome of a member after so many seconds, with the reason of each error."""
    domain, what = member.domain, job.title
    single = member.results[0] if len(member.results) == 1 else None
    if single is not None and single.vm_name in (domain or NO_DOMAIN, None):
        reason = _reason(single)
    else:
        reason, what = _count(member.results), describe_task(member.task, None)
        for result in member.results:
            log.log(
                _LEVELS.get(str(result.status), logging.INFO),
                "%s ended with %s%s", job.title, result.status, _reason(result),
                extra={"about": About(job.id, result.vm_name)},
            )  # fmt: skip
    log.log(
        _LEVELS[outcome], "%s ended with %s after %.3f s%s", what, outcome, seconds, reason,
        extra={"about": About(job.id, domain)},
    )  # fmt: skip


def _reason(result: Result) -> str:
    return f": {result.details}" if result.details else ""


def _count(results: tuple[Result, ...]) -> str:
    errors = sum(result.status == "error" for result in results)
    return f": {len(results)} domains, {len(results) - errors} with success, {errors} with an error"
