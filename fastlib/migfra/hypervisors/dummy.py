"""The hypervisor dummy does nothing. Use it to try everything around a hypervisor."""

from typing import Annotated, ClassVar

from fastlib.codec.annotations import Wire
from fastlib.message import (
    Evacuate,
    Migrate,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    Task,
)
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.config_section import ConfigSection
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Hypervisor


class DummyOptions(ConfigSection):
    """The configuration keys of the dummy hypervisor, besides `type: dummy`."""

    never_throw: Annotated[bool, Wire("Whether every task succeeds; if not, every task fails.")] = (
        True
    )


class DummyHypervisor(Hypervisor):
    """Answers every task at once: with success, or with an error if `never-throw` is false."""

    name: ClassVar[str] = "dummy"
    Options: ClassVar[type[DummyOptions]] = DummyOptions

    async def start(self, task: Start, context: Context) -> None:
        self._end(task)

    async def stop(self, task: Stop, context: Context) -> None:
        self._end(task)

    async def suspend(self, task: Suspend, context: Context) -> None:
        self._end(task)

    async def resume(self, task: Resume, context: Context) -> None:
        self._end(task)

    async def repin(self, task: Repin, context: Context) -> None:
        self._end(task)

    async def migrate(self, task: Migrate, context: Context) -> None:
        self._end(task)

    async def evacuate(self, task: Evacuate, context: Context) -> None:
        self._end(task)

    async def recover(self, task: Task, context: Context) -> None:
        self._end(task)

    def _end(self, task: Task) -> None:
        """Raise HypervisorError unless `never-throw` is true."""
        if not self.options.never_throw:
            raise HypervisorError(
                f"the dummy hypervisor fails each task, {task.declaration.task} as well, as "
                "never-throw is false"
            )
