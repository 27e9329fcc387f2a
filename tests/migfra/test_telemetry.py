"""Reports of a daemon about itself: `query node`, progress, presence, log and metrics."""

import asyncio
import errno
import json
import logging
import re
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fastlib import (
    Migrate,
    Start,
    Stop,
)
from fastlib.message import NodeResult, Query, topics
from fastlib.message.node import Presence, Progress
from fastlib.migfra import Daemon
from fastlib.migfra.config.sections import MetricsSection
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.telemetry import metrics_server
from fastlib.migfra.telemetry.logs import JsonFormatter
from fastlib.migfra.virt.migration_limits import MigrationLimits
from fastlib.migfra.virt.migration_queue import Slot, slots_between
from tests.support.migfra.bench import (
    HOST,
    PATIENCE,
    Bench,
    Play,
    configuration,
    patiently,
)
from tests.support.migfra.scripted import Scripted, gate
from tests.support.mosquitto import free_port
from tests.support.waiting import wait_until_async


def test_query_reports_the_node(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        await bench.send(Start(vm_name="vm1"), "1")
        await patiently(begun.wait())
        answer = await bench.ask(Query(), "q")
        (result,) = answer.results
        assert isinstance(result, NodeResult)
        node = result.node
        assert node is not None
        assert (node.host, node.hypervisor, node.cpus) == (HOST, "scripted", 4)
        (task,) = node.tasks
        assert (task.id, task.vm_name, task.task, task.state) == ("1", "vm1", "start vm", "running")
        assert node.capabilities is not None
        assert node.capabilities["colour"] == "green"
        assert "migrate vm" in node.capabilities["tasks"]
        assert "repin vm" not in node.capabilities["tasks"]
        assert node.versions is not None
        assert "fastlib" in node.versions
        go.set()
        assert (await bench.result()).id == "1"

    play(scene)


def test_progress_rate_is_bounded(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        heard: list[Progress] = []

        async def hear(message: Any) -> None:
            heard.append(Progress.from_yaml(message.payload))

        await bench.scheduler.unsubscribe(topics.PROGRESS(HOST))
        await bench.scheduler.subscribe(topics.PROGRESS(HOST), hear)

        async def plan(context: Any) -> None:
            for number in range(1000):
                context.progress("copy", transferred=number, total=1000, dirty_rate=7)
            await wait_until_async(lambda: heard)
            for _ in range(1000):
                context.progress("switch over", percent=99.0)
            await wait_until_async(lambda: len(heard) == 2)

        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor, progress_interval=0.05)
        await bench.ask(Migrate(vm_name="vm1", destination="node02"), "m")
        first, second = heard
        assert (first.task, first.id, first.vm_name) == ("migrate vm", "m", "vm1")
        assert (first.phase, first.transferred, first.dirty_rate) == ("copy", 999, 7)
        assert (second.phase, second.percent) == ("switch over", 99)
        assert daemon.counters.migrated_bytes == 999

    play(scene)


def test_presence_follows_connection_and_end(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        async def heard() -> Presence:
            """Return the next presence, without claims of the host."""
            while True:
                message = await bench.received(topics.PRESENCE(HOST))
                presence = Presence.from_yaml(message.payload)
                if not presence.is_claim:
                    return presence

        async def becomes(status: str) -> None:
            """The next change; the same may be said twice."""
            while (await heard()).status != status:
                pass

        daemon = await bench.daemon()
        presence = await heard()
        assert (presence.status, presence.hypervisor) == ("online", "scripted")
        assert presence.version is not None
        assert presence.started == round(daemon.started, 6)
        # The connection breaks: the broker sends the last will, the daemon says otherwise.
        client = f"fast-migfra-{HOST}"
        bench.broker.cut(client)
        await becomes("offline")
        bench.broker.mend(client)
        await becomes("online")
        await patiently(daemon.close())
        await becomes("offline")
        late = await bench.daemon()
        await becomes("online")
        await patiently(late.kill())
        await becomes("offline")

    play(scene)


def test_query_is_an_error_when_capabilities_fail(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.capabilities = lambda: 1 / 0  # type: ignore[method-assign]
        await bench.daemon(hypervisor)
        answer = await bench.ask(Query(), "q")
        assert answer.results[0].status == "error"
        assert "ZeroDivisionError" in str(answer.results[0].details)

    play(scene)


def test_invalid_progress_does_not_harm_the_task(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        logged: list[int] = []

        async def plan(context: Any) -> None:
            context.progress("copy", transferred=-1)
            await asyncio.sleep(0)
            logged.append(1)

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        assert (await bench.ask(Start(vm_name="vm1"))).results[0].status == "success"
        assert logged

    play(scene)


def test_json_log_names_the_task(play: Play, tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("fastlib.migfra")
    level = logger.level

    async def scene(bench: Bench) -> None:
        await bench.daemon()
        answer = await bench.ask(Stop(vm_name="vm\n1"), "7")
        assert "cannot be the name of a domain" in str(answer.results[0].details)

    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        play(scene)
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    ended = next(line for line in lines if "ended with error" in line["message"])
    assert (ended["id"], ended["vm-name"], ended["level"]) == ("7", "vm\n1", "warning")


def read_metrics(port: int) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return str(response.read().decode())


def test_metrics_are_served(play: Play) -> None:
    port = free_port()

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm2"] = plan
        limits = MigrationLimits({Slot("node01", "outgoing"): 1})
        hypervisor.limits = limits
        daemon = await bench.daemon(hypervisor, metrics=MetricsSection(port=port))
        daemon.counters.migrated_bytes += 1000
        for _ in range(7):
            daemon.runtime.communicator._core._drops.add()
        await bench.ask(Start(vm_name="vm1"), "1")
        await wait_until_async(lambda: daemon.runtime.publisher.unconfirmed == 0)
        await bench.send(Migrate(vm_name="vm2", destination="node02"), "m")
        await patiently(begun.wait())
        slots = slots_between("node01", "node02")
        with CancelScope() as scope:
            async with limits.enqueued("vm3", slots, 1) as turn, limits.enqueued("vm4", slots, 1):
                assert await turn.try_to_begin(scope)
                text = await asyncio.to_thread(read_metrics, port)
        assert 'migfra_tasks_total{outcome="success",task="start vm"} 1.0' in text
        assert 'migfra_messages_total{kind="accepted"} 2.0' in text
        assert 'migfra_task_duration_seconds_count{task="start vm"} 1.0' in text
        assert "migfra_containers_at_work 1.0" in text
        assert "migfra_containers_waiting 0.0" in text
        assert "migfra_migrations_running 1.0" in text
        assert "migfra_migrations_queued 1.0" in text
        assert "migfra_answers_unconfirmed 0.0" in text
        assert "migfra_messages_dropped_total 7.0" in text
        assert "migfra_retries_total 0.0" in text
        assert "migfra_migrated_bytes_total 1000.0" in text
        assert "migfra_broker_connected 1.0" in text
        assert "migfra_journal_writable 1.0" in text
        started = re.search(r"^migfra_start_time_seconds (\S+)$", text, re.MULTILINE)
        assert started is not None
        assert float(started[1]) == daemon.started
        assert re.search(r"^migfra_journal_bytes [1-9]", text, re.MULTILINE)
        assert text.endswith("# EOF\n")
        other = Daemon(
            configuration(metrics=MetricsSection(port=port), hostname="node02"),
            communicator=bench.broker,
            in_memory=True,
        )
        with pytest.raises(OSError, match=f"metrics cannot be served at 127.0.0.1 port {port}"):
            await patiently(other.open())
        go.set()
        assert (await bench.result()).id == "m"

    play(scene)
    with pytest.raises(OSError, match="refused"):
        read_metrics(port)  # the server ends with the daemon


def test_metrics_are_served_without_a_number_that_cannot_be_read(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor, metrics=MetricsSection(port=port))
        for _ in range(2):
            text = await asyncio.to_thread(read_metrics, port)
        assert "migfra_journal_writable 1.0" in text
        assert "migfra_journal_bytes" not in text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "size", lambda journal: 1 // 0)
        play(scene)
    text = "the metric migfra_journal_bytes cannot be read: ZeroDivisionError"
    assert caplog.text.count(text) == 1


def test_silent_client_of_the_metrics_blocks_neither_others_nor_the_end(
    play: Play,
) -> None:
    port = free_port()

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(metrics=MetricsSection(port=port))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        assert "migfra_journal_writable 1.0" in await asyncio.to_thread(read_metrics, port)
        await patiently(daemon.close())
        for connection in idle:
            connection.close()
        assert daemon.failure is None

    play(scene)


def test_metrics_are_served_again_after_connections_could_not_be_accepted(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As without a free file descriptor."""
    port = free_port()
    monkeypatch.setattr(metrics_server, "PAUSE_SECONDS", 0.0)
    accept, failures = socket.socket.accept, iter([True, True])

    def fails_twice(self: socket.socket) -> Any:
        if self.getsockname()[1] == port and next(failures, False):
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(self)

    async def scene(bench: Bench) -> None:
        monkeypatch.setattr(socket.socket, "accept", fails_twice)
        await bench.daemon(metrics=MetricsSection(port=port))
        assert "migfra_journal_writable 1.0" in await asyncio.to_thread(read_metrics, port)
        assert caplog.text.count("connections cannot be accepted: [Errno 24]") == 1
        assert caplog.text.count("connections can be accepted again") == 1

    play(scene)
