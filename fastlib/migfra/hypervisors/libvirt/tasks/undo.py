"""A list of a task's steps, each with its undo."""

from collections.abc import Awaitable, Callable
from typing import Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context


class Undo:
    """The undo of each step that a task has done. The last step is undone first."""

    def __init__(self, context: Context) -> None:
        self._context: Final = context
        self._steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def add(self, what: str, step: Callable[[], Awaitable[object]]) -> None:
        """Add the undo of a step. `what` names it in the infinitive, for the error."""
        self._steps.append((what, step))

    async def all(self) -> list[str]:
        """Undo all steps. Returns the failures, in words. Logs unexpected errors."""
        problems = []
        while self._steps:
            what, step = self._steps.pop()
            try:
                await step()
            except HypervisorError as error:
                problems.append(f"could not {what}: {error}")
            except Exception as error:
                self._context.log.exception("could not %s", what)
                problems.append(f"could not {what}: {type(error).__name__}: {error}")
        return problems
