"""What only a real broker shows: refusals, certificates, wills, ids used twice, hanging brokers."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fastlib.transport import (
    ClientIdTakenError,
    ClosedError,
    Communicator,
    ConnectError,
    MqttOptions,
    OptionsError,
    RefusedError,
    TlsOptions,
    UndeliveredError,
    Will,
    connect,
)
from tests.support.mosquitto import Certificates, Mosquitto, free_port
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until

PROTOCOLS = ["3.1.1", "5"]


@pytest.fixture
def root() -> str:
    return f"mqtt/{uuid4().hex}"


@pytest.fixture
def join() -> Iterator[Callable[..., Communicator]]:
    made: list[Communicator] = []

    def join(port: int, *, timeout: float = 20, **named: Any) -> Communicator:
        fixed = {"host": "127.0.0.1", "retry_min": 0.05, "retry_max": 0.4}
        made.append(connect(MqttOptions(port=port, **(fixed | named)), timeout=timeout))
        return made[-1]

    yield join
    for communicator in made:
        communicator.close(0.5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("password", ["wrong", None])
def test_wrong_password(
    join: Callable[..., Communicator],
    password_broker: Mosquitto,
    protocol: str,
    password: str | None,
) -> None:
    """At once, and without the password in any text."""
    start = time.monotonic()
    with pytest.raises(RefusedError, match=r"refuses the connection") as caught:
        join(password_broker.port, username="alice", password=password, protocol=protocol)
    assert time.monotonic() - start < 10
    assert caught.value.code in (0x86, 0x87)
    assert "wrong" not in str(caught.value)


def test_right_password(join: Callable[..., Communicator], password_broker: Mosquitto) -> None:
    join(password_broker.port, username="alice", password="correct horse").send(b"", "a").wait(20)


def test_nobody_there(join: Callable[..., Communicator]) -> None:
    start = time.monotonic()
    with pytest.raises(ConnectError, match=r"within 0.5 s: cannot reach .*refused") as caught:
        join(free_port(), timeout=0.5)
    assert time.monotonic() - start < 10
    assert isinstance(caught.value.last, ConnectError)


def test_a_stranger_for_a_broker(
    join: Callable[..., Communicator], tls_broker: Mosquitto, certificates: Certificates
) -> None:
    with pytest.raises(RefusedError, match=r"(?i)certificate"):
        join(tls_broker.port, tls=TlsOptions())


def test_no_certificate_of_ours(
    join: Callable[..., Communicator], tls_broker: Mosquitto, certificates: Certificates
) -> None:
    with pytest.raises(ConnectError):
        join(tls_broker.port, tls=TlsOptions(ca_file=certificates.ca), timeout=1)


def test_files_that_are_not_there(join: Callable[..., Communicator], tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="certificates"):
        join(1, tls=TlsOptions(ca_file=tmp_path / "none.pem"))
    with pytest.raises(OptionsError, match="password file"):
        join(1, username="alice", password_file=tmp_path / "none")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_will(
    join: Callable[..., Communicator], plain_broker: Mosquitto, root: str, protocol: str
) -> None:
    watcher = join(plain_broker.port)
    watcher.subscribe(root)
    with Proxy(plain_broker.port) as proxy:
        will = Will(topic=root, payload=b"gone", qos=2)
        join(proxy.port, will=will, protocol=protocol)
        proxy.cut()
        assert watcher.receive(timeout=20).payload == b"gone"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_clients_with_one_id(
    join: Callable[..., Communicator],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    """They do not fight at full speed, and they say what is the matter."""
    with Mosquitto(tmp_path / "broker") as broker:
        pair = [join(broker.port, client_id="twin", protocol=protocol) for _ in range(2)]
        wait_until(
            lambda: any(isinstance(one.last_error, ClientIdTakenError) for one in pair), "the word"
        )
        assert "'twin'" in caplog.text
        assert caplog.text.count("give each program an id of its own") <= 2
        connections = sum("New client connected" in line for line in broker.log)
        assert connections <= 12
        # The pauses are as long as they get: between 2/3 and 1 of `retry_max` for each of the two.
        start = time.monotonic()
        wait_until(
            lambda: sum("New client" in line for line in broker.log) >= connections + 4, "more"
        )
        assert time.monotonic() - start > 0.4
        pair[1].close(0.1)
        wait_until(lambda: pair[0].is_connected and pair[0].last_error is None, "peace")


def test_a_broker_that_hangs(join: Callable[..., Communicator], tmp_path: Path, root: str) -> None:
    """Nothing hangs with it, and `close` says what was not confirmed."""
    with Mosquitto(tmp_path / "broker") as broker:
        one = join(broker.port)
        broker.freeze()
        try:
            delivery = one.send(b"12345", root, qos=2)
            with pytest.raises(TimeoutError):
                delivery.wait(0.05)
            with pytest.raises(TimeoutError):
                one.subscribe(root, timeout=0.05)
            start = time.monotonic()
            with pytest.raises(UndeliveredError, match="1 messages") as caught:
                one.close(0.3)
            assert time.monotonic() - start < 8
            (message,) = caught.value.messages
            assert (message.topic, message.qos, message.size, message.sent) == (root, 2, 5, True)
            with pytest.raises(UndeliveredError):
                delivery.wait(1)
            with pytest.raises(ConnectError, match="within"):
                join(broker.port, timeout=0.5)
        finally:
            broker.thaw()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broker_that_hangs_is_noticed(
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


def test_subscriptions_are_made_again(
    join: Callable[..., Communicator], tmp_path: Path, root: str
) -> None:
    """Also when the broker has forgotten them, and the one that was made meanwhile."""
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
        thread.join(20)
        for topic in ("gone", "a", "b"):
            one.send(b"", f"{root}/{topic}", qos=2).wait(20)
        assert one.receive(f"{root}/a", timeout=20).topic == f"{root}/a"
        assert one.receive(f"{root}/b", timeout=20).topic == f"{root}/b"
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


@pytest.mark.parametrize("qos", [1, 2])
def test_a_consumer_that_is_killed(
    join: Callable[..., Communicator], tmp_path: Path, root: str, qos: int
) -> None:
    """What it has not acknowledged comes again, also with QoS 2, and maybe a little more."""
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
            for number in range(400):
                sender.send(b"%d" % number, root, qos)

        consume(lambda: len(lines()) >= 50, send)
        consume(lambda: len(lines()) >= 200, lambda: None)
        consume(lambda: lines()[-1:] == [b"399"], lambda: None)
    stored = [int(line) for line in lines()]
    assert list(dict.fromkeys(stored)) == list(range(400))


@pytest.mark.parametrize(
    "wait",
    [
        "connect(MemoryOptions(broker=MemoryBroker(), subscribe_topic='a')).receive()",
        "connect(MqttOptions(host='127.0.0.1', port={port}, retry_min=0.05))",
        "time.sleep(0) or connect(MqttOptions(host='127.0.0.1', port={broker},"
        " subscribe_topic='a')).receive()",
    ],
)
def test_ctrl_c(plain_broker: Mosquitto, wait: str) -> None:
    wait = wait.format(port=free_port(), broker=plain_broker.port)
    code = f"import time\nfrom fastlib.transport import *\nprint(flush=True)\n{wait}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout
        assert program.stderr
        program.stdout.readline()
        program.send_signal(signal.SIGINT)
        assert program.wait(20) != 0
        assert "KeyboardInterrupt" in program.stderr.read()


def test_if_the_network_thread_fails_everybody_is_told(
    join: Callable[..., Communicator], plain_broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    one = join(plain_broker.port)
    one.subscribe("a/b")
    future = one._core.inbox("a/b").take()

    def bug() -> None:
        raise ZeroDivisionError

    over = threading.Event()
    one.on_close(over.set)
    one._core.link._commands.add(bug)
    with pytest.raises(ClosedError, match="ZeroDivisionError"):
        future.result(20)
    assert over.wait(20)
    with pytest.raises(ClosedError):
        one.send(b"", "a")
    assert "ZeroDivisionError" in caplog.text


def test_secrets_stay_secret() -> None:
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
def test_options_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        MqttOptions(**wrong)


def test_a_missing_paho_is_answered_with_the_line_that_installs_it() -> None:
    code = """
import sys
sys.modules["paho"] = None
from fastlib import MissingExtraError
from fastlib.transport import MqttOptions, connect
try:
    connect(MqttOptions())
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'fastlib[mqtt]'" in done.stdout, done.stderr


_FORGETFUL = """
import sys
from fastlib.transport import MqttOptions, connect
one = connect(MqttOptions(host="127.0.0.1", port=int(sys.argv[1]), client_id="forgetful"))
one._core.link._session.outbox.max_in_flight = int(sys.argv[2])
for _ in range(3):
    delivery = one.send(b"x", "a/b")
if one._core.link._session.outbox.max_in_flight:
    delivery.wait(20)
"""


@pytest.mark.parametrize(("window", "said"), [(0, "has confirmed 3 messages"), (20, "")])
def test_a_program_that_forgets_to_close(plain_broker: Mosquitto, window: int, said: str) -> None:
    """What it loses by that is told; its exit does not hang."""
    ended = subprocess.run(
        [sys.executable, "-c", _FORGETFUL, str(plain_broker.port), str(window)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0
    assert ended.stderr == "" if not said else said in ended.stderr
