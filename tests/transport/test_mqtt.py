"""Tests with a real MQTT broker: wills, duplicate ids, hanging brokers, reconnects, signals."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fastlib.extras import MissingExtraError, install_command
from fastlib.transport import (
    ClientIdTakenError,
    Communicator,
    ConnectError,
    MqttOptions,
    TlsOptions,
    UndeliveredError,
    Will,
    connect,
)
from tests.support.modules import missing_package
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until

PROTOCOLS = ["3.1.1", "5"]


@pytest.fixture
def root() -> str:
    return f"mqtt/{uuid4().hex}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_will_is_published_after_lost_connection(
    join: Callable[..., Communicator], plain_broker: Mosquitto, root: str, protocol: str
) -> None:
    watcher = join(plain_broker.port)
    watcher.subscribe(root)
    with Proxy(plain_broker.port) as proxy:
        will = Will(topic=root, payload=b"gone", qos=2)
        join(proxy.port, will=will, protocol=protocol)
        proxy.cut()
        assert watcher.receive(timeout=60).payload == b"gone"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_clients_with_same_id_back_off_and_report(
    join: Callable[..., Communicator],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    """They do not take over from each other at full speed, and report the cause."""
    with Mosquitto(tmp_path / "broker") as broker:
        began = time.monotonic()
        pair = [join(broker.port, client_id="twin", protocol=protocol) for _ in range(2)]
        wait_until(
            lambda: any(isinstance(one.last_error, ClientIdTakenError) for one in pair), "the word"
        )
        assert "'twin'" in caplog.text
        assert caplog.text.count("give each program an id of its own") <= 2

        def connections() -> int:
            return sum("New client connected" in line for line in broker.log)

        # With 3.1.1, where the network may be the cause, a pause and the connection before it take
        # 0.4 s at least, with 5 the pause alone; up to a third less at random.
        assert connections() <= 12 + (time.monotonic() - began) / 0.3 * 4
        start = time.monotonic()
        join(broker.port, client_id="mark")  # the log has all that was before
        wait_until(lambda: any(" as mark " in line for line in broker.log), "the mark")
        before = connections()
        wait_until(lambda: connections() >= before + 4, "more")
        assert time.monotonic() - start > 0.3
        pair[1].close(0.1)
        wait_until(lambda: pair[0].is_connected and pair[0].last_error is None, "peace")


def test_hanging_broker_blocks_no_method(
    join: Callable[..., Communicator], tmp_path: Path, root: str
) -> None:
    """All methods return in time, and `close` lists unconfirmed messages."""
    with Mosquitto(tmp_path / "broker") as broker:
        one = join(broker.port)
        broker.freeze()
        try:
            delivery = one.send(b"12345", root, qos=2)
            with pytest.raises(TimeoutError):
                delivery.wait(0.05)
            with pytest.raises(TimeoutError):
                one.subscribe(root, timeout=0.05)
            with pytest.raises(UndeliveredError, match="1 messages") as caught:
                one.close(0.3)
            (message,) = caught.value.messages
            assert (message.topic, message.qos, message.size, message.sent) == (root, 2, 5, True)
            with pytest.raises(UndeliveredError):
                delivery.wait(1)
            with pytest.raises(ConnectError, match="within"):
                join(broker.port, timeout=0.5)
        finally:
            broker.thaw()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_keep_alive_detects_hanging_broker(
    request: pytest.FixtureRequest,
    join: Callable[..., Communicator],
    tmp_path: Path,
    protocol: str,
) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("takes two keep-alives; with --long")
    with Mosquitto(tmp_path / "broker") as broker:
        one = join(broker.port, keep_alive=5, protocol=protocol)
        broker.freeze()
        try:
            wait_until(lambda: not one.is_connected, "the keep-alive")
        finally:
            broker.thaw()
        wait_until(lambda: one.is_connected, "the connection")


def test_subscriptions_are_renewed_after_reconnect(
    join: Callable[..., Communicator], tmp_path: Path, root: str
) -> None:
    """Also if the broker has lost them, and one that was made without a connection."""
    broker = Mosquitto(tmp_path / "broker").start()
    try:
        one = join(broker.port)
        one.subscribe(f"{root}/a")
        one.subscribe(f"{root}/gone")
        broker.kill()
        wait_until(lambda: not one.is_connected, "the end of the connection")
        one.unsubscribe(f"{root}/gone")
        thread = threading.Thread(target=one.subscribe, args=(f"{root}/b",))
        thread.start()
        broker.start()
        thread.join(60)
        for topic in ("gone", "a", "b"):
            one.send(b"", f"{root}/{topic}", qos=2).wait(60)
        assert one.receive(f"{root}/a", timeout=60).topic == f"{root}/a"
        assert one.receive(f"{root}/b", timeout=60).topic == f"{root}/b"
    finally:
        broker.kill()


CONSUMER = """
import sys
from fastlib.transport import MqttOptions, connect
port, root, path = sys.argv[1:]
options = MqttOptions(host="127.0.0.1", port=int(port), client_id="consumer", persistent=True)
with connect(options) as communicator, open(path, "ab", 0) as store:
    communicator.subscribe(root, manual_ack=True)
    print(flush=True)
    while True:
        message = communicator.receive()
        store.write(message.payload + b"\\n")
        message.ack()
"""


@pytest.mark.parametrize("qos", [pytest.param(1, marks=pytest.mark.load), 2])
def test_killed_consumer_gets_unacknowledged_messages_again(
    join: Callable[..., Communicator], tmp_path: Path, root: str, qos: int
) -> None:
    """With QoS 2, too. A few acknowledged messages may also be repeated."""
    store = tmp_path / "store"
    with Mosquitto(tmp_path / "broker", settings=("max_queued_messages 0",)) as broker:
        sender = join(broker.port)
        command = [sys.executable, "-c", CONSUMER, str(broker.port), root, str(store)]

        def lines() -> list[bytes]:
            return store.read_bytes().splitlines() if store.exists() else []

        def consume(until: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
            consumer = subprocess.Popen(command, stdout=subprocess.PIPE)
            try:
                assert consumer.stdout
                consumer.stdout.readline()
                meanwhile()
                wait_until(until, "messages")
            finally:
                consumer.kill()
                consumer.communicate()

        def send() -> None:
            for number in range(150):
                sender.send(b"%d" % number, root, qos)

        consume(lambda: len(lines()) >= 30, send)
        consume(lambda: len(lines()) >= 80, lambda: None)
        consume(lambda: lines()[-1:] == [b"149"], lambda: None)
    stored = [int(line) for line in lines()]
    assert list(dict.fromkeys(stored)) == list(range(150))


@pytest.mark.parametrize(
    "wait",
    [
        "connect(MqttOptions(host='127.0.0.1', port={port}, retry_min=0.05))",
        "time.sleep(0) or connect(MqttOptions(host='127.0.0.1', port={broker},"
        " subscribe_topic='a')).receive()",
    ],
)
def test_ctrl_c_ends_waiting(plain_broker: Mosquitto, wait: str) -> None:
    wait = wait.format(port=free_port(), broker=plain_broker.port)
    code = f"import time\nfrom fastlib.transport import *\nprint(flush=True)\n{wait}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout
        assert program.stderr
        program.stdout.readline()
        program.send_signal(signal.SIGINT)
        assert program.wait(60) != 0
        assert "KeyboardInterrupt" in program.stderr.read()


def test_repr_hides_secrets() -> None:
    options = MqttOptions(
        username="alice",
        password="hush",
        tls=TlsOptions(certificate="a.pem", key_password="hush"),
    )
    assert "hush" not in repr(options)
    assert "alice" in repr(options)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": ""},
        {"port": 0},
        {"protocol": "4"},
        {"persistent": True},
        {"client_id": ""},
        {"password": "x"},
        {"username": "x", "password": "y", "password_file": "z"},
        {"keep_alive": 1},
        {"max_inflight": 0},
        {"max_pending": 1},
        {"retry_min": 0},
        {"retry_min": 3.0, "retry_max": 2.0},
        {"session_expiry": -1},
        {"publish_topic": "a/#"},
        {"subscribe_topic": "a/#/b"},
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        MqttOptions(**wrong)


def test_missing_paho_error_names_the_extra() -> None:
    paho = missing_package("paho", "fastlib.transport.mqtt")
    with paho, pytest.raises(MissingExtraError, match=re.escape(install_command("mqtt"))):
        connect(MqttOptions())


_FORGETFUL = """
import sys
from fastlib.transport import MqttOptions, connect
one = connect(MqttOptions(host="127.0.0.1", port=int(sys.argv[1]), client_id="forgetful"))
one._core.link._session.outbox.max_in_flight = int(sys.argv[2])
for _ in range(3):
    delivery = one.send(b"x", "a/b")
if one._core.link._session.outbox.max_in_flight:
    delivery.wait(60)
"""


@pytest.mark.parametrize(("window", "said"), [(0, "has confirmed 3 messages"), (20, "")])
def test_program_without_close_logs_lost_messages(
    plain_broker: Mosquitto, window: int, said: str
) -> None:
    """Its exit logs how many messages are lost, and does not hang."""
    ended = subprocess.run(
        [sys.executable, "-c", _FORGETFUL, str(plain_broker.port), str(window)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0
    assert ended.stderr == "" if not said else said in ended.stderr
