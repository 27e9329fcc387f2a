"""Each error of a communicator that has ended says why: closed by the program, or failed."""

import asyncio
import queue
import threading
from collections.abc import Callable

import pytest

from fastlib.transport import (
    AsyncCommunicator,
    ClosedError,
    Communicator,
    ConnectError,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    RefusedError,
    UndeliveredError,
    connect,
    connect_async,
)
from fastlib.transport.memory.link import MemoryLink
from fastlib.transport.mqtt.connection_state import ConnectionState
from fastlib.transport.mqtt.link import MqttLink
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.transport.defect import fail_network_thread
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until

PATIENCE = 60
DEFECT = (
    r"^me at 127\.0\.0\.1:\d+ is closed: its network thread has failed, which is a defect of "
    r"fastlib: ZeroDivisionError\('on purpose'\); the log has the traceback"
)


@pytest.fixture
def options(plain_broker: Mosquitto) -> MqttOptions:
    return MqttOptions(host="127.0.0.1", port=plain_broker.port, client_id="me")


@pytest.fixture
def failed(
    join: Callable[..., Communicator], plain_broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> Communicator:
    """A communicator whose network thread has failed."""
    one = join(plain_broker.port, client_id="me")
    one.subscribe("a/b")
    fail_network_thread(one)
    assert "on purpose" in caplog.text
    return one


def test_defect_ends_waiting_readers_with_the_reason(
    join: Callable[..., Communicator], plain_broker: Mosquitto
) -> None:
    one = join(plain_broker.port, client_id="me")
    one.subscribe("a/b")
    errors: queue.Queue[ClosedError] = queue.Queue()

    def read() -> None:
        try:
            one.receive("a/b")
        except ClosedError as error:
            errors.put(error)

    thread = threading.Thread(target=read)
    thread.start()
    fail_network_thread(one)
    error = errors.get(timeout=PATIENCE)
    thread.join(PATIENCE)
    with pytest.raises(ClosedError, match=DEFECT):
        raise error
    assert isinstance(error.failure, ZeroDivisionError)
    assert error.__cause__ is error.failure


def test_defect_is_the_reason_of_each_later_call(failed: Communicator) -> None:
    calls: list[Callable[[], object]] = [
        lambda: failed.send(b"", "a"),
        lambda: failed.receive("a/b"),
        lambda: failed.subscribe("c"),
        lambda: failed.subscribe_now("c", print),
        lambda: failed.resend_retained("a/b").result(PATIENCE),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match=DEFECT) as caught:
            call()
        assert isinstance(caught.value.failure, ZeroDivisionError)


def test_defect_is_the_argument_of_close_callbacks(failed: Communicator) -> None:
    ends: queue.Queue[ClosedError] = queue.Queue()
    failed.on_close(ends.put)
    assert isinstance(ends.get(timeout=PATIENCE).failure, ZeroDivisionError)
    failed.close()  # changes nothing
    with pytest.raises(ClosedError, match=DEFECT):
        failed.send(b"", "a")


def test_defect_is_the_reason_of_undelivered_messages(
    join: Callable[..., Communicator], plain_broker: Mosquitto
) -> None:
    with Proxy(plain_broker.port) as proxy:
        one = join(proxy.port)
    wait_until(lambda: not one.is_connected, "the loss of the connection")
    delivery = one.send(b"", "a")
    fail_network_thread(one)
    words = r"not confirmed \(the network thread has failed: ZeroDivisionError"
    with pytest.raises(UndeliveredError, match=words):
        delivery.wait(PATIENCE)


def test_errors_of_two_callers_do_not_share_a_traceback(failed: Communicator) -> None:
    lengths = []
    for _ in range(3):
        with pytest.raises(ClosedError) as caught:
            failed.subscribe("c")
        lengths.append(len(caught.traceback))
    assert len({*lengths}) == 1


def test_defect_ends_iteration_with_an_error(options: MqttOptions) -> None:
    async def scene() -> None:
        async with connect_async(options) as one, asyncio.timeout(PATIENCE):
            await one.subscribe("a/b")
            messages = one.messages("a/b")
            reading = asyncio.create_task(anext(messages))
            await asyncio.sleep(0)
            await asyncio.to_thread(fail_network_thread, one)
            with pytest.raises(ClosedError, match=DEFECT):
                await reading

    asyncio.run(scene())


def test_close_ends_iteration_without_an_error() -> None:
    async def scene() -> None:
        async with connect_async(MemoryOptions(broker=MemoryBroker())) as one:
            await one.subscribe("a/b")
            messages = one.messages("a/b")
            reading = asyncio.create_task(anext(messages, None))
            await asyncio.sleep(0)
            await one.close()
            async with asyncio.timeout(PATIENCE):
                assert await reading is None

    asyncio.run(scene())


@pytest.mark.parametrize("memory", [True, False])
def test_program_is_the_reason_after_close(memory: bool, plain_broker: Mosquitto) -> None:
    options: MqttOptions | MemoryOptions = MqttOptions(host="127.0.0.1", port=plain_broker.port)
    one = connect(MemoryOptions(broker=MemoryBroker()) if memory else options)
    one.subscribe("a/b")
    link = one._core.link
    one.close()
    calls: list[Callable[[], object]] = [
        lambda: one.send(b"", "a"),
        lambda: one.receive("a/b"),
        lambda: one.receive("c"),
        lambda: one.subscribe("c"),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match=r"is closed: the program has closed it$") as caught:
            call()
        assert caught.value.failure is None
        assert link.name in str(caught.value)


def test_failed_opening_is_the_reason_of_later_calls() -> None:
    broker = MemoryBroker()
    broker.cut("me")

    async def scene(one: AsyncCommunicator, kind: type[ConnectError], words: str) -> None:
        with pytest.raises(kind):
            await one.open(0.01)
        ends = asyncio.Queue[ClosedError]()
        one.on_close(ends.put_nowait)
        async with asyncio.timeout(PATIENCE):
            end = await ends.get()
        assert type(end.failure) is kind
        for call in (one.send(b"", "a"), one.subscribe("a")):
            with pytest.raises(ClosedError, match=words) as caught:
                await call
            assert type(caught.value.failure) is kind

    unreachable = MqttOptions(host="127.0.0.1", port=free_port(), client_id="me")
    for link in (
        MemoryLink(MemoryOptions(broker=broker, client_id="me")),
        MqttLink(unreachable),
    ):
        communicator = AsyncCommunicator(link)
        asyncio.run(
            scene(
                communicator,
                ConnectError,
                r"^me( at \S+)? is closed: it could not be opened: no connection within 0\.01 s",
            )
        )


def test_refused_opening_is_the_reason_of_later_calls(password_broker: Mosquitto) -> None:
    async def scene() -> None:
        options = MqttOptions(host="127.0.0.1", port=password_broker.port, client_id="me")
        one = AsyncCommunicator(MqttLink(options))
        words = (
            "it could not be opened: the broker refuses the connection: Not authorized; "
            "give the name and the password of a user"
        )
        with pytest.raises(RefusedError) as refused:
            await one.open(PATIENCE)
        with pytest.raises(ClosedError, match=rf"^me at \S+ is closed: {words}$") as caught:
            await one.send(b"", "a")
        assert caught.value.failure is refused.value

    asyncio.run(scene())


def test_closing_while_opening_is_not_a_failure() -> None:
    link = MqttLink(MqttOptions(host="127.0.0.1", port=free_port(), client_id="me"))
    link.close(0)
    for _ in range(2):
        with pytest.raises(ClosedError, match=r"the program has closed it$") as caught:
            raise link._state.closed_error()
        assert caught.value.failure is None


def test_subscription_after_the_end_of_the_thread_fails(options: MqttOptions) -> None:
    """A call that passed the communicator's check before the end must not wait for ever."""
    one = connect(options)
    one.close()
    with pytest.raises(ClosedError, match="the program has closed it"):
        one._core.link.subscribe("a", 1).result(PATIENCE)


def test_refusal_after_the_opening_is_not_an_end() -> None:
    state = ConnectionState("me", client_id=None, retry_min=1, retry_max=2)
    state.start_opening(10)
    state.opened.set_result(None)
    state.refused(RefusedError("no longer"))
    assert not state.is_done(outbox_empty=True)
