"""Report unexpected errors. Without a report an error would be lost, and the daemon could hang."""

import asyncio
from collections.abc import Callable
from logging import getLogger

log = getLogger("fastlib.migfra")

OnFailure = Callable[[str, BaseException], object]
"""Called with the part of the daemon that failed and its error. The daemon ends then."""


def log_failure(part: str, error: BaseException) -> None:
    """Log an unexpected error of a part of the daemon. The default in parts without a daemon."""
    log.critical("%s failed unexpectedly: %s", part, describe(error), exc_info=error)


def describe(error: BaseException) -> str:
    """Return the type and the text of an error, on one line."""
    try:
        text = str(error)
    except Exception as second:  # the `__str__` of a plug-in's exception may fail
        text = f"the text of the error cannot be formatted ({type(second).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def report_failure(task: "asyncio.Future[None]", part: str, on_failure: OnFailure) -> None:
    """Report the error of a task that no caller awaits. A cancelled task has none."""

    def ended(task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_failure(part, error)

    task.add_done_callback(ended)
