"""What the tests with libvirt's driver `test` share, which is within the process."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from fastlib import Task, TimeMeasurement
from fastlib.migfra import Context, DaemonServices
from fastlib.migfra.hypervisors.libvirt import LibvirtHypervisor, LibvirtOptions
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.hypervisor import NodeContext, method_name

PATIENCE = 30.0
XML = """<domain type='test'>
  <name>{name}</name>
  <memory unit='KiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <os><type>hvm</type></os>
</domain>"""
HOST = """<node>
  <cpu><mhz>6000</mhz><model>any</model><active>8</active><nodes>2</nodes><sockets>2</sockets>
    <cores>2</cores><threads>1</threads></cpu>
  <memory>6000000</memory>
</node>"""


def domain(name: str = "vm1", memory: int = 65536, vcpus: int = 2) -> str:
    return XML.format(name=name, memory=memory, vcpus=vcpus)


class Desk:
    """A hypervisor with the driver `test`, and what it is asked."""

    def __init__(self, hypervisor: LibvirtHypervisor, notes: dict[str, Any] | None = None) -> None:
        self.hypervisor = hypervisor
        self.phases: list[str] = []

    def context(self, cancellation: Cancellation | None = None, **notes: Any) -> Context:
        return Context(
            "node01",
            cancellation=cancellation,
            saved_state=notes,
            measurement=TimeMeasurement(),
            services=DaemonServices(report=lambda facts: self.phases.append(facts.phase)),
        )

    async def do(self, task: Task, context: Context | None = None) -> Any:
        method = getattr(self.hypervisor, method_name(type(task)))
        async with asyncio.timeout(PATIENCE):
            return await method(task, context or self.context())

    async def recover(self, task: Task, **notes: Any) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await self.hypervisor.recover(task, self.context(**notes))

    async def state(self, name: str) -> str | None:
        from fastlib.message.tasks import Query

        report = await self.do(Query())
        return next((each.state for each in report.domains if each.name == name), None)


def play(scene: Callable[[Desk], Coroutine[Any, Any, None]], path: Any, **options: Any) -> None:
    """Plays a scene on a host that has no domains yet."""
    host = path / f"{uuid.uuid4().hex}.xml"
    host.write_text(HOST)

    async def main() -> None:
        told = LibvirtOptions(driver="test", local_uri=f"test://{host}", **options)
        hypervisor = LibvirtHypervisor(told, NodeContext("node01"))
        await hypervisor.open()
        try:
            await scene(Desk(hypervisor))
        finally:
            await hypervisor.close()

    asyncio.run(main())
