"""Typical code of a scheduler with the client; `test_typing.py` runs mypy over it."""

from collections.abc import Mapping
from typing import assert_type

from fastlib import (
    HistoryResult,
    Message,
    Quit,
    Result,
    ResultContainer,
    Start,
    SwapWith,
    TaskContainer,
)
from fastlib.client import (
    AsyncHandle,
    AsyncMigfraClient,
    AsyncWatch,
    Handle,
    MigfraClient,
    NoResultError,
    Watch,
)
from fastlib.message import MigrationResult
from fastlib.message.node import NodeReport, NodeResult, Presence, Progress
from fastlib.transport import Communicator, MqttOptions


def scheduler(communicator: Communicator) -> None:
    with MigfraClient(communicator, timeout=None) as client:
        assert_type(client, MigfraClient)
        handle = client.submit("hostA", TaskContainer(tasks=[Quit()]), timeout=3)
        assert_type(handle, Handle[ResultContainer])
        assert_type(handle.result(timeout=1.5), ResultContainer)
        client.submit("hostA", [Start(vm_name="a"), Start(vm_name="b")])
        client.submit("hostA", Quit(), id="mine", on_progress=lambda progress: None)

        moved = client.migrate(
            "vm1", "hostA", "hostB", migration_type="live", swap_with="vm2", retry_counter=2
        )
        assert_type(moved, Handle[MigrationResult])
        client.migrate("vm1", "hostA", "hostB", swap_with=SwapWith(vm_name="vm2"))
        assert_type(client.stop("hostA", "vm1", force=True), Handle[Result])
        assert_type(client.stop("hostA", regex="vm.*"), Handle[tuple[Result, ...]])
        assert_type(client.evacuate("hostA", ["hostB"]).result(), tuple[MigrationResult, ...])
        assert_type(client.query("hostA").result(), NodeResult)
        node: NodeReport | None = client.query("hostA").result().node
        del node
        assert_type(client.history("hostA", vm_name="vm1").result(), HistoryResult)

        assert_type(moved.result(check=True), MigrationResult)
        assert_type(moved.result().raise_for_status(), MigrationResult)
        assert_type(client.query("hostA").result().raise_for_status(host="hostA"), NodeResult)
        moved.on_progress(show)
        assert_type(moved.progress, Progress | None)
        assert_type(moved.cancel(), Handle[Result])
        moved.add_done_callback(done)
        try:
            moved.result()
        except NoResultError as error:
            print(error.request.container.tasks)

        assert_type(client.watch(), Watch[ResultContainer])
        assert_type(client.watch(tasks=True), Watch[Message])
        for observed in client.watch():
            assert_type(observed.message, ResultContainer | None)
        assert_type(client.presences, Mapping[str, Presence])


async def coroutine(options: MqttOptions) -> None:
    async with await AsyncMigfraClient.connect(options) as client:
        assert_type(client, AsyncMigfraClient)
        handle = await client.start("hostA", "vm1", memory=1024)
        assert_type(handle, AsyncHandle[Result])
        assert_type(await handle, Result)
        assert_type(await handle.result(3), Result)
        assert_type(await (await client.stop("hostA", regex="a")), tuple[Result, ...])
        watch = await client.watch()
        assert_type(watch, AsyncWatch[ResultContainer])
        async for observed in watch:
            assert_type(observed.message, ResultContainer | None)


def show(progress: Progress) -> None:
    print(progress.phase, progress.percent)


def done(handle: Handle[Result]) -> None:
    print(handle.result().status)
