"""ClientClosedError says why: the program has closed the client, or the communicator has ended."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastlib.client import AsyncMigfraClient, ClientClosedError, MigfraClient
from fastlib.transport import (
    ConnectError,
    Delivery,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    connect,
)
from tests.support.mosquitto import Mosquitto
from tests.support.transport.defect import fail_network_thread

PATIENCE = 60
DEFECT = (
    r"the client is closed, because its communicator has ended: me at 127\.0\.0\.1:\d+ is closed: "
    r"its network thread has failed, .*ZeroDivisionError\('on purpose'\)"
)
LEFT = r"'suspend vm' of vm1 on 'hostA'.*"


@pytest.fixture
def mqtt(mosquitto: Mosquitto) -> MqttOptions:
    return MqttOptions(host="127.0.0.1", port=mosquitto.port, client_id="me")


def confirmed(handle: Any) -> Delivery:
    """Return what is done when the broker has confirmed an order."""
    delivery = handle._request.delivery
    assert isinstance(delivery, Delivery)
    return delivery


def check(error: ClientClosedError) -> None:
    assert error.reason is not None
    assert isinstance(error.reason.failure, ZeroDivisionError)
    assert error.__cause__ is error.reason


def test_defect_of_the_network_thread_is_the_reason(
    mqtt: MqttOptions, caplog: pytest.LogCaptureFixture
) -> None:
    with MigfraClient.connect(mqtt, timeout=None) as client:
        handle, watch = client.suspend("hostA", "vm1"), client.watch()
        confirmed(handle).wait(PATIENCE)
        fail_network_thread(client.communicator)
        with pytest.raises(ClientClosedError, match=LEFT + DEFECT) as caught:
            handle.result(PATIENCE)
        check(caught.value)
        calls: list[Callable[[], object]] = [
            lambda: list(watch),
            lambda: list(watch),  # the other readers also learn it
            lambda: watch.get(PATIENCE),
            client.watch,
            lambda: client.suspend("hostA", "vm1"),
            client.listen_to_progress,
        ]
        for call in calls:
            with pytest.raises(ClientClosedError, match="^" + DEFECT) as caught:
                call()
            check(caught.value)
        assert watch.ended
    with pytest.raises(ClientClosedError, match=DEFECT):  # the first reason stays
        client.suspend("hostA", "vm1")


def test_defect_of_the_network_thread_is_the_reason_for_coroutines(mqtt: MqttOptions) -> None:
    async def scene() -> None:
        async with AsyncMigfraClient.connect(mqtt, timeout=None) as client:
            handle, watch = await client.suspend("hostA", "vm1"), await client.watch()
            await confirmed(handle)
            await asyncio.to_thread(fail_network_thread, client.communicator)
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(ClientClosedError, match=LEFT + DEFECT) as caught:
                    await handle
                check(caught.value)
                for _ in range(2):
                    with pytest.raises(ClientClosedError, match="^" + DEFECT) as caught:
                        await anext(watch)
                    check(caught.value)
                with pytest.raises(ClientClosedError, match="^" + DEFECT):
                    await client.suspend("hostA", "vm1")

    asyncio.run(scene())


def test_messages_before_a_defect_are_read_first(mqtt: MqttOptions) -> None:
    with MigfraClient.connect(mqtt, timeout=None) as client:
        watch = client.watch(tasks=True)
        client.suspend("hostA", "vm1")
        first = watch.get(PATIENCE)
        client.suspend("hostA", "vm2").add_done_callback(lambda _: None)
        second: Any = None
        while second is None:
            second = watch.get(PATIENCE)
        fail_network_thread(client.communicator)
        assert first is not None
        assert first.host == second.host == "hostA"
        with pytest.raises(ClientClosedError, match=DEFECT):
            watch.get(PATIENCE)


def test_client_that_was_closed_before_the_defect_has_no_reason(mqtt: MqttOptions) -> None:
    with connect(mqtt) as communicator:
        client = MigfraClient(communicator)
        client.close()
        fail_network_thread(communicator)
        with pytest.raises(ClientClosedError) as caught:
            client.watch()
        assert (str(caught.value), caught.value.reason) == ("the client is closed", None)


def test_client_on_an_ended_communicator_is_refused_with_the_reason(mqtt: MqttOptions) -> None:
    with connect(mqtt) as communicator:
        fail_network_thread(communicator)
        client = MigfraClient(communicator)
        with pytest.raises(ClientClosedError, match=DEFECT):
            client.suspend("hostA", "vm1")


def test_close_by_another_part_of_the_program_is_the_reason() -> None:
    with MigfraClient.connect(MemoryOptions(broker=MemoryBroker(), client_id="me")) as client:
        watch = client.watch()
        client.communicator.close()
        assert list(watch) == []
        with pytest.raises(ClientClosedError) as caught:
            client.suspend("hostA", "vm1")
        assert str(caught.value) == (
            "the client is closed, because its communicator has ended: me is closed: the program "
            "has closed it"
        )
        assert caught.value.reason is not None
        assert caught.value.reason.failure is None


def test_failed_connection_makes_no_client() -> None:
    broker = MemoryBroker()
    broker.cut("me")
    with pytest.raises(ConnectError, match=r"within 0\.01 s"):
        MigfraClient.connect(MemoryOptions(broker=broker, client_id="me"), connect_timeout=0.01)
