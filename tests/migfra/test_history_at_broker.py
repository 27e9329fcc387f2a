"""`fastlib log` and `client.history` with `migfra`, a process, and a real mosquitto."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlib import HistoryResult, Start, Stop, TaskContainer
from fastlib.cli import host_search
from fastlib.cli.commands import log
from fastlib.client import AsyncMigfraClient, MigfraClient
from fastlib.transport import Communicator, MqttOptions
from tests.support.migfra.program import Program, program
from tests.support.migfra.scheduler import ask, forget, result, scheduler_at, until_presence
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.shell import address, run
from tests.support.waiting import wait_until


@pytest.fixture
def scheduler(broker: Mosquitto) -> Iterator[Communicator]:
    with scheduler_at(broker) as scheduler:
        yield scheduler


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no presence that this broker sends later, and long for answers."""
    monkeypatch.setattr(host_search, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(log, "ANSWER_SECONDS", float(PATIENCE))


def send(scheduler: Communicator, task: Start | Stop, id: str) -> None:
    ask(scheduler, TaskContainer(tasks=[task], id=id))


def logged(broker: Mosquitto, *arguments: object) -> tuple[int, str, str]:
    """Return the exit status of `fastlib log`, its output as one line, and its errors."""
    done = run("log", *arguments, env=address(broker))
    return done.returncode, " ".join(done.stdout.split()), done.stderr


def begun(migfra: Program, name: str) -> None:
    wait_until(lambda: f"begin {name}" in migfra.done())


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.load), signal.SIGKILL]
)
def test_order_is_followed_over_the_end_of_its_daemon(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator, number: signal.Signals
) -> None:
    forget(broker)
    gate = tmp_path / "gate"
    settings = "shutdown-timeout: 0.05\n"
    with program(tmp_path, broker.port, settings, gate=gate) as migfra:
        migfra.start()
        send(scheduler, Start(vm_name="vm1"), ":-)")
        begun(migfra, "vm1")
        status, text, errors = logged(broker, "vm1")
        assert (status, errors) == (0, "")
        assert text.startswith("'start vm' of vm1 on node01 is running, begun at ")

        migfra.send(number)
        migfra.wait()
        until_presence(scheduler, "offline")
        status, text, errors = logged(broker, "vm1")
        assert (status, text) == (3, "")
        assert "node01: it is offline" in errors

        gate.touch()
        migfra.start()
        while (answer := result(scheduler)).id != ":-)":
            pass  # it is that of a question of `fastlib log`
        assert answer.results[0].status == "success"
        status, text, errors = logged(broker, ":-)", "--host", "node01", "--full")
        assert (status, errors) == (0, "")
        assert text.startswith("'start vm' of vm1 on node01 succeeded at ")
        assert text.index(" accepted") < text.index(" begun") < text.index(" answered")
        assert "task: start vm" in text


def test_history_distinguishes_orders_with_the_same_id(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator
) -> None:
    forget(broker)
    with program(tmp_path, broker.port) as migfra:
        migfra.start()
        for task in (Start(vm_name="vm1"), Stop(vm_name="vm1")) * 2:
            send(scheduler, task, "test-id")
            result(scheduler)
        status, text, _ = logged(broker, "test-id", "--host", "node01")
        assert status == 0
        assert text.startswith("'stop vm' of vm1 on node01 succeeded at ")
        assert "3 other orders, the newest first" in text
        assert (text.count("'start vm'"), text.count("'stop vm'")) == (2, 2)


def test_deleted_journal_says_since_when_it_does_not_know_orders(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator
) -> None:
    forget(broker)
    with program(tmp_path, broker.port) as migfra:
        migfra.start()
        send(scheduler, Stop(vm_name="vm1"), "s1")
        result(scheduler)
        assert logged(broker, "s1")[0] == 0
        migfra.terminate()
        for file in tmp_path.glob("journal*"):
            file.unlink()
        migfra.start()
        status, text, _ = logged(broker, "s1")
        assert status == 1
        assert (
            "'s1' is known on node01. Its journal has every order that was accepted since 20"
            in text
        )


def test_both_clients_ask_a_daemon(
    tmp_path: Path, broker: Mosquitto, scheduler: Communicator
) -> None:
    forget(broker)
    options = MqttOptions(host="127.0.0.1", port=broker.port)

    async def ask_async() -> HistoryResult:
        async with await AsyncMigfraClient.connect(options) as client:
            return await (await client.history("node01", order_id="s1", timeout=PATIENCE))

    with program(tmp_path, broker.port) as migfra:
        migfra.start()
        send(scheduler, Stop(vm_name="vm1"), "s1")
        result(scheduler)
        with MigfraClient.connect(options) as client:
            one = client.history("node01", order_id="s1", timeout=PATIENCE).result()
        other = asyncio.run(ask_async())
    for found in (one, other):
        assert found.history is not None
        assert [order.id for order in found.history.orders] == ["s1"]
