"""The embedded broker: how it starts and ends, what it refuses, and `fastlib broker`.

That messages travel through it is shown in `test_communicator.py`, and in `embedded.py` what of
that it cannot do.
"""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastlib.cli import main
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
from tests.support.mosquitto import PATIENCE
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def join() -> Iterator[Callable[..., Communicator]]:
    made: list[Communicator] = []

    def join(port: int, **named: Any) -> Communicator:
        options = MqttOptions(host="127.0.0.1", port=port, retry_min=0.05, retry_max=0.4, **named)
        made.append(connect(options, timeout=PATIENCE))
        return made[-1]

    yield join
    for communicator in made:
        communicator.close(0.5)


def broker_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fastlib broker")]


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# --- starting and ending --------------------------------------------------------------------------


def test_it_takes_any_free_port_and_leaves_nothing_behind(
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


def test_it_ends_whatever_clients_do(join: Callable[..., Communicator]) -> None:
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
    with silent:
        silent.settimeout(PATIENCE)
        assert silent.recv(1) == b""
    assert broker_threads() == before
    wait_until(lambda: not receiver.is_connected, "the end of the connection")
    with pytest.raises(UndeliveredError):
        sender.close(0.1)


def test_clients_come_back_to_one_that_is_started_again(join: Callable[..., Communicator]) -> None:
    broker = EmbeddedBroker(port=0).start()
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


def test_waiting_for_its_end() -> None:
    with EmbeddedBroker(port=0) as broker:
        with pytest.raises(WaitTimeoutError, match="the end of the broker"):
            broker.wait(0.01)
        stopping = threading.Thread(target=broker.stop)
        stopping.start()
        broker.wait(PATIENCE)
        stopping.join(PATIENCE)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2"])
def test_any_loopback_address(host: str) -> None:
    with EmbeddedBroker(host, port=0) as broker:
        assert broker.address == f"{broker.host}:{broker.port}"
        connect(MqttOptions(host=broker.host, port=broker.port), timeout=PATIENCE).close()


# --- what is refused ------------------------------------------------------------------------------


def test_a_port_in_use_is_one_clear_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ListenError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"),
    ):
        EmbeddedBroker(port=other.getsockname()[1]).start()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(OptionsError, match=r"loopback only|is an IP address"):
        EmbeddedBroker(host)


@pytest.mark.parametrize("port", [-1, 65536])
def test_no_port(port: int) -> None:
    with pytest.raises(OptionsError, match="0 to 65535"):
        EmbeddedBroker(port=port)


def test_if_it_breaks_down_everybody_is_told(
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


def test_a_missing_amqtt_is_answered_with_the_line_that_installs_it() -> None:
    code = """
import sys
sys.modules["amqtt"] = None
from fastlib import MissingExtraError
from fastlib.transport import EmbeddedBroker
try:
    EmbeddedBroker()
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'fastlib[broker]'" in done.stdout, done.stderr


# --- what it can and what it lacks, beyond the common tests ---------------------------------------


def test_will(embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]) -> None:
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


def test_a_topic_with_a_dollar_ends_the_connection(
    embedded_broker: EmbeddedBroker,
    join: Callable[..., Communicator],
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = join(embedded_broker.port, client_id="dollar")
    one.send(b"", "$fastlib/test").wait(PATIENCE)
    wait_until(lambda: "the connection of dollar" in caplog.text, "the end of the connection")
    wait_until(lambda: one.is_connected, "the next one")


def test_the_older_of_two_clients_with_one_id_is_not_told(
    embedded_broker: EmbeddedBroker, join: Callable[..., Communicator]
) -> None:
    """It stays connected, and its messages go to the newer one."""
    older, newer = (join(embedded_broker.port, client_id="twin") for _ in range(2))
    newer.subscribe("embedded/twin")
    older.send(b"x", "embedded/twin", qos=2).wait(PATIENCE)
    assert newer.receive(timeout=PATIENCE).payload == b"x"
    assert older.is_connected
    assert older.last_error is None


# --- fastlib broker -------------------------------------------------------------------------------


@contextmanager
def running(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The command and its port, once it says that it listens."""
    with subprocess.Popen(
        [sys.executable, "-m", "fastlib", "broker", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
            assert found, line
            yield process, int(found[1])
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command(join: Callable[..., Communicator], number: signal.Signals) -> None:
    """Two clients talk through it, and a signal ends it in order."""
    with running("--port", "0") as (process, port):
        one, other = join(port), join(port)
        one.subscribe("a/+")
        other.send(b"hello", "a/b").wait(PATIENCE)
        assert one.receive(timeout=PATIENCE).payload == b"hello"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stdout
        assert "not for production" in process.stdout.read()
        assert process.stderr
        assert process.stderr.read() == ""


def test_the_command_says_what_it_refuses(join: Callable[..., Communicator]) -> None:
    with running("--port", "0") as (process, port):
        with pytest.raises(RefusedError):
            join(port, protocol="5")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr
        errors = process.stderr.read()
        assert "Invalid protocol" in errors
        assert "Traceback" not in errors


def test_the_command_listens_where_it_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    with running("--port", str(free)) as (_, port):
        assert port == free


def test_the_command_when_the_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "fastlib", "broker", "--port", port],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"fastlib broker: error: cannot listen on 127.0.0.1:{port}: "
        f"{os.strerror(errno.EADDRINUSE)}; port 0 is any that is free\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "loopback only"),
        (["--port", "99999"], "0 to 65535"),
    ],
)
def test_the_command_refuses(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert words in shown.err


def test_the_command_without_amqtt() -> None:
    code = "import sys; sys.modules['amqtt'] = None; from fastlib.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "broker"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fastlib broker: error: ")
    assert done.stderr.endswith("pip install 'fastlib[broker]'\n")
