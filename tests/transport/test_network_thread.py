"""Tests of the network thread and its command queue, with a session that no broker serves."""

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from fastlib.transport import ClosedError, ConnectError, RefusedError, TransportError
from fastlib.transport.delivery import Delivery
from fastlib.transport.mqtt import network_thread
from fastlib.transport.mqtt.broker_order import BrokerOrder
from fastlib.transport.mqtt.connection_state import ConnectionState
from fastlib.transport.mqtt.network_thread import CommandQueue, NetworkThread
from fastlib.transport.mqtt.outbox import Outbox
from tests.support.waiting import wait_until

PATIENCE = 60


class FakeClient:
    """The methods of paho's client that the thread calls, over a pair of sockets."""

    def __init__(self) -> None:
        self.on_reconnect: Callable[[], None] = lambda: None
        self.on_read: Callable[[bytes], None] = lambda data: None
        self.used: list[tuple[str, float, bool]] = []
        """Each broker that was tried, the seconds for it, and whether by its next address."""
        self.disconnects = 0
        self.violation: str | None = None
        self.is_five = False
        self.peer: socket.socket | None = None
        self._own: socket.socket | None = None

    def use_broker(self, host: str, port: int, seconds: float, *, next_address: bool) -> None:
        self.used.append((host, seconds, next_address))

    def reconnect(self) -> None:
        self.drop()
        self._own, self.peer = socket.socketpair()
        try:
            self.on_reconnect()
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        for end in (self._own, self.peer):
            if end is not None:
                end.close()
        self._own = self.peer = None

    def socket(self) -> socket.socket | None:
        return self._own

    def want_write(self) -> bool:
        return False

    def has_read(self) -> bool:
        return False

    def loop_read(self) -> None:
        assert self._own is not None
        data = self._own.recv(100)
        if data:
            self.on_read(data)
        else:
            self.drop()

    def loop_write(self) -> None:
        """There is never anything to write."""

    def loop_misc(self) -> None:
        """There is no keep-alive."""

    def disconnect(self) -> None:
        self.disconnects += 1
        self.drop()

    is_pinging = False

    def ping(self) -> None:
        """There is no answer."""

    def traffic(self) -> object:
        return None


class FakeSession:
    """The part of a session that the thread uses."""

    def __init__(self, state: ConnectionState) -> None:
        self.state = state
        self.client = FakeClient()
        self.client_id = "me"
        self.renews = False
        self.outbox = Outbox(10, 5)
        self.sent: list[Delivery] = []
        self.failed: list[ClosedError] = []

    def drop_expired(self) -> None:
        self.outbox.drop_expired(None)

    def send_queued(self) -> None:
        self.outbox.send_queued(self._publish)

    def _publish(self, delivery: Delivery) -> int:
        self.sent.append(delivery)
        return len(self.sent)

    @property
    def can_send(self) -> bool:
        return self.outbox.can_send

    def connection_ended(self) -> None:
        self.state.connection_lost()
        self.outbox.connection_lost()

    def before_connect(self) -> None:
        """There is no last will."""

    def unreachable(self) -> None:
        """No message is suspected."""

    def ended_without_answer(self) -> str:
        return ""

    def fail_subscriptions(self, error: ClosedError) -> None:
        self.failed.append(error)


class Bench:
    """A network thread with its parts."""

    def __init__(self, *brokers: tuple[str, int]) -> None:
        brokers = brokers or (("b1", 1883),)
        self.ahead = 0.0
        """Seconds that the clock of the state is ahead."""
        self.state = ConnectionState(
            "me",
            client_id=None,
            retry_min=0.001,
            retry_max=0.002,
            clock=lambda: time.monotonic() + self.ahead,
        )
        self.session = FakeSession(self.state)
        self.client = self.session.client
        self.commands = CommandQueue()
        session: Any = self.session
        order = BrokerOrder(brokers)
        self.thread = NetworkThread(session, self.state, self.commands, order)
        self.ends: list[TransportError] = []
        self.thread.on_end = self.ends.append

    def start(self) -> None:
        self.state.start_opening(PATIENCE)
        self.thread.start()

    def accept(self) -> None:
        """Be a broker that accepts: called by `reconnect`."""
        self.state.connected()
        if not self.state.opened.done():
            self.state.opened.set_result(None)

    def call(self, command: Callable[[], Any]) -> Any:
        """Run a command in the thread and return its result."""
        future: Future[Any] = Future()
        self.commands.add(lambda: future.set_result(command()))
        return future.result(PATIENCE)

    def error_after_failed_try(self) -> TransportError:
        """Let the time for opening end once a try has failed, and return the error of opening."""
        self.start()
        wait_until(lambda: self.state.last_error, "a try that fails")
        self.ahead = PATIENCE + 1
        self.commands.wake()
        error = self.state.opened.exception(PATIENCE)
        assert isinstance(error, TransportError)
        return error

    def close(self, timeout: float = PATIENCE) -> Any:
        self.state.start_closing(timeout)
        self.commands.wake()
        return self.thread.closed.result(PATIENCE)


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(*getattr(request, "param", ()))
    yield bench
    if bench.thread.is_started:
        bench.close(0)
    else:
        bench.thread.finish()
    bench.client.drop()


def test_wake_makes_queue_readable() -> None:
    commands = CommandQueue()
    poll = select.poll()
    poll.register(commands, select.POLLIN)
    assert poll.poll(0) == []
    commands.wake()
    commands.wake()
    assert poll.poll(0)
    commands.run_all(woken=True)
    assert poll.poll(0) == []
    commands.close()
    commands.wake()  # has no effect


def test_close_waits_for_a_thread_that_wakes_the_owner() -> None:
    """Otherwise a new socket could get the file descriptor, and the byte of this thread."""
    commands, seen = CommandQueue(), []
    sender = commands._sender

    class Slow:
        """A sender that is closed in the middle of a `send`, if anything allows it."""

        def send(self, data: bytes) -> None:
            closing.start()
            closing.join(0.2)
            seen.append(sender.fileno())

        def close(self) -> None:
            sender.close()

    closing = threading.Thread(target=commands.close)
    commands._sender = Slow()  # type: ignore[assignment]
    commands.wake()
    closing.join(PATIENCE)
    assert seen != [-1]
    assert sender.fileno() == -1


def test_commands_run_in_order() -> None:
    commands, done = CommandQueue(), []
    for number in range(3):
        commands.add(lambda number=number: done.append(number))  # type: ignore[misc]
    commands.run_all(woken=True)
    assert done == [0, 1, 2]
    commands.close()


def test_run_is_immediate_in_the_owner() -> None:
    commands, done = CommandQueue(), []
    commands.run(lambda: done.append("queued"))
    assert done == []
    commands.owner = threading.current_thread()
    commands.run(lambda: done.append("immediate"))
    assert done == ["immediate"]
    commands.close()


def test_thread_connects_and_runs_commands(bench: Bench) -> None:
    bench.client.on_reconnect = bench.accept
    bench.start()
    bench.state.opened.result(PATIENCE)
    assert bench.call(threading.current_thread).name == "fastlib network me"


def test_thread_sends_queued_messages(bench: Bench) -> None:
    bench.client.on_reconnect = bench.accept
    bench.start()
    bench.state.opened.result(PATIENCE)
    delivery = Delivery("a", b"x", 1, False)
    bench.session.outbox.accept(delivery, True, None)
    bench.commands.wake()
    bench.call(lambda: None)
    bench.call(lambda: bench.session.outbox.confirm(1, 0))
    delivery.wait(PATIENCE)
    assert bench.session.sent == [delivery]


def test_thread_reads_the_socket(bench: Bench) -> None:
    got: Future[bytes] = Future()
    bench.client.on_reconnect = bench.accept
    bench.client.on_read = got.set_result
    bench.start()
    bench.state.opened.result(PATIENCE)
    assert bench.client.peer is not None
    bench.client.peer.send(b"data")
    assert got.result(PATIENCE) == b"data"


def test_thread_connects_again_after_loss(bench: Bench) -> None:
    again = threading.Event()

    def accept() -> None:
        if bench.state.opened.done():
            again.set()
        bench.accept()

    bench.client.on_reconnect = accept
    bench.start()
    bench.state.opened.result(PATIENCE)
    bench.call(bench.client.drop)
    assert again.wait(PATIENCE)


@pytest.mark.parametrize("bench", [(("b1", 1883), ("b2", 1884))], indirect=True)
def test_thread_tries_all_brokers_before_it_pauses(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[str] = []

    def pause() -> float:
        steps.append("pause")
        return 0.0

    def refuse_until_fourth() -> None:
        host, seconds, next_address = bench.client.used[-1]
        steps.append(f"{host} {seconds:g} {next_address}")
        if len(bench.client.used) < 4:
            raise ConnectionRefusedError("nobody there")
        bench.accept()

    bench.state.retry_pause = pause  # type: ignore[method-assign]
    bench.client.on_reconnect = refuse_until_fourth
    bench.start()
    bench.state.opened.result(PATIENCE)
    bench.call(lambda: None)
    rounds = ["b1 5 False", "b2 5 True", "pause", "b1 5 True", "b2 5 True"]
    assert steps == rounds
    assert bench.state.name == "me at b2:1884"
    assert "me at b2:1884 is used instead of b1:1883" in caplog.text


def test_thread_retries_unreachable_broker(bench: Bench) -> None:
    tries = []

    def refuse_twice() -> None:
        tries.append(None)
        if len(tries) < 3:
            raise ConnectionRefusedError("nobody there")
        bench.accept()

    bench.client.on_reconnect = refuse_twice
    bench.start()
    bench.state.opened.result(PATIENCE)
    assert len(tries) == 3


def test_invalid_certificate_ends_opening(bench: Bench) -> None:
    def refuse() -> None:
        raise network_thread.ssl.SSLCertVerificationError("self-signed")

    bench.client.on_reconnect = refuse
    bench.start()
    with pytest.raises(RefusedError, match="self-signed"):
        bench.state.opened.result(PATIENCE)
    assert bench.thread.closed.result(PATIENCE) == ()


def test_connection_that_ends_at_once_is_an_error(bench: Bench) -> None:
    bench.client.on_reconnect = bench.client.drop
    error = bench.error_after_failed_try()
    assert isinstance(error, ConnectError)
    assert "ended the connection at once" in str(error)


def test_broker_without_connack_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_thread, "CONNACK_SECONDS", -1)
    error = bench.error_after_failed_try()
    assert isinstance(error, ConnectError)
    assert str(error).endswith(": the broker does not answer")


def test_close_disconnects_and_completes_futures(bench: Bench) -> None:
    bench.client.on_reconnect = bench.accept
    bench.start()
    bench.state.opened.result(PATIENCE)
    assert bench.close() == ()
    assert bench.client.disconnects == 1
    assert bench.client.socket() is None
    (error,) = bench.ends
    assert bench.session.failed == [error]


def test_close_lists_unconfirmed_messages(bench: Bench) -> None:
    bench.client.on_reconnect = bench.accept
    bench.start()
    bench.state.opened.result(PATIENCE)
    bench.session.outbox.accept(Delivery("a", b"123", 1, False), True, None)
    (undelivered,) = bench.close(timeout=0.01)
    assert (undelivered.topic, undelivered.size) == ("a", 3)


def test_finish_without_start_completes_futures(bench: Bench) -> None:
    assert not bench.thread.is_started
    other = Bench()
    other.thread.finish()
    assert other.thread.closed.result(0) == ()
    assert isinstance(other.state.opened.exception(0), ClosedError)


def test_failed_thread_reports_its_error(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.client.on_reconnect = bench.accept
    bench.start()
    bench.state.opened.result(PATIENCE)

    def fail() -> None:
        assert bench.client.peer is not None
        bench.client.peer.close()
        raise ZeroDivisionError

    bench.commands.add(fail)
    assert bench.thread.closed.result(PATIENCE) == ()
    (error,) = bench.ends
    assert "ZeroDivisionError" in str(error)
    assert "thread failed" in caplog.text
    assert bench.client.disconnects == 0  # so the broker publishes the last will


def test_failed_disconnect_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("broken")

    bench.client.disconnect = fail  # type: ignore[method-assign]
    bench.client.on_reconnect = bench.accept
    bench.start()
    bench.state.opened.result(PATIENCE)
    assert bench.close() == ()
    assert "the disconnect failed" in caplog.text


def test_disconnect_waits_until_the_broker_closes(bench: Bench) -> None:
    writes = []

    def write() -> None:
        writes.append(None)
        if len(writes) == 3:
            bench.client.drop()

    bench.client.disconnect = lambda: None  # type: ignore[method-assign]
    bench.client.on_reconnect = bench.accept
    bench.start()
    bench.state.opened.result(PATIENCE)
    bench.client.loop_write = write  # type: ignore[method-assign]
    bench.close()
    assert len(writes) == 3
