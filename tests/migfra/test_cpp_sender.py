"""Orders like those of the C++ clients, over a real mosquitto: one id for all, and no key."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlib.migfra import Daemon
from fastlib.migfra.config.sections import JournalSection
from fastlib.transport import MqttOptions
from tests.support.migfra.bench import configuration
from tests.support.migfra.cpp_sender import CppSender
from tests.support.migfra.program import Program, program
from tests.support.migfra.scripted import Scripted
from tests.support.mosquitto import Mosquitto
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until, wait_until_async

HOST = "node01"
WINDOW = 120.0
"""Seconds of `repetition-window`: longer than a repetition takes on a busy machine."""
SHORT_WINDOW = 0.1
"""Seconds of `repetition-window`: short to wait for."""
IN_ORDER = "concurrent-execution: false\n"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def window() -> float:
    """The `repetition-window`; a test may override it."""
    return WINDOW


@pytest.fixture
def migfra(tmp_path: Path, broker: Mosquitto, window: float) -> Iterator[Program]:
    with program(tmp_path, broker.port) as migfra:
        text = migfra.configuration.read_text()
        bounded = text.replace("journal: {", f"journal: {{repetition-window: {window}, ")
        assert bounded != text
        migfra.configuration.write_text(bounded)
        migfra.start()
        yield migfra


def begun(migfra: Program) -> int:
    return migfra.done().count("begin vm1")


@pytest.mark.parametrize("qos", [1, 2])
def test_each_of_start_stop_start_stop_is_executed(
    broker: Mosquitto, migfra: Program, qos: int
) -> None:
    with CppSender(broker.port, HOST, qos=qos) as sender:
        orders = [sender.text(task, "vm1", IN_ORDER) for task in ("start vm", "stop vm")] * 2
        for text in orders:  # quickly
            sender.send(text)
        quick = list(sender.wait_for_answers(4))
        slow = [sender.ask(text) for text in orders]
        for answers in (quick, slow):
            assert [answer.result for answer in answers] == ["vm started", "vm stopped"] * 2
            assert {(answer.id, answer.executed) for answer in answers} == {(":-)", None)}
        assert begun(migfra) == 8
        # The same order once more, and nothing else between.
        again = sender.ask(orders[-1])
        assert (again.result, again.executed is None) == ("vm stopped", False)
        assert begun(migfra) == 8


@pytest.mark.parametrize("window", [SHORT_WINDOW])
@pytest.mark.parametrize("qos", [1, 2])
def test_order_after_the_window_is_no_repetition(
    broker: Mosquitto, migfra: Program, qos: int
) -> None:
    with CppSender(broker.port, HOST, qos=qos) as sender:
        order = sender.text("stop vm", "vm1", IN_ORDER)
        for count in (1, 2):
            answer = sender.ask(order)
            assert (answer.result, answer.executed) == ("vm stopped", None)
            assert begun(migfra) == count
            time.sleep(SHORT_WINDOW)  # then the same bytes are a new order


@pytest.mark.parametrize("qos", [1, 2])
def test_order_is_executed_once_although_the_connection_is_cut(
    broker: Mosquitto, migfra: Program, qos: int, request: pytest.FixtureRequest
) -> None:
    """The library sends unconfirmed messages again. To the broker they are new messages."""
    count = 400 if request.config.getoption("--long") else 12
    dice = random.Random(qos)
    with (
        Proxy(broker.port) as proxy,
        CppSender(proxy.port, HOST, qos=qos, answers_port=broker.port) as sender,
    ):
        for number in range(count):
            # Within the order, or within its confirmation.
            direction, most = dice.choice([("up", 120), ("down", 6)])
            proxy.cut_after(dice.randrange(1, most), direction)
            sender.send(sender.text(("start vm", "stop vm")[number % 2], "vm1", IN_ORDER))
        wait_until(lambda: len(first_answers(sender)) == count, "all answers")
        assert proxy.cuts >= count // 2
    assert first_answers(sender) == ["vm started", "vm stopped"] * (count // 2)
    assert begun(migfra) == count


def first_answers(sender: CppSender) -> list[str]:
    """Return the titles of the answers that do not come from the journal."""
    return [answer.result for answer in sender.answers if answer.executed is None]


@pytest.mark.parametrize("qos", [pytest.param(1, marks=pytest.mark.load), 2])
def test_order_is_executed_once_although_the_daemon_is_killed(
    broker: Mosquitto, migfra: Program, qos: int, request: pytest.FixtureRequest
) -> None:
    count = 20 if request.config.getoption("--long") else 2
    dice = random.Random(qos)
    names = [f"vm{number}" for number in range(4 * count)]
    with CppSender(broker.port, HOST, qos=qos) as sender:
        for number in range(count):
            killing = threading.Timer(dice.uniform(0.0, 0.02), migfra.kill)
            killing.start()
            for name in names[4 * number : 4 * number + 4]:
                sender.send(sender.text("start vm", name))
            killing.join()
            migfra.start()
        wait_until(lambda: {answer.results[0].vm_name for answer in sender.answers} == set(names))
        assert {answer.results[0].status for answer in sender.answers} == {"success"}
    begun = [line.removeprefix("begin ") for line in migfra.done() if line.startswith("begin")]
    assert sorted(begun) == sorted(names)


def test_broker_repeats_packets_and_none_is_executed_twice(
    tmp_path: Path, broker: Mosquitto, request: pytest.FixtureRequest
) -> None:
    """All orders have the same bytes. Only their packets distinguish them."""
    count = 5_000 if request.config.getoption("--long") else 150
    dice = random.Random(1)
    hypervisor = Scripted()

    async def main(proxy: Proxy, sender: CppSender) -> None:
        daemon = Daemon(
            configuration(journal=JournalSection(repetition_window=0.0)),
            communicator=MqttOptions(
                host="127.0.0.1", port=proxy.port, client_id="daemon", persistent=True,
                retry_min=0.05, retry_max=0.1,
            ),
            hypervisor=hypervisor,
            journal=tmp_path / "own journal",
        )  # fmt: skip
        async with daemon:
            for number in range(count):
                if number % 25 == 10:
                    direction, most = dice.choice([("up", 40), ("down", 800)])
                    proxy.cut_after(dice.randrange(1, most), direction)
                await asyncio.to_thread(sender.send, sender.text("stop vm", "vm1"))
            # Answers may come twice, as their confirmations are cut as well. The last order comes
            # after everything that the broker repeats.
            await asyncio.to_thread(sender.send, sender.text("start vm", "vm1"))
            await wait_until_async(lambda: "vm started" in first_answers(sender), "the last answer")

    with (
        Proxy(broker.port) as proxy,
        CppSender(broker.port, HOST) as sender,
    ):
        asyncio.run(main(proxy, sender))
        assert proxy.cuts >= count // 25
    assert Counter(hypervisor.calls) == {("stop", "vm1"): count, ("start", "vm1"): 1}
