"""Shared parts of the tests with libvirt's driver `test`, which runs in the process."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from fastlib import Task, TimeMeasurement
from fastlib.migfra import Context, DaemonServices
from fastlib.migfra.hypervisors.libvirt import LibvirtHypervisor, LibvirtOptions
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.hypervisor import NodeContext, method_name

PATIENCE_SECONDS = 30.0
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


class HypervisorRunner:
    """A hypervisor with the driver `test`, and its calls."""

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
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await method(task, context or self.context())

    async def recover(self, task: Task, **notes: Any) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.hypervisor.recover(task, self.context(**notes))

    async def state(self, name: str) -> str | None:
        from fastlib.message.tasks import Query

        report = await self.do(Query())
        return next((each.state for each in report.domains if each.name == name), None)


def run_scenario(
    scenario: Callable[[HypervisorRunner], Coroutine[Any, Any, None]], path: Any, **parameters: Any
) -> None:
    """Plays a scenario on a host that has no domains yet."""
    host = path / f"{uuid.uuid4().hex}.xml"
    host.write_text(HOST)

    async def main() -> None:
        parameters.setdefault("probe_hosts", ["127.0.0.1"])
        parameters.setdefault("local_uri", f"test://{host}")
        options = LibvirtOptions(driver="test", **parameters)
        hypervisor = LibvirtHypervisor(options, NodeContext("node01"))
        await hypervisor.open()
        try:
            await scenario(HypervisorRunner(hypervisor))
        finally:
            await hypervisor.close()

    asyncio.run(main())
