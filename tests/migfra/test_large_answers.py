"""Tests of answers that the broker does not take: shortened, stored, and sent once."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fastlib import QueryHistory, Result, ResultContainer, Start, TaskContainer
from fastlib.message import HistoryReport, HistoryResult, OrderReport, TimeMeasurement, Timing
from fastlib.migfra import Daemon, HypervisorError
from fastlib.migfra.tasks.results import write
from fastlib.migfra.tasks.shortening import LEAST, room_for, shortened
from fastlib.transport import MemoryBroker, MqttOptions
from tests.support.migfra.bench import HOST, Bench, Play, configuration, patiently
from tests.support.migfra.scheduler import ask, forget, result, scheduler_at
from tests.support.migfra.scripted import Scripted
from tests.support.mosquitto import Mosquitto

LIMIT = 20_000
BIG = [f"big{number}" for number in range(8)]
"""Domains whose results are too large together."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    settings = (f"max_packet_size {LIMIT}",)
    with Mosquitto(tmp_path_factory.mktemp("small"), settings=settings) as broker:
        yield broker


def answer(*results: Result, title: str = "vm started") -> bytes:
    return write(ResultContainer(result=title, id="7", results=results))


def failed(name: str, characters: int) -> Result:
    return Result(vm_name=name, status="error", details="ä" * characters)


def read(payload: bytes | None, most: int) -> ResultContainer:
    assert payload is not None
    assert len(payload) <= most
    return ResultContainer.from_yaml(payload)


def test_details_are_cut_and_the_rest_stays() -> None:
    whole = answer(failed("vm1", 30_000), Result(vm_name="vm2", status="success", details="fine"))
    found = read(shortened(whole, 19_000), 19_000)
    assert (found.result, found.id) == ("vm started", "7")
    first, second = found.results
    assert (first.vm_name, first.status) == ("vm1", "error")
    assert str(first.details).startswith("ä" * 4000 + "…")
    assert f"shortened: the whole answer has {len(whole)} bytes" in str(first.details)
    assert second == Result(vm_name="vm2", status="success", details="fine")


def test_success_stays_a_success() -> None:
    timers = TimeMeasurement({f"timer{n}": Timing(wall=1.0) for n in range(500)})
    whole = answer(Result(vm_name="vm1", status="success", details="1", time_measurement=timers))
    (found,) = read(shortened(whole, 1000), 1000).results
    assert (found.vm_name, found.status) == ("vm1", "success")
    assert str(found.details).startswith("1 [shortened: ")


@pytest.mark.parametrize("most", [300, 1000, 60_000])
def test_many_results_keep_the_first(most: int) -> None:
    whole = answer(*(failed(f"vm{number}", 100) for number in range(300)))
    found = read(shortened(whole, most), most)
    assert found.results[0].vm_name == "vm0"
    assert {one.status for one in found.results} == {"error"}
    if len(found.results) < 300:
        left = 300 - len(found.results)
        assert f"{left} more results are left out" in str(found.results[0].details)


def test_history_keeps_its_newest_orders() -> None:
    now = datetime.now(UTC)
    orders = [
        OrderReport(number=1000 - n, accepted=now, state="ended", id="x" * 100) for n in range(100)
    ]
    report = HistoryReport(host=HOST, since=now, time=now, orders=orders)
    whole = answer(HistoryResult(status="success", history=report), title="history queried")
    (found,) = read(shortened(whole, 4000), 4000).results
    assert isinstance(found, HistoryResult)
    assert found.history is not None
    assert found.history.more
    assert [order.number for order in found.history.orders][:2] == [1000, 999]
    assert 5 < len(found.history.orders) < 50


@pytest.mark.parametrize(
    ("payload", "most"), [(answer(failed("vm1", 9)), LEAST - 1), (b"of a plug-in: [", 9000)]
)
def test_answer_that_cannot_be_shortened(payload: bytes, most: int) -> None:
    assert shortened(payload, most) is None


def test_room_for_an_answer() -> None:
    assert room_for(30_000, 30_040, 20_000) == 19_960
    assert room_for(30_000, 30_040, None) == 7500


def too_much(*_: Any) -> None:
    raise HypervisorError("x" * 30_000)


async def run(broker: Mosquitto, journal: Path, protocol: Any, scene: Any, **more: Any) -> None:
    hypervisor = Scripted()
    hypervisor.plan.update(dict.fromkeys(BIG, too_much))
    fixed = {"host": "127.0.0.1", "port": broker.port, "client_id": "fast-migfra-node01"}
    options = MqttOptions(
        protocol=protocol, persistent=True, retry_min=0.02, retry_max=0.2, **(fixed | more)
    )
    daemon = Daemon(configuration(), communicator=options, hypervisor=hypervisor, journal=journal)
    await patiently(daemon.open())
    try:
        await asyncio.to_thread(scene)
    finally:
        await patiently(daemon.close())


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_daemon_continues_after_an_answer_above_the_limit(
    tmp_path: Path, broker: Mosquitto, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The next run does not send it again, and sends the short one for a repeated order."""
    forget(broker)
    with scheduler_at(broker) as scheduler:
        order = TaskContainer(
            tasks=[Start(vm_name=name) for name in BIG], id="1", idempotency_key="k1"
        )

        def first() -> None:
            ask(scheduler, order)
            ask(scheduler, Start(vm_name="small"), "2")
            answers = {(one := result(scheduler)).id: one.results[0] for _ in range(2)}
            assert answers["2"].status == "success"
            assert answers["1"].status == "error"
            assert "shortened: the whole answer has" in str(answers["1"].details)

        asyncio.run(run(broker, tmp_path / "journal", protocol, first))
        assert "a shorter answer of" in caplog.text
        caplog.clear()

        def second() -> None:
            ask(scheduler, Start(vm_name="small"), "3")
            assert result(scheduler).id == "3"
            ask(scheduler, order)
            again = result(scheduler)
            assert (again.id, again.results[0].status) == ("1", "error")
            assert "shortened" in str(again.results[0].details)

        asyncio.run(run(broker, tmp_path / "journal", protocol, second))
        assert "too large" not in caplog.text


def test_answer_of_an_earlier_run_that_is_too_large_is_shortened_at_the_start(
    tmp_path: Path, broker: Mosquitto, play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """An earlier version has left it in the journal."""
    forget(broker)

    async def leave(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan.update(dict.fromkeys(BIG, too_much))
        daemon = await bench.daemon(hypervisor)
        daemon._runtime.publisher.put = lambda *_, **__: None  # type: ignore
        await bench.send(TaskContainer(tasks=[Start(vm_name=name) for name in BIG], id="1"))
        async with asyncio.timeout(30):
            while not await daemon._runtime.journal.unconfirmed():  # type: ignore
                await asyncio.sleep(0.01)

    play(leave)
    with scheduler_at(broker) as scheduler:

        def scene() -> None:
            found = result(scheduler)
            assert (found.id, found.results[0].status) == ("1", "error")
            assert "shortened" in str(found.results[0].details)

        asyncio.run(run(broker, tmp_path / "journal", "5", scene))


def test_answer_that_cannot_be_shortened_is_given_up(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that takes nothing of use must not make the daemon send for ever."""
    caplog.set_level(logging.ERROR)

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        hypervisor.plan.update(dict.fromkeys(BIG, too_much))
        daemon = await bench.daemon(hypervisor)
        bench.broker.largest_packet = 200
        await bench.send(TaskContainer(tasks=[Start(vm_name="big0")], id="1"))
        async with asyncio.timeout(30):
            while "the answer cannot be shortened and is dropped" not in caplog.text:
                await asyncio.sleep(0.01)
        bench.broker.largest_packet = None
        assert (await bench.ask(Start(vm_name="small"), "2")).id == "2"
        assert daemon.ended.is_set() is False

    play(scene)


def test_history_that_is_too_large_is_answered_with_the_newest_orders(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        for number in range(12):
            await bench.ask(Start(vm_name=f"vm{number}"), str(number))
        bench.broker.largest_packet = 3000
        answered = await bench.ask(QueryHistory(limit=100), "history")
        (found,) = answered.results
        assert isinstance(found, HistoryResult)
        assert found.history is not None
        assert found.history.orders[0].id == "11"
        assert found.history.more

    play(scene)


def test_broker_in_memory_can_have_a_limit() -> None:
    assert MemoryBroker(largest_packet=7).largest_packet == 7
