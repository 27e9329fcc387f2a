"""Tests of closed, unopened and failed clients, and of unusual timeouts."""

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from fastlib import Suspend
from fastlib.client import (
    AsyncMigfraClient,
    ClientClosedError,
    ClientError,
    MigfraClient,
    NoResultError,
)
from fastlib.message.topics import TASK
from fastlib.transport import (
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    UndeliveredError,
    connect,
    connect_async,
)
from tests.client.test_reconnect import IdempotentDaemon
from tests.support.client.factory import IN_MEMORY, PATIENCE, ClientFactory, Daemon, success
from tests.support.mosquitto import Mosquitto


@IN_MEMORY
@pytest.mark.parametrize("endless", [math.inf, threading.TIMEOUT_MAX * 2])
def test_infinite_timeout_does_not_delay_others(clients: ClientFactory, endless: float):
    client = clients.client()
    client.suspend("hostA", "vm1", timeout=endless)
    with pytest.raises(NoResultError):
        client.suspend("hostA", "vm2", timeout=0.01).result(math.inf)
    with pytest.raises(NoResultError):
        client.suspend("hostA", "vm3", timeout=0).result(PATIENCE)


@IN_MEMORY
@pytest.mark.parametrize("wrong", [math.nan, -1])
def test_invalid_timeout_is_refused(clients: ClientFactory, wrong: float):
    daemon, client = clients.daemon(), clients.client()
    with pytest.raises(ValueError, match=f"from 0, or None; got {wrong}"):
        client.suspend("hostA", "vm1", timeout=wrong)
    with pytest.raises(ValueError, match="from 0, or None"):
        clients.client(timeout=wrong)
    client.suspend("hostA", "vm2")
    assert [container.tasks[0].vm_name for container in daemon.wait()] == ["vm2"]


def test_deadline_added_during_expiry_is_kept(monkeypatch: pytest.MonkeyPatch):
    """The deadline thread must compute its sleep from the current pending requests."""
    with MigfraClient.connect(MemoryOptions(broker=MemoryBroker())) as client:
        looked, entered, asleep = (threading.Event() for _ in range(3))
        expire, send, sleep = (
            client._core.unanswered.expire,
            client._send,
            client._deadlines._condition.wait,
        )

        def slowly() -> object:
            found = expire()
            looked.set()
            assert entered.wait(PATIENCE)
            return found

        def sending(request: Any) -> None:
            send(request)
            if request.timeout != 60:
                entered.set()
                assert asleep.wait(PATIENCE)

        def sleeping(timeout: float | None = None) -> bool:
            asleep.set()
            return sleep(timeout)

        monkeypatch.setattr(client._core.unanswered, "expire", slowly)
        monkeypatch.setattr(client, "_send", sending)
        monkeypatch.setattr(client._deadlines._condition, "wait", sleeping)
        client.suspend("hostA", "vm1", timeout=60)
        assert looked.wait(PATIENCE)
        with pytest.raises(NoResultError):
            client.suspend("hostA", "vm2", timeout=0.01).result(PATIENCE)


@IN_MEMORY
def test_closed_client_refuses_calls(clients: ClientFactory):
    client = clients.client()
    client.close()
    for call in (
        client.watch,
        lambda: client.watch(tasks=True),
        client.listen_to_progress,
        lambda: client.suspend("hostA", "vm1"),
        lambda: client.suspend("hostA", "vm1", on_progress=print),
    ):
        with pytest.raises(ClientClosedError) as caught:
            call()
        assert (str(caught.value), caught.value.reason) == ("the client is closed", None)


def test_close_removes_subscriptions_and_callbacks():
    with connect(MemoryOptions(broker=MemoryBroker())) as communicator:
        client = MigfraClient(communicator)
        client.close()
        with pytest.raises(ClientClosedError):
            client.watch(tasks=True)
        communicator.subscribe(TASK.pattern())  # nobody has it
        assert not communicator._core._close_listeners


def test_closed_communicator_fails_pending_requests():
    communicator = connect(MemoryOptions(broker=MemoryBroker()))
    client = MigfraClient(communicator, timeout=None)
    handle, watch, done = client.suspend("hostA", "vm1"), client.watch(), threading.Event()
    handle.add_done_callback(lambda _: done.set())
    communicator.close()
    with pytest.raises(
        ClientClosedError, match=r"'suspend vm' of vm1 .* communicator .* is closed"
    ):
        handle.result(PATIENCE)
    assert done.is_set()
    assert list(watch) == []
    with pytest.raises(ClientClosedError, match="communicator") as caught:
        client.suspend("hostA", "vm1")
    assert caught.value.reason is not None
    assert caught.value.reason.failure is None
    client.close()
    with pytest.raises(ClientClosedError, match="communicator"):  # which was first
        client.watch()


def test_closed_communicator_fails_awaited_requests():
    async def main() -> None:
        communicator = await connect_async(MemoryOptions(broker=MemoryBroker()))
        async with AsyncMigfraClient(communicator, timeout=None) as client:
            handle, watch = await client.suspend("hostA", "vm1"), await client.watch()
            await communicator.close()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(ClientClosedError, match="communicator"):
                    await handle
                assert [observed async for observed in watch] == []

    asyncio.run(main())


def test_unopened_client_refuses_calls():
    async def main() -> None:
        async with await connect_async(MemoryOptions(broker=MemoryBroker())) as communicator:
            client = AsyncMigfraClient(communicator)
            await communicator.subscribe(TASK.pattern())
            with pytest.raises(ClientError, match="not open yet"):
                await client.submit("hostA", Suspend(vm_name="vm1"))
            with pytest.raises(ClientError, match="not open yet"):
                await client.watch()
            async with client:
                await client.submit("hostA", Suspend(vm_name="vm2"))
            assert b"vm2" in (await communicator.receive(timeout=PATIENCE)).payload

    asyncio.run(main())


def test_closed_watch_ends_all_readers():
    with MigfraClient.connect(MemoryOptions(broker=MemoryBroker())) as client:
        watch = client.watch()
        readers = [threading.Thread(target=list, args=(watch,), daemon=True) for _ in range(3)]
        for reader in readers:
            reader.start()
        watch.close()
        for reader in readers:
            reader.join(PATIENCE)
            assert not reader.is_alive()
        assert watch.get(math.inf) is None


def test_closed_async_watch_ends_all_readers():
    async def main() -> None:
        async with await AsyncMigfraClient.connect(MemoryOptions(broker=MemoryBroker())) as client:
            watch = await client.watch()

            async def read() -> list[object]:
                return [observed async for observed in watch]

            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(read())
                await asyncio.sleep(0)
                watch.close()

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_close_error_does_not_hide_error_of_the_block(
    is_async: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """That something was not delivered is logged then."""
    undelivered = UndeliveredError([], "closed")
    options = MemoryOptions(broker=MemoryBroker())
    if is_async:

        async def main() -> None:
            async with await AsyncMigfraClient.connect(options) as client:

                async def close() -> None:
                    raise undelivered

                monkeypatch.setattr(client.communicator, "close", close)
                raise KeyError("mine")

        with pytest.raises(KeyError):
            asyncio.run(main())
    else:

        def close() -> None:
            raise undelivered

        def fail() -> None:
            with MigfraClient.connect(options) as client:
                monkeypatch.setattr(client.communicator, "close", close)
                raise KeyError("mine")

        with pytest.raises(KeyError):
            fail()
    assert "0 messages not confirmed" in caplog.text


def test_callback_may_wait_for_another_client():
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker)) as client,
        MigfraClient.connect(MemoryOptions(broker=broker)) as other,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        daemon, seen, came = Daemon("hostA", peer), [], threading.Event()

        def on_done(_: object) -> None:
            try:
                seen.append(other.suspend("hostA", "vm2").result(PATIENCE).status)
            finally:
                came.set()

        client.suspend("hostA", "vm1").add_done_callback(on_done)
        daemon.answers()
        daemon.send(success(daemon.wait()[0]))
        assert came.wait(PATIENCE)
        assert seen == ["success"]


def test_unknown_without_id_of_fastlib_daemon_completes_no_request(clients: ClientFactory):
    """It is noted: a daemon that keeps only the beginning of a message may find no id."""
    daemon, client = clients.daemon(), clients.client()
    watch = client.watch(presence=True)
    daemon.presence("online")
    assert next(watch).host == "hostA"
    handle, other = client.suspend("hostA", "vm1"), client.suspend("hostA", "vm2")
    daemon.wait(2)
    daemon.say("result: unknown\nlist: [{vm-name: unknown, status: error, details: too large}]")
    daemon.send(success(daemon.received[0]))
    assert handle.result(PATIENCE).status == "success"
    assert not other.done()
    (noted,) = getattr(other, "inner", other)._request.possible_answers
    assert noted == "the host answered, without an id, that it cannot read a message: too large"


@pytest.mark.parametrize("is_async", [False, True])
def test_more_requests_are_repeated_than_the_queue_holds(
    is_async: bool, client_loop: asyncio.AbstractEventLoop, tmp_path: Path
):
    with Mosquitto(tmp_path / "broker", settings=("max_queued_messages 0",)) as broker:
        fixed = {"host": "127.0.0.1", "port": broker.port}
        clients = ClientFactory(
            lambda **o: MqttOptions(**(fixed | o)), client_loop if is_async else None
        )
        daemon, client = clients.daemon(), clients.client(max_pending=20, max_inflight=20)
        handles = [client.suspend("hostA", f"vm{n}") for n in range(200)]
        daemon.wait(200)
        for handle in handles:
            getattr(handle, "inner", handle)._request.delivery.wait(PATIENCE)
        memory = IdempotentDaemon(daemon)
        daemon.presence("online")
        for handle in handles:
            assert handle.result(PATIENCE).status == "success"
        assert len(memory.executed) == 200
        clients.close()
