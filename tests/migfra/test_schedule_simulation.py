"""The parts of the simulated schedules: loop, processes, broker and links."""

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

import pytest

from fastlib.transport import AsyncCommunicator, MqttOptions, Will, callbacks, connect_async
from tests.support.schedules.broker import Network
from tests.support.schedules.link import simulated_links
from tests.support.schedules.loop import Deadlock, run
from tests.support.schedules.process import Process
from tests.support.schedules.simulated_time import simulated_time


def test_a_day_of_waiting_passes_at_once_and_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()

        async def wait(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            seen.append((name, loop.time()))

        await asyncio.gather(wait("day", 86400), wait("second", 1), wait("hour", 3600))
        return seen

    assert run(main()) == [("second", 1), ("hour", 3600), ("day", 86400)]


def test_a_timeout_ends_by_the_virtual_clock() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 600)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(600)


def test_endless_wait_raises_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no timer"):
        run(main())


def test_thread_runs_in_the_loop_after_ready_callbacks() -> None:
    async def main() -> list[object]:
        seen: list[object] = []
        loop = asyncio.get_running_loop()
        loop.call_soon(seen.append, "ready before")
        seen.append(await asyncio.to_thread(threading.current_thread))
        return seen

    assert run(main()) == ["ready before", threading.main_thread()]


def test_error_in_a_thread_reaches_its_waiter() -> None:
    def fail() -> None:
        raise OSError("disk full")

    async def main() -> None:
        await asyncio.to_thread(fail)

    with pytest.raises(OSError, match="disk full"):
        run(main())


def options(name: str, *, will: Will | None = None) -> MqttOptions:
    return MqttOptions(client_id=name, persistent=True, will=will)


def on_network(test: Callable[[Network], Awaitable[None]], seed: int = 1) -> None:
    """Run a test with a simulated broker."""

    async def main() -> None:
        network = Network(asyncio.get_running_loop(), random.Random(seed))
        with simulated_links(network):
            await test(network)

    run(main())


@asynccontextmanager
async def pair(network: Network, qos: int) -> AsyncIterator[list[AsyncCommunicator]]:
    """A sender and a receiver with a subscription of this quality of service."""
    sender, receiver = await connect_async(options("s")), await connect_async(options("r"))
    await receiver.subscribe("t", qos=qos)
    yield [sender, receiver]
    await sender.close()
    await receiver.close()


async def received(communicator: AsyncCommunicator, seconds: float = 300.0) -> list[int]:
    """Everything that arrives within some seconds."""
    found = []
    try:
        async with asyncio.timeout(seconds):
            async for message in communicator.messages("t"):
                found.append(int(message.payload))
    except TimeoutError:
        return found
    raise AssertionError("closed")


@pytest.mark.parametrize("seed", range(20))
def test_each_message_with_qos_2_arrives_once_and_in_order(seed: int) -> None:
    async def test(network: Network) -> None:
        network.broker.publishes_at_release = seed % 2 == 0
        network.broker.reuses_packet_ids = seed % 4 < 2
        async with pair(network, 2) as (sender, receiver):
            for number in range(40):
                await sender.send(b"%d" % number, "t", qos=2)
                await asyncio.sleep(network.dice.random() * 0.004)
                if number % 5 == 4:
                    network.cut("s", silent=number % 3 == 0)
                    network.cut("r", silent=number % 7 == 0)
            assert await received(receiver) == list(range(40))

    on_network(test, seed)


def test_a_message_with_qos_1_arrives_again_after_a_cut_but_none_is_lost() -> None:
    async def test(network: Network) -> None:
        async with pair(network, 1) as (sender, receiver):
            for number in range(200):
                await sender.send(b"%d" % number, "t", qos=1)
                await asyncio.sleep(network.dice.random() * 0.002)
                if number % 5 == 4:
                    network.cut("s")
                    network.cut("r")
            found = await received(receiver)
            assert sorted(set(found)) == list(range(200))
            assert len(found) > 200

    on_network(test)


def test_broker_keeps_unacknowledged_messages_of_a_crashed_process() -> None:
    async def test(network: Network) -> None:
        loop = asyncio.get_running_loop()
        sender = await connect_async(options("s"))
        seen: list[tuple[bytes, bool]] = []

        async def consumer(acks: int) -> None:
            communicator = await connect_async(options("r"))
            await communicator.subscribe("t", qos=2, manual_ack=True)
            async for message in communicator.messages("t"):
                seen.append((message.payload, message.duplicate))
                if acks > 0:
                    message.ack()
                    acks -= 1

        first = Process("r")
        first.start(consumer(2), loop)
        await asyncio.sleep(1)
        for number in range(4):
            await sender.send(b"%d" % number, "t", qos=1)
        await asyncio.sleep(1)
        first.crash()
        await asyncio.sleep(1)
        assert network.broker.sessions["r"].connection is None
        Process("r").start(consumer(9), loop)
        await asyncio.sleep(1)
        assert seen == [
            (b"0", False), (b"1", False), (b"2", False), (b"3", False), (b"2", True), (b"3", True),
        ]  # fmt: skip
        assert network.broker.sessions["r"].empty
        await sender.close()

    on_network(test)


@pytest.mark.parametrize(
    ("end", "words"), [("crash", b"gone"), ("cut", b"gone"), ("close", b"here")]
)
def test_a_last_will_is_published_unless_the_client_says_goodbye(end: str, words: bytes) -> None:
    async def test(network: Network) -> None:
        process = Process("w")
        will = Will(topic="status", payload=b"gone", retain=True)
        closing = asyncio.Event()

        async def client() -> None:
            communicator = await connect_async(options("w", will=will))
            await communicator.send(b"here", "status", retain=True)
            await closing.wait()
            await communicator.close()

        task = process.start(client(), asyncio.get_running_loop())
        await asyncio.sleep(1)
        assert network.broker.retained["status"].payload == b"here"
        network.blocked.add("w")
        if end == "crash":
            process.crash()
        elif end == "cut":
            network.cut("w")
        else:
            closing.set()
            await task
        await asyncio.sleep(1)
        assert network.broker.retained["status"].payload == words

    on_network(test)


def test_a_silent_connection_ends_by_the_keep_alive_of_both_sides() -> None:
    async def test(network: Network) -> None:
        loop = asyncio.get_running_loop()
        communicator = await connect_async(options("c"))
        network.cut("c", silent=True)
        network.blocked.add("c")
        await asyncio.sleep(89)
        assert communicator.is_connected
        assert network.broker.sessions["c"].connection is not None
        await asyncio.sleep(2)
        assert not communicator.is_connected
        assert network.broker.sessions["c"].connection is None
        network.blocked.clear()
        while not communicator.is_connected:
            await asyncio.sleep(0.1)
        assert loop.time() < 92
        await communicator.close()

    on_network(test)


def test_a_client_that_connects_again_takes_over_its_session() -> None:
    async def test(network: Network) -> None:
        first = await connect_async(options("same"))
        await first.subscribe("t")
        second = await connect_async(options("same"))
        await second.send(b"1", "t")
        await second.subscribe("t")
        assert int((await second.receive("t", timeout=1)).payload) == 1
        await second.close()
        await first.close()

    on_network(test)


def test_a_process_ends_at_the_turn_that_was_planned() -> None:
    async def main() -> None:
        steps: list[int] = []

        async def work() -> None:
            for number in range(1000):
                steps.append(number)
                await asyncio.sleep(0)

        for turns in (1, 2, 10):
            process = Process("p")
            process.crash_at("turn", turns)
            task = process.start(work(), asyncio.get_running_loop())
            with pytest.raises(asyncio.CancelledError):
                await task
            assert process.dead
            assert len(steps) == turns - 1
            steps.clear()

    run(main())


def test_thread_of_a_dead_process_does_not_continue() -> None:
    async def main() -> None:
        done: list[str] = []
        process = Process("p")
        process.write_seconds = 1

        async def write() -> None:
            await asyncio.to_thread(done.append, "first")
            await asyncio.to_thread(done.append, "second")

        task = process.start(write(), asyncio.get_running_loop())
        await asyncio.sleep(1.5)
        process.crash()
        await asyncio.wait((task,))
        await asyncio.sleep(5)
        assert done == ["first"]

    run(main())


def test_other_threads_keep_the_real_time_and_locks() -> None:
    """The thread of a client that other tests share runs on."""
    found: list[float] = []

    def use_both() -> None:
        assert Future[None]().cancel()
        found.append(vars(callbacks)["time"].monotonic())

    before = time.monotonic()
    with simulated_time():
        thread = threading.Thread(target=use_both)
        thread.start()
        thread.join()
    assert len(found) == 1
    assert before <= found[0] <= time.monotonic()
