"""A list of steps that a task has done. Undo runs it backwards."""

from collections.abc import Awaitable, Callable
from typing import Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context


class Undo:
    """A list of steps that can be taken back."""

    def __init__(self, context: Context) -> None:
        self._context: Final = context
        self._steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def add(self, what: str, step: Callable[[], Awaitable[object]]) -> None:
        """Remember how a step is taken back; `what` says it in the infinitive, for the error."""
        self._steps.append((what, step))

    async def all(self) -> list[str]:
        """Take everything back; what could not be, in words. What is unexpected is logged."""
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
