"""The phases that a task reports, none of which a slow test can miss."""

from typing import Any

from tests.support.waiting import wait_until

PHASE_PATIENCE = 120.0
"""Seconds until a phase that is not reported fails the test."""


class Phases:
    """Records the phases of a task in the order of its reports."""

    def __init__(self, handle: Any) -> None:
        """Make it right after the order: earlier phases than the current one are not recorded."""
        self._handle = handle
        self._next = 0
        self._seen: list[str] = []
        handle.on_progress(lambda progress: self._seen.append(progress.phase))
        if handle.progress is not None:
            self._seen.insert(0, handle.progress.phase)

    def __contains__(self, phase: str) -> bool:
        return phase in self._seen

    def forget(self) -> None:
        """Await only later reports from now on."""
        self._next = len(self._seen)

    def wait_for(self, phase: str) -> None:
        """Wait for a report of a phase after the report that was awaited last.

        The task may have left the phase already, but must not have ended.
        """

        def is_reported() -> bool:
            return phase in self._seen[self._next :] or self._handle.done()

        wait_until(is_reported, lambda: f"it is {phase}: {self._seen}", PHASE_PATIENCE)
        assert not self._handle.done(), (self._handle.result(1), self._seen)
        self._next = self._seen.index(phase, self._next) + 1
