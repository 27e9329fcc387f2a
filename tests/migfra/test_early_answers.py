"""The thread of the journal sends an answer once it is stored, and its acknowledgement before."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastlib import ResultContainer, Start, TaskContainer
from fastlib.message import Cancel
from fastlib.migfra import Daemon
from fastlib.migfra.hypervisors.simulated.clock import run_virtual
from fastlib.migfra.journal import commit_thread
from fastlib.migfra.journal.history import read_separately
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.tasks import late_acks
from fastlib.migfra.tasks.jobs import JOB_SIZE, Job, JobTable
from fastlib.migfra.tasks.late_acks import LateAcks
from fastlib.migfra.tasks.publisher import Publisher
from fastlib.transport import (
    AsyncCommunicator,
    Delivery,
    MemoryBroker,
    MemoryOptions,
    connect_async,
)
from tests.support.migfra.bench import Bench, Play, order, patiently
from tests.support.migfra.scripted import Scripted, gate
from tests.support.waiting import wait_until_async

TOPIC = "answers"


class Desk:
    """A publisher at a broker in memory that can be cut off, and the receiver of the answers."""

    def __init__(
        self, broker: MemoryBroker, sender: AsyncCommunicator, receiver: AsyncCommunicator
    ):
        self.broker, self.sender, self.receiver = broker, sender, receiver
        self.journal = Journal(None)
        self.publisher = Publisher(sender, self.journal, lambda host: TOPIC, 2)

    async def received(self, count: int) -> list[bytes]:
        return [(await self.receiver.receive(TOPIC, 10)).payload for _ in range(count)]


def at_desk(scene: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        broker = MemoryBroker()
        options = MemoryOptions(broker=broker, client_id="daemon", persistent=True, max_pending=1)
        async with (
            await connect_async(options) as sender,
            await connect_async(MemoryOptions(broker=broker)) as receiver,
        ):
            await receiver.subscribe(TOPIC)
            desk = Desk(broker, sender, receiver)
            await scene(desk)
            await wait_until_async(lambda: not desk.publisher.unconfirmed)
            assert desk.publisher.size == 0
            await desk.journal.close()

    asyncio.run(main())


def in_thread(function: Callable[[], object]) -> None:
    """Call a function in another thread while the event loop waits."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_stored_answer_is_sent_while_the_loop_does_something_else() -> None:
    async def scene(desk: Desk) -> None:
        early = desk.publisher.early(b"1")
        in_thread(early.send)
        assert early.delivery is not None
        assert desk.publisher.unconfirmed == 0  # counted when the loop hears of it
        desk.publisher.put(None, "1", b"1", early=early)
        assert await desk.received(1) == [b"1"]

    at_desk(scene)


def test_answer_that_was_sent_early_is_sent_once() -> None:
    async def scene(desk: Desk) -> None:
        early = desk.publisher.early(b"1")
        early.send()
        desk.publisher.put(None, "1", b"1", early=early)
        desk.publisher.put(None, "2", b"2")
        assert await desk.received(2) == [b"1", b"2"]

    at_desk(scene)


def test_confirmation_before_the_loop_has_counted_an_early_answer_settles_the_journal() -> None:
    async def scene(desk: Desk) -> None:
        settled: list[int] = []
        desk.journal.settle = lambda: settled.append(desk.publisher.unconfirmed)  # type: ignore[method-assign]
        early = desk.publisher.early(b"1")
        in_thread(early.send)
        await wait_until_async(lambda: early.is_done)
        assert settled == [0]
        desk.publisher.put(None, "1", b"1", early=early)
        assert (desk.publisher.unconfirmed, desk.publisher.size) == (0, 0)
        assert await desk.received(1) == [b"1"]

    at_desk(scene)


def test_answer_that_was_not_tried_early_is_sent_by_the_loop() -> None:
    async def scene(desk: Desk) -> None:
        desk.publisher.put(None, "1", b"1", early=desk.publisher.early(b"1"))
        assert await desk.received(1) == [b"1"]

    at_desk(scene)


def test_early_answer_does_not_overtake_one_that_had_no_room() -> None:
    async def scene(desk: Desk) -> None:
        publisher = desk.publisher
        desk.broker.cut("daemon")
        payloads = [b"1", b"2", b"3", b"4"]
        earlies = [publisher.early(payload) for payload in payloads]
        earlies[0].send()
        assert earlies[0].delivery is not None  # has the only place in the queue
        earlies[1].send()
        assert earlies[1].delivery is None
        desk.broker.mend("daemon")
        earlies[2].send()
        assert earlies[2].delivery is None  # there is room, but the second one comes first
        for payload, early in zip(payloads[:3], earlies[:3], strict=True):
            publisher.put(None, payload.decode(), payload, early=early)
        earlies[3].send()
        publisher.put(None, "4", b"4", early=earlies[3])
        assert await desk.received(4) == payloads

    at_desk(scene)


def test_early_answer_does_not_overtake_one_that_waits_for_room() -> None:
    async def scene(desk: Desk) -> None:
        publisher = desk.publisher
        desk.broker.cut("daemon")
        for payload in (b"1", b"2"):
            publisher.put(None, payload.decode(), payload)
        desk.broker.mend("daemon")
        early = publisher.early(b"3")
        early.send()
        assert early.delivery is None
        publisher.put(None, "3", b"3", early=early)
        assert await desk.received(3) == [b"1", b"2", b"3"]

    at_desk(scene)


@pytest.mark.parametrize("is_put_first", [True, False])
def test_other_answer_does_not_overtake_an_early_one_that_had_no_room(is_put_first: bool) -> None:
    """The answer to a query is not in the journal, and has no early answer."""

    async def scene(desk: Desk) -> None:
        publisher = desk.publisher
        desk.broker.cut("daemon")
        earlies = [publisher.early(payload) for payload in (b"1", b"2", b"3")]
        for early in earlies:
            early.send()
        assert [early.delivery is None for early in earlies] == [False, True, True]
        desk.broker.mend("daemon")
        query = asyncio.create_task(publisher.deliver("query", b"query"))
        if not is_put_first:
            while not publisher._waiting:
                await asyncio.sleep(0)
            assert not query.done()  # there is room, but the second and third one come first
        late = publisher.early(b"4")
        late.send()
        for early in (*earlies, late):
            publisher.put(None, "an id", early.payload, early=early)
        expected = [b"1", b"2", b"3", b"4", b"query"] if is_put_first else [
            b"1", b"2", b"3", b"query", b"4",
        ]  # fmt: skip
        assert await desk.received(5) == expected
        assert await query
        assert not publisher._left

    at_desk(scene)


def test_answer_is_sent_only_once_it_is_stored(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        seen: list[object] = []
        number = (await journal.accept("1", b"d", b"p", key="k")).number

        def stored() -> bool:
            seen.append(threading.current_thread() is not threading.main_thread())
            query = "SELECT answer FROM containers"
            seen.extend(read_separately(path, lambda c: list(c.execute(query))))
            return False

        await journal.answer(number, b"answer", stored)
        assert seen == [True, (b"answer",)]
        path.unlink()
        await journal.check_file()
        await journal.answer(number, b"lost", stored)  # the file is gone: nothing is stored
        assert len(seen) == 2
        await journal.close()

    asyncio.run(main())


def test_cancellations_are_counted_by_what_was_added() -> None:
    """A job whose container is loaded after that does not count, and is not subtracted either."""

    async def main() -> None:
        table = JobTable()
        cancel = TaskContainer(tasks=[Cancel(id="1")])
        counted, loaded_later = Job(1, "a", cancel), Job(2, "b", None)
        table.add(counted)
        table.add(counted)
        table.add(loaded_later)
        loaded_later.hold(cancel)
        assert table.cancels == 1
        table.remove(loaded_later)
        assert table.cancels == 1
        table.remove(counted)
        table.remove(counted)
        assert table.cancels == 0

    asyncio.run(main())


class Acks:
    """The acknowledgements of numbered orders, in the order in which they were sent."""

    def __init__(self) -> None:
        self.late = LateAcks()
        self.sent: list[int] = []

    def add(self, number: int) -> None:
        self.late.add(number, lambda: self.sent.append(number))


def test_acknowledgement_of_a_single_order_waits_for_its_answer() -> None:
    async def main() -> None:
        acks = Acks()
        acks.add(1)
        assert acks.sent == []
        in_thread(lambda: acks.late.send(1))
        acks.late.send(1)
        acks.late.flush()
        assert acks.sent == [1]

    asyncio.run(main())


def test_acknowledgements_of_several_orders_do_not_wait_and_keep_their_order() -> None:
    async def main() -> None:
        acks = Acks()
        for number in range(1, 5):
            acks.add(number)
        assert acks.sent == [1, 2, 3, 4]
        acks.add(5)
        acks.late.flush()
        assert acks.sent == [1, 2, 3, 4, 5]

    asyncio.run(main())


def test_order_that_is_not_answered_soon_is_acknowledged() -> None:
    async def main() -> None:
        acks = Acks()
        acks.add(1)
        await wait_until_async(lambda: acks.sent == [1])
        acks.add(2)  # the timer of the first one has ended
        await wait_until_async(lambda: acks.sent == [1, 2])

    asyncio.run(main())


def test_timer_of_an_answered_order_does_not_acknowledge_the_next_one_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> list[float]:
        acks, loop = Acks(), asyncio.get_running_loop()
        monkeypatch.setattr(late_acks, "LONGEST_SECONDS", 10.0)
        acks.add(1)
        acks.late.send(1)
        await asyncio.sleep(4)
        acks.late.add(2, lambda: times.append(loop.time()))
        times: list[float] = []
        await asyncio.sleep(100)
        acks.late.add(3, lambda: times.append(loop.time()))
        await asyncio.sleep(100)
        assert acks.late._timer is None
        acks.add(4)
        acks.late.end()
        assert acks.sent == [1, 4]
        assert acks.late._timer is None
        return times

    assert run_virtual(main()) == [14, 114]


def test_daemon_acknowledges_an_order_that_takes_long(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        plan, begun, go = gate()
        hypervisor.plan["vm1"] = plan
        daemon = await bench.daemon(hypervisor)
        await bench.send(order(Start(vm_name="vm1"), expires=60, id="1"))
        await patiently(begun.wait())
        await wait_until_async(lambda: not daemon.runtime.acks._waiting)
        go.set()
        assert (await bench.result()).id == "1"

    play(scene)


def test_daemon_acknowledges_an_order_with_its_answer(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_acks, "LONGEST_SECONDS", 3600.0)

    async def scene(bench: Bench) -> None:
        first = Scripted()
        plan, begun, go = gate()
        first.plan["vm1"] = plan
        daemon = await bench.daemon(first)
        await bench.send(order(Start(vm_name="vm1"), expires=60, id="1"))
        await patiently(begun.wait())
        assert len(daemon.runtime.acks._waiting) == 1
        go.set()
        answer: ResultContainer = await bench.result()
        assert (answer.id, len(first.calls)) == ("1", 1)
        assert not daemon.runtime.acks._waiting

    play(scene)


def test_end_of_a_single_order_comes_with_the_confirmation_of_its_answer(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is not woken for the commit of the answer, while no other order waits."""
    monkeypatch.setattr(commit_thread, "LONGEST_SECONDS", 3600.0)

    async def scene(bench: Bench) -> None:
        runtime = (await bench.daemon(Scripted())).runtime
        sent: list[Delivery] = []

        def send_now(payload: bytes, topic: str, qos: int) -> Delivery:
            runtime.communicator.send_now(payload, topic, qos)
            sent.append(Delivery(topic, payload, qos, False))  # the test confirms it
            return sent[-1]

        monkeypatch.setattr(runtime.publisher, "_communicator", SimpleNamespace(send_now=send_now))
        outcomes = runtime.journal._group_commit._thread._outcomes
        for number in range(3):
            await bench.send(order(Start(vm_name="vm1"), expires=60, id=str(number)))
            assert (await bench.result()).id == str(number)
            await wait_until_async(lambda: len(outcomes) == 1)
            assert runtime.dispatcher._running
            sent[-1].future.set_result(None)
            await wait_until_async(lambda: not runtime.dispatcher._running)
        assert len(sent) == 3
        monkeypatch.undo()

    play(scene)


class HeldThread:
    """Holds the thread of a daemon's journal after it has sent an answer, before the loop hears."""

    def __init__(self, daemon: Daemon) -> None:
        self._go_on = threading.Event()
        commit = daemon.runtime.journal._group_commit
        on_commit = commit._on_commit

        def hold(results: list[object]) -> int:
            patient = on_commit(results)
            if any(getattr(result, "callback", None) for result in results):
                assert self._go_on.wait(60)
            return patient

        commit._on_commit = hold

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._go_on.set()


@pytest.mark.parametrize("members", [1, 3])
def test_client_with_a_result_no_longer_sees_its_task(play: Play, members: int) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(Scripted())
        runtime = daemon.runtime
        at_work = {gauge.name: gauge for gauge in runtime.gauges()}["migfra_containers_at_work"]
        tasks = [Start(vm_name=f"vm{number}") for number in range(members)]
        with HeldThread(daemon):
            await bench.send(order(*tasks, expires=60, id="1"))
            assert (await bench.result()).id == "1"
            assert runtime.publisher.unconfirmed == 0  # the loop does not know of the answer yet
            report = (await bench.ask("task: query node\nid: look")).results[0].node  # type: ignore[attr-defined]
            assert report.tasks == ()
            assert at_work.read() == 0
            assert runtime.jobs.find("1") == []
            assert list(runtime.jobs) == []
            assert (runtime.jobs.size, runtime.jobs.cancels) == (0, 0)
        again = await bench.ask(order(Start(vm_name="vm9"), expires=60, id="2"))
        assert (again.id, again.results[0].status) == ("2", "success")

    play(scene)


def test_quit_does_not_name_an_order_whose_result_was_sent(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon(Scripted())
        with HeldThread(daemon):
            await bench.send(order(Start(vm_name="vm1"), expires=60, id="1"))
            assert (await bench.result()).id == "1"
            assert await daemon.runtime.dispatcher.finish(0, asyncio.Event()) == []

    play(scene)


def test_running_order_is_seen_until_its_answer_is_stored(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon, go = await bench.busy(hypervisor)
        report = (await bench.ask("task: query node\nid: look")).results[0].node  # type: ignore[attr-defined]
        assert [(task.id, task.state) for task in report.tasks] == [("1", "running")]
        assert daemon.runtime.dispatcher.running == 1
        go.set()
        assert (await bench.result()).id == "1"
        assert daemon.runtime.dispatcher.running == 0

    play(scene)


def test_order_that_ends_with_a_lost_journal_no_longer_runs(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon, go = await bench.busy(hypervisor)
        bench.journal.unlink()
        go.set()
        assert (await bench.result()).id == "1"
        assert list(daemon.runtime.jobs) == []
        assert daemon.runtime.dispatcher.running == 0

    play(scene)


def test_answered_job_is_removed_once() -> None:
    async def main() -> None:
        table, seen = JobTable(), []
        first, second = (
            Job(number, "same", TaskContainer(tasks=[Start(vm_name="vm1")]), size=10)
            for number in (1, 2)
        )
        table.add(first)
        table.add(second)
        in_thread(lambda: table.answered(first, lambda: seen.append(first.is_answered)))
        assert seen == [True]  # a client has the answer only then
        assert not first.has_ended  # the loop wakes who waits for it
        assert table.find("same") == [second]
        assert first.has_ended
        assert table.find_number(1) is None
        table.remove(first)
        assert table.size == 10 + JOB_SIZE
        in_thread(lambda: table.answered(second, lambda: None))
        assert table.size == 0
        assert [list(table), table.reports(), table.find("same")] == [[], [], []]

    asyncio.run(main())


class WatchedLock:
    """A lock that says when a second thread wants it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_wanted = threading.Event()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            self.is_wanted.set()
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_report_without_a_task_is_made_after_its_answer_was_sent() -> None:
    async def main() -> None:
        table, happened = JobTable(), []
        table._sending = lock = WatchedLock()  # type: ignore[assignment]
        job = Job(1, "1", TaskContainer(tasks=[Start(vm_name="vm1")]))
        table.add(job)

        def report() -> None:
            assert table.reports() == []
            happened.append("reported")

        reporting = threading.Thread(target=report)

        def send() -> None:
            reporting.start()
            assert lock.is_wanted.wait(60)
            happened.append("sent")

        in_thread(lambda: table.answered(job, send))
        await asyncio.to_thread(reporting.join, 10)
        assert happened == ["sent", "reported"]

    asyncio.run(main())
