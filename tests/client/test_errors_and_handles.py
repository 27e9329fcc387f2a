"""Tests of unreadable messages, failing callbacks, and failures of the communicator."""

import asyncio
import threading
from typing import Any

import pytest

from fastlib import (
    Evacuate,
    QueryHistory,
    Result,
    ResultContainer,
    Stop,
    TaskContainer,
    TaskFailedError,
)
from fastlib.client import AsyncMigfraClient, ClientClosedError, MigfraClient
from fastlib.client.limited_warnings import LINES, SECONDS, LimitedWarnings
from fastlib.message import Suspend
from fastlib.message.topics import PRESENCE, PROGRESS
from fastlib.transport import (
    ClosedError,
    Communicator,
    MemoryBroker,
    MemoryOptions,
    SubscriptionError,
    UndeliveredError,
    connect,
    connect_async,
)
from fastlib.transport.memory.link import MemoryLink
from tests.support.client.factory import (
    IN_MEMORY,
    PATIENCE,
    ClientFactory,
    Daemon,
    failure,
    success,
)
from tests.support.waiting import wait_until, wait_until_async


@IN_MEMORY
def test_unreadable_presence_and_progress_are_logged(
    clients: ClientFactory, caplog: pytest.LogCaptureFixture
):
    daemon, client = clients.daemon(), clients.client()
    client.listen_to_progress()
    handle = client.suspend("hostA", "vm1")
    daemon.wait()
    daemon.progress("phase: [")
    daemon.communicator.send(b"status: [", PRESENCE("hostA")).wait(PATIENCE)
    daemon.send(success(daemon.received[0]))
    assert handle.result(PATIENCE).status == "success"
    wait_until(lambda: "the presence cannot be read" in caplog.text, "the warning")
    assert f"{PROGRESS('hostA')}: the progress cannot be read" in caplog.text
    assert client.presences == {}


@IN_MEMORY
def test_very_many_unreadable_messages_have_a_limited_number_of_warnings(
    clients: ClientFactory, caplog: pytest.LogCaptureFixture
):
    daemon, client = clients.daemon(), clients.client()
    client.listen_to_progress()
    handle = client.suspend("hostA", "vm1")
    daemon.wait()
    for number in range(2 * LINES):
        daemon.progress(f"phase: [ # {number}")
    daemon.send(success(daemon.received[0]))
    assert handle.result(PATIENCE).status == "success"
    wait_until(lambda: caplog.text.count("the progress cannot be read") == LINES, "the warnings")


def test_next_warning_says_how_many_were_left_out(caplog: pytest.LogCaptureFixture):
    now = [0.0]
    warnings = LimitedWarnings(lambda: now[0])
    for _ in range(LINES + 5):
        warnings.unreadable("result", "t", "100 % wrong")
    now[0] = SECONDS
    warnings.unreadable("result", "t", "100 % wrong")
    assert len(caplog.records) == LINES + 1
    assert caplog.messages[-1] == (
        "t: the result cannot be read: 100 % wrong (5 warnings before this one were left out)"
    )
    assert caplog.messages[0] == "t: the result cannot be read: 100 % wrong"


@IN_MEMORY
def test_deleted_presence_is_forgotten(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("online")
    wait_until(lambda: "hostA" in client.presences, "the presence")
    daemon.communicator.send(b"", PRESENCE("hostA"), retain=True).wait(PATIENCE)
    wait_until(lambda: "hostA" not in client.presences, "its end")


@IN_MEMORY
def test_missing_result_names_the_presence(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.presence("online")
    wait_until(lambda: "hostA" in client.presences, "the presence")
    with pytest.raises(TimeoutError, match="its daemon is online since 20"):
        client.suspend("hostA", "vm1", timeout=0.01).result(PATIENCE)


@IN_MEMORY
def test_failing_done_callback_is_logged(clients: ClientFactory, caplog: pytest.LogCaptureFixture):
    daemon, client = clients.daemon(), clients.client()
    daemon.answers()

    def fail(_: object) -> None:
        raise RuntimeError("on purpose")

    handle = client.suspend("hostA", "vm1")
    handle.add_done_callback(fail)
    handle.result(PATIENCE)
    wait_until(lambda: "on purpose" in caplog.text, "the log")


@IN_MEMORY
def test_repr_shows_pending_requests(clients: ClientFactory):
    client = clients.client()
    client.suspend("hostA", "vm1")
    assert repr(getattr(client, "inner", client)).endswith("1 waiting>")


@IN_MEMORY
def test_container_may_get_another_id(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    container = TaskContainer(tasks=[Suspend(vm_name="vm1")], id="old")
    assert client.submit("hostA", container, id="new").id == "new"
    (received,) = daemon.wait()
    assert received.id == "new"
    assert list(received.tasks) == list(container.tasks)


@IN_MEMORY
def test_closed_communicator_refuses_requests(clients: ClientFactory):
    client = clients.client()
    inner = getattr(client, "inner", client)
    inner._core.check_open()
    connection = inner.communicator._core.link
    connection._closed = True  # the link refuses messages, and the client does not know it yet
    with pytest.raises(ClosedError):
        client.suspend("hostA", "vm1")
    assert len(inner._core.pending) == 0
    connection._closed = False


class Refusing(Communicator):
    """A communicator that refuses each send while `refuses` is set."""

    refuses = False

    def send(self, *arguments: Any, **named: Any) -> Any:
        if self.refuses:
            raise ClosedError("on purpose")
        return super().send(*arguments, **named)


def test_failed_repetition_is_logged(caplog: pytest.LogCaptureFixture):
    broker = MemoryBroker()
    with (
        Refusing(MemoryLink(MemoryOptions(broker=broker))) as communicator,
        MigfraClient(communicator) as client,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        daemon = Daemon("hostA", peer)
        handle = client.suspend("hostA", "vm1")
        daemon.wait()
        communicator.refuses = True
        daemon.presence("online")
        wait_until(lambda: "the request could not be sent again" in caplog.text, "the warning")
        daemon.send(success(daemon.received[0]))
        assert handle.result(PATIENCE).status == "success"


def test_failed_async_repetition_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(*_: object, **__: object) -> None:
        raise ClosedError("on purpose")

    async def main() -> None:
        broker = MemoryBroker()
        with connect(MemoryOptions(broker=broker)) as peer:
            async with await AsyncMigfraClient.connect(MemoryOptions(broker=broker)) as client:
                daemon = Daemon("hostA", peer)
                await client.suspend("hostA", "vm1")
                monkeypatch.setattr(client.communicator, "send", refuse)
                daemon.presence("online")
                await wait_until_async(lambda: "the request could not be sent again" in caplog.text)

    asyncio.run(main())


def test_topic_that_is_taken_at_the_communicator_refuses_the_order():
    broker = MemoryBroker()
    with (
        connect(MemoryOptions(broker=broker)) as communicator,
        MigfraClient(communicator) as client,
    ):
        communicator.subscribe(PRESENCE("hostA"))
        for _ in range(2):
            with pytest.raises(SubscriptionError):
                client.suspend("hostA", "vm1")
        communicator.unsubscribe(PRESENCE("hostA"))
        client.suspend("hostA", "vm1")  # the failed ones have left no subscription
        assert len(client._core.pending) == 1


def test_client_over_a_closed_communicator_is_closed():
    with connect(MemoryOptions(broker=MemoryBroker())) as communicator:
        communicator.close()
        with MigfraClient(communicator) as client, pytest.raises(ClientClosedError):
            client.suspend("hostA", "vm1")


def test_failed_connect_closes_the_communicator(monkeypatch: pytest.MonkeyPatch):
    made: list[Communicator] = []

    def keep(*arguments: Any, **named: Any) -> Communicator:
        made.append(connect(*arguments, **named))
        return made[0]

    monkeypatch.setattr("fastlib.client.client.connect", keep)
    with pytest.raises(ValueError, match="timeout"):
        MigfraClient.connect(MemoryOptions(broker=MemoryBroker()), timeout=-1)
    assert not made[0].is_connected


def test_closed_async_client_cannot_be_opened():
    async def main() -> None:
        async with await connect_async(MemoryOptions(broker=MemoryBroker())) as communicator:
            client = AsyncMigfraClient(communicator)
            await client.open()
            await client.close()
            for call in (client.open, client.listen_to_progress, client.watch):
                with pytest.raises(ClientClosedError):
                    await call()

    asyncio.run(main())


def test_failed_async_connect_closes_the_communicator(monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        made = []

        async def keep(*arguments: Any, **named: Any) -> Any:
            made.append(await connect_async(*arguments, **named))
            return made[0]

        monkeypatch.setattr("fastlib.client.aio.connect_async", keep)
        with pytest.raises(ValueError, match="timeout"):
            await AsyncMigfraClient.connect(MemoryOptions(broker=MemoryBroker()), timeout=-1)
        assert not made[0].is_connected

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_undelivered_messages_fail_the_end_of_the_block(is_async: bool):
    broker = MemoryBroker()
    options = MemoryOptions(broker=broker, client_id="a")

    def block() -> None:
        with MigfraClient.connect(options) as client:
            broker.cut("a")
            client.suspend("hostA", "vm1")
            shorten_close(client.communicator)

    def shorten_close(communicator: Any) -> None:
        original = communicator.close
        communicator.close = lambda: original(0.01)

    async def async_block() -> None:
        async with await AsyncMigfraClient.connect(options) as client:
            broker.cut("a")
            await client.suspend("hostA", "vm1")
            shorten_close(client.communicator)

    with pytest.raises(UndeliveredError):
        asyncio.run(async_block()) if is_async else block()


def test_watch_is_a_context_manager():
    with MigfraClient.connect(MemoryOptions(broker=MemoryBroker())) as client:
        with client.watch() as watch:
            assert watch.get(0.01) is None
            assert not watch.ended
        assert watch.get() is None
        assert watch.ended
        assert watch.get() is None


def test_async_watch_is_a_context_manager():
    async def main() -> None:
        async with await AsyncMigfraClient.connect(MemoryOptions(broker=MemoryBroker())) as client:
            async with await client.watch() as watch:
                """It ends here."""
            assert [observed async for observed in watch] == []
            assert [observed async for observed in watch] == []

    asyncio.run(main())


def test_done_callback_of_expired_request_runs_in_the_deadline_thread(
    monkeypatch: pytest.MonkeyPatch,
):
    with MigfraClient.connect(MemoryOptions(broker=MemoryBroker())) as client:
        names: list[str] = []
        added, done = threading.Event(), threading.Event()
        expire = client._core.unanswered.expire

        def expire_later() -> object:
            assert added.wait(PATIENCE)
            return expire()

        monkeypatch.setattr(client._core.unanswered, "expire", expire_later)
        handle = client.suspend("hostA", "vm1", timeout=0.01)

        def callback(_: object) -> None:
            names.append(threading.current_thread().name)
            done.set()

        handle.add_done_callback(callback)
        added.set()
        assert done.wait(PATIENCE)
        assert names == ["fastlib client deadlines"]


@IN_MEMORY
def test_checked_result_of_a_failed_task_raises(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.answers(failure)
    handle = client.suspend("hostA", "vm1", id="mine")
    assert handle.result(PATIENCE).status == "error"
    with pytest.raises(TaskFailedError) as caught:
        handle.result(PATIENCE, check=True)
    assert str(caught.value) == (
        "'suspend vm' of vm1 on 'hostA' has the status error: no such domain (id 'mine')"
    )
    assert caught.value.host == "hostA"


@IN_MEMORY
def test_checked_results_of_several_tasks_raise_one_error(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.answers(failure)
    submitted = client.submit("hostA", [Suspend(vm_name="vm1"), Suspend(vm_name="vm2")])
    evacuated = client.evacuate("hostA", ["hostB"])
    asked = client.query("hostA")
    for handle, number in (submitted, 2), (evacuated, 1), (asked, 1):
        with pytest.raises(TaskFailedError) as caught:
            handle.result(PATIENCE, check=True)
        assert len(caught.value.failed) == caught.value.total == number


@IN_MEMORY
def test_checked_result_of_a_success_is_the_result(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.answers()
    handle = client.suspend("hostA", "vm1")
    assert handle.result(PATIENCE, check=True) == handle.result()
    both = client.submit("hostA", [Suspend(vm_name="vm1"), Suspend(vm_name="vm2")])
    assert len(both.result(PATIENCE, check=True).results) == 2


@IN_MEMORY
def test_checked_results_name_the_domains_without_a_result(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    ok, bad = Result(vm_name="vm1", status="success"), Result(vm_name="vm1", status="error")
    for results, expected in (
        ([ok], ["vm2"]),
        ([], ["vm1", "vm2"]),
        ([ok, ok], ["vm2"]),
        ([bad], ["vm1", "vm2"]),
        ([Result(vm_name="n/a", status="error", details="no room")], ["n/a"]),
    ):
        daemon.answers(lambda container, given=results: ResultContainer.answer(container, given))
        handle = client.submit("hostA", [Suspend(vm_name="vm1"), Suspend(vm_name="vm2")])
        handle.result(PATIENCE)
        with pytest.raises(TaskFailedError) as caught:
            handle.result(PATIENCE, check=True)
        assert [failed.vm_name for failed in caught.value.failed] == expected
    daemon.answers(lambda container: ResultContainer.answer(container, [ok]))
    handle = client.submit("hostA", [Suspend(vm_name="vm1"), Suspend(vm_name="vm1")])
    with pytest.raises(TaskFailedError, match=r"1 of 2 results failed.*\n  vm1: .*has no result"):
        handle.result(PATIENCE, check=True)


@IN_MEMORY
def test_tasks_that_find_their_domains_may_have_any_number_of_results(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    other = Result(vm_name="other", status="success")
    for results in [], [other, other]:
        daemon.answers(lambda container, given=results: ResultContainer.answer(container, given))
        for task in (
            Stop(regex="vm.*"),
            Evacuate(destinations=["hostB"], vm_name="vm1"),
            QueryHistory(vm_name="vm1"),
        ):
            handle = client.submit("hostA", task)
            assert len(handle.result(PATIENCE, check=True).results) == len(results)
