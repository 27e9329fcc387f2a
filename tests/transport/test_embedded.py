"""Tests of the embedded broker: start and end, messages, its known limits, and `fastlib broker`.

The limits come from amqtt. Each has a test that fails as soon as an amqtt without it is installed.
"""

import errno
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from fastlib.cli import main
from fastlib.extras import MissingExtraError, install_command
from fastlib.transport import (
    Communicator,
    EmbeddedBroker,
    ListenError,
    MqttOptions,
    OptionsError,
    RefusedError,
    UndeliveredError,
    WaitTimeoutError,
    Will,
    connect,
)
from fastlib.transport.embedded.server import AmqttServer
from tests.support.mosquitto import PATIENCE, free_port
from tests.support.transport.broker_command import broker_command
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(port=0) as broker:
        yield broker


def broker_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fastlib broker")]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_port_0_takes_a_free_port_and_stop_frees_it(
    join: Callable[..., Communicator], caplog: pytest.LogCaptureFixture
) -> None:
    before = broker_threads()
    with EmbeddedBroker(port=0) as broker:
        assert broker.is_running
        assert repr(broker) == f"<EmbeddedBroker 127.0.0.1:{broker.port}>"
        with pytest.raises(ListenError, match=r"listens on 127\.0\.0\.1:\d+ already"):
            broker.start()
        one = join(broker.port)
        one.subscribe("a")
        one.send(b"x", "a", qos=2).wait(PATIENCE)
        assert one.receive(timeout=PATIENCE).payload == b"x"
        one.close()
    assert not broker.is_running
    assert broker_threads() == before
    assert is_free(broker.port)
    broker.stop()  # once is enough
    assert not caplog.text


def test_stop_ends_despite_active_clients(join: Callable[..., Communicator]) -> None:
    """One sends without end, one does not acknowledge, one has said nothing yet."""
    before = broker_threads()
    with EmbeddedBroker(port=0) as broker:
        receiver = join(broker.port, client_id="receiver", persistent=True)
        receiver.subscribe("a", manual_ack=True)
        sender = join(broker.port, will=Will(topic="gone"))
        for number in range(2000):
            sender.send(b"%d" % number, "a", qos=2)
        receiver.receive(timeout=PATIENCE)
        silent = socket.create_connection(("127.0.0.1", broker.port))
    with silent, suppress(ConnectionResetError):  # reset if the broker had not accepted it yet
        silent.settimeout(PATIENCE)
        assert silent.recv(1) == b""
    assert broker_threads() == before
    wait_until(lambda: not receiver.is_connected, "the end of the connection")
    with pytest.raises(UndeliveredError):
        sender.close(0.1)


def test_clients_reconnect_after_restart(join: Callable[..., Communicator]) -> None:
    broker = EmbeddedBroker(port=free_port()).start()
    again = EmbeddedBroker(port=broker.port)
    one = join(broker.port)
    one.subscribe("a")
    broker.stop()
    wait_until(lambda: not one.is_connected, "the end of the connection")
    with again:
        wait_until(lambda: one.is_connected, "the connection")
        one.send(b"again", "a", qos=2)
        assert one.receive(timeout=PATIENCE).payload == b"again"
        one.close()
    with again:
        assert again.port == broker.port


def test_wait_returns_after_stop() -> None:
    with EmbeddedBroker(port=0) as broker:
        with pytest.raises(WaitTimeoutError, match="the end of the broker"):
            broker.wait(0.01)
        stopping = threading.Thread(target=broker.stop)
        stopping.start()
        broker.wait(PATIENCE)
        stopping.join(PATIENCE)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_loopback_addresses_are_accepted(host: str) -> None:
    with EmbeddedBroker(host, port=0) as broker:
        assert broker.address == f"{broker.host}:{broker.port}"
        connect(MqttOptions(host=broker.host, port=broker.port), timeout=PATIENCE).close()


def test_port_in_use_is_refused() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ListenError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"),
    ):
        EmbeddedBroker(port=other.getsockname()[1]).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])
def test_other_addresses_are_refused(host: str) -> None:
    with pytest.raises(OptionsError, match=r"loopback only|must be an IP address"):
        EmbeddedBroker(host)


@pytest.mark.parametrize("port", [-1, 65536])
def test_invalid_port_is_refused(port: int) -> None:
    with pytest.raises(OptionsError, match="0 to 65535"):
        EmbeddedBroker(port=port)


def test_failed_broker_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def bug(server: AmqttServer) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(AmqttServer, "_serve", bug)
    broker = EmbeddedBroker(port=0)
    with pytest.raises(ListenError, match="ZeroDivisionError"):
        broker.start()
    with pytest.raises(ListenError, match="ZeroDivisionError"):
        broker.wait(PATIENCE)
    assert is_free(broker.port)
    assert "ZeroDivisionError" in caplog.text


def test_messages_arrive_in_order(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    one, other = join(embedded_broker.port), join(embedded_broker.port)
    one.subscribe("embedded/+/order")
    one.subscribe("embedded/#")
    for number in range(50):
        other.send(b"%d" % number, "embedded/x/order", qos=2)
    for pattern in ("embedded/+/order", "embedded/#"):
        for number in range(50):
            assert one.receive(pattern, timeout=PATIENCE).payload == b"%d" % number


def test_retained_message_is_delivered(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    one = join(embedded_broker.port)
    one.send(b"kept", "embedded/retained", retain=True).wait(PATIENCE)
    one.subscribe("embedded/retained")
    message = one.receive(timeout=PATIENCE)
    assert (message.payload, message.retain) == (b"kept", True)


def test_persistent_session_keeps_messages(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    away = join(embedded_broker.port, client_id="away", persistent=True)
    away.subscribe("embedded/session")
    away.close()
    sender = join(embedded_broker.port)
    for number in range(10):
        sender.send(b"%d" % number, "embedded/session", 1 + number % 2).wait(PATIENCE)
    back = join(embedded_broker.port, client_id="away", persistent=True)
    back.subscribe("embedded/session")
    received = [back.receive(timeout=PATIENCE) for _ in range(10)]
    assert [int(message.payload) for message in received] == list(range(10))
    assert not any(message.retain for message in received)


def test_limit_qos_is_that_of_the_subscription(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    """A real broker delivers with the lower QoS of the sender and the subscription."""
    one = join(embedded_broker.port)
    one.subscribe("embedded/qos", qos=2)
    one.send(b"", "embedded/qos", qos=0)
    assert one.receive(timeout=PATIENCE).qos == 2


def test_limit_unacknowledged_messages_are_lost(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    """A real broker repeats them to a resumed session."""
    first = join(embedded_broker.port, client_id="manual", persistent=True)
    first.subscribe("embedded/manual", manual_ack=True)
    sender = join(embedded_broker.port)
    sender.send(b"lost", "embedded/manual").wait(PATIENCE)
    first.receive(timeout=PATIENCE)
    first.close()
    second = join(embedded_broker.port, client_id="manual", persistent=True)
    second.subscribe("embedded/manual", manual_ack=True)
    sender.send(b"next", "embedded/manual").wait(PATIENCE)
    assert second.receive(timeout=PATIENCE).payload == b"next"


def test_will_is_published(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    watcher = join(embedded_broker.port)
    watcher.subscribe("embedded/will")
    with Proxy(embedded_broker.port) as proxy:
        join(proxy.port, will=Will(topic="embedded/will", payload=b"gone", qos=2))
        proxy.cut()
        assert watcher.receive(timeout=PATIENCE).payload == b"gone"


def test_mqtt_5_is_refused(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    with pytest.raises(RefusedError, match="Unsupported protocol version"):
        join(embedded_broker.port, protocol="5")


def test_limit_system_topic_ends_the_connection(
    embedded_broker: EmbeddedBroker,
    join: Callable[..., Communicator],
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = join(embedded_broker.port, client_id="dollar")
    one.send(b"", "$fastlib/test").wait(PATIENCE)
    wait_until(lambda: "the connection of dollar" in caplog.text, "the end of the connection")
    wait_until(lambda: one.is_connected, "the next one")


def test_limit_older_client_with_same_id_stays_connected(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    """It stays connected, and its messages go to the newer one."""
    older, newer = (join(embedded_broker.port, client_id="twin") for _ in range(2))
    newer.subscribe("embedded/twin")
    older.send(b"x", "embedded/twin", qos=2).wait(PATIENCE)
    assert newer.receive(timeout=PATIENCE).payload == b"x"
    assert older.is_connected
    assert older.last_error is None


def test_command_serves_clients_until_sigterm(join: Callable[..., Communicator]) -> None:
    given = free_port()
    with broker_command("--server", "amqtt", "--port", str(given)) as (process, port, about):
        assert port == given
        one, other = join(port), join(port)
        one.subscribe("a/+")
        other.send(b"hello", "a/b").wait(PATIENCE)
        assert one.receive(timeout=PATIENCE).payload == b"hello"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "not for production" in about
        assert process.stderr
        assert process.stderr.read() == ""


def test_command_logs_refused_clients_until_ctrl_c(join: Callable[..., Communicator]) -> None:
    with broker_command("--server", "amqtt", "--port", "0") as (process, port, _):
        with pytest.raises(RefusedError):
            join(port, protocol="5")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr
        errors = process.stderr.read()
        assert "Invalid protocol" in errors
        assert "Traceback" not in errors


def test_command_reports_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main(["broker", "--server", "amqtt", "--port", port]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"fastlib broker: error: cannot listen on 127.0.0.1:{port}: "
        f"{os.strerror(errno.EADDRINUSE)}; port 0 is any that is free\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "loopback only"),
        (["--port", "99999"], "0 to 65535"),
        (["--directory", "x"], "stores nothing"),
    ],
)
def test_command_refuses_invalid_options(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", "--server", "amqtt", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert words in shown.err


@pytest.fixture
def without_amqtt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the import of amqtt fail, as if it were not installed."""
    monkeypatch.delitem(sys.modules, AmqttServer.__module__)
    monkeypatch.delattr("fastlib.transport.embedded.server")
    for name in [name for name in sys.modules if name.partition(".")[0] == "amqtt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "amqtt", None)


@pytest.mark.usefixtures("without_amqtt")
def test_missing_amqtt_error_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=re.escape(install_command("broker"))):
        EmbeddedBroker()


@pytest.mark.usefixtures("without_amqtt")
def test_command_without_amqtt_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["broker", "--server", "amqtt"]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("fastlib broker: error: ")
    assert shown.err.endswith(f"{install_command('broker')}\n")


@pytest.mark.usefixtures("without_amqtt")
def test_command_without_any_broker_names_both_installations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastlib.transport.embedded.mosquitto.find_mosquitto", lambda: None)
    assert main(["broker"]) == 2
    error = capsys.readouterr().err
    assert "apt-get install mosquitto" in error
    assert install_command("broker") in error
