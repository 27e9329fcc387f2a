"""A migration in progress on a fake host (see fake_libvirt.py), in virtual time.

So a test chooses what libvirt says at which moment.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.migration.monitor import MigrationMonitor
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_libvirt import FakeHosts

T = TypeVar("T")

MIB = 1024 * 1024
LONGEST = 1000.0
"""Virtual seconds after which a scenario is given up."""


class Watched(FakeHosts):
    """A migration in progress, and its monitor. It must be made within the loop."""

    def __init__(self, *, saving: bool = False, moving: bool = True, **parameter: Any) -> None:
        super().__init__()
        parameter.setdefault("migration_type", "live")
        task = Migrate(vm_name="vm1", destination="node02", parameter=MigrateParameter(**parameter))
        self.loop = asyncio.get_running_loop()
        self.spec = MigrationSpec.from_task(task, self.runtime.host)
        self.end: asyncio.Future[None] = self.loop.create_future()
        self.scope = CancelScope(self.context)
        self.monitor = MigrationMonitor(
            self.runtime, self.spec, self.scope, self.context, saving=saving
        )
        self.at: dict[str, float] = {}
        """When something was done to the host."""
        self.domain.host.log = self._log  # type: ignore[method-assign]
        self.sends()
        if moving:
            self.domain.on["jobStats"] = self._move

    def sends(
        self,
        remaining: int = 100,
        *,
        total: int = 400,
        rate: int = 100,
        dirty: int = 100,
        iteration: int = 3,
    ) -> None:
        """Set the further reports of libvirt, in MiB and MiB a second."""
        self.domain.job = {
            "data_remaining": remaining * MIB,
            "data_processed": 300 * MIB,
            "data_total": total * MIB,
            "memory_iteration": iteration,
            "memory_bps": rate * MIB,
            "memory_dirty_rate": dirty * MIB // 4096,
            "memory_page_size": 4096,
        }

    def _move(self) -> None:
        assert self.domain.job is not None
        self.domain.job["data_processed"] += MIB

    def _log(self, what: str) -> None:
        self.calls.append(what)
        self.at[what] = self.loop.time()

    def ends(self, *_: object) -> None:
        """The call returns."""
        if not self.end.done():
            self.end.set_result(None)

    def ends_at(self, seconds: float) -> None:
        self.loop.call_at(seconds, self.ends)

    async def problem(self) -> HypervisorError | None:
        """The reason of the abort; None without one."""
        async with asyncio.timeout(LONGEST):
            with self.scope:
                return await self.monitor.wait(self.end)


def run_scenario(scenario: Callable[[Watched], Awaitable[T]], **parameter: Any) -> T:
    """Run a scenario with a watched migration, and return its result."""

    async def main() -> T:
        return await scenario(Watched(**parameter))

    return run_virtual(main())
