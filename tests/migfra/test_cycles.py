"""An order leaves no cycle of objects, in the daemon and in the client.

Python frees a cycle only when it looks for cycles, which takes a tenth of the time of an order, and
the memory of many orders.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from fastlib import Migrate, MigrateParameter, Start, Stop, Task, TaskContainer
from fastlib.client import AsyncMigfraClient, MigfraClient
from fastlib.message import Cancel, Query, ResultContainer
from fastlib.migfra import Context, Daemon
from fastlib.migfra.config.broker_hosts import BrokerHosts
from fastlib.migfra.config.sections import CommunicatorSection, RetrySection
from fastlib.migfra.plugin_api.expiry import Expiry
from fastlib.transport import MqttOptions
from tests.support.cycles import cycles
from tests.support.migfra.bench import HOST, configuration, order, patiently
from tests.support.migfra.scripted import Scripted, fail
from tests.support.mosquitto import PATIENCE, Mosquitto

Submit = Callable[[TaskContainer], Awaitable[ResultContainer]]

MANY = 10


class Forgetful(Scripted):
    """A hypervisor that keeps nothing of its calls."""

    async def _do(self, method: str, name: str, context: Context) -> object:
        try:
            return await super()._do(method, name, context)
        finally:
            self.contexts.clear()

    def stop(self, task: Stop, context: Context) -> object:
        try:
            return super().stop(task, context)
        finally:
            self.contexts.clear()


def raise_unexpectedly(_: Context) -> None:
    raise ZeroDivisionError("in the hypervisor")


async def in_a_thread(client: MigfraClient, container: TaskContainer) -> ResultContainer:
    return await asyncio.to_thread(lambda: client.submit(HOST, container).result(PATIENCE))


async def in_the_loop(client: AsyncMigfraClient, container: TaskContainer) -> ResultContainer:
    return await (await client.submit(HOST, container))


def with_daemon(
    broker: Mosquitto, path: Path, client: str, scene: Callable[[Submit], Awaitable[None]]
) -> None:
    """Play a scene with a daemon and a client of this process at mosquitto."""

    async def main() -> None:
        hypervisor = Forgetful()
        hypervisor.plan |= {
            "failing": fail(9), "failing-twice": fail(2), "unexpected": raise_unexpectedly,
        }  # fmt: skip
        options = MqttOptions(host="127.0.0.1", port=broker.port)
        retries = RetrySection(first=0.001, longest=0.001)
        daemon = Daemon(
            configuration(
                communicator=CommunicatorSection(
                    host=BrokerHosts(("127.0.0.1",)), port=broker.port
                ),
                retry=retries,
            ),
            hypervisor=hypervisor,
            journal=path / "journal",
        )
        async with daemon:
            if client == "async":
                async with await AsyncMigfraClient.connect(options, timeout=PATIENCE) as waiting:
                    await scene(partial(in_the_loop, waiting))
            else:
                with MigfraClient.connect(options, timeout=PATIENCE) as blocking:
                    await scene(partial(in_a_thread, blocking))

    asyncio.run(main())


def tasks(*members: Task) -> Callable[[], TaskContainer]:
    return lambda: TaskContainer(tasks=members)


def moved(name: str, retries: int) -> Migrate:
    parameter = MigrateParameter(retry_counter=retries)
    return Migrate(vm_name=name, destination="node02", parameter=parameter)


KINDS: dict[str, Callable[[], TaskContainer]] = {
    "success": tasks(Start(vm_name="vm1")),
    "in a thread": tasks(Stop(vm_name="vm1")),
    "several members": tasks(Start(vm_name="vm1"), Start(vm_name="vm2"), Start(vm_name="failing")),
    "error": tasks(Start(vm_name="failing")),
    "error in a thread": tasks(Stop(vm_name="failing")),
    "unexpected error": tasks(Start(vm_name="unexpected")),
    "retries": tasks(moved("failing-twice", retries=3)),
    "retries in vain": tasks(moved("failing", retries=1)),
    "measured": tasks(Start(vm_name="vm1", time_measurement=True)),
    "with an expiry": lambda: order(Start(vm_name="vm1"), expires=1000),
    "query": tasks(Query()),
    "cancel of nothing": tasks(Cancel(id="unknown")),
}


@pytest.mark.parametrize("client", ["threads", "async"])
def test_order_leaves_no_cycle(broker: Mosquitto, tmp_path: Path, client: str) -> None:
    left: dict[str, Counter[str]] = {}

    async def scene(submit: Submit) -> None:
        for kind, container in KINDS.items():
            await patiently(submit(container()))  # makes what the first order makes
            with cycles() as found:
                for _ in range(MANY):
                    await patiently(submit(container()))
            if any(count >= MANY // 2 for count in found.values()):
                left[kind] = found

    with_daemon(broker, tmp_path, client, scene)
    assert left == {}


def test_cycles_are_counted() -> None:
    with cycles() as found:
        expiry = Expiry()
        expiry.on_begin(expiry.begin)
        del expiry
    assert gc.isenabled()
    assert found == {"Expiry": 1, "Deadline": 1}
