"""The broker's own words in real packets of MQTT 5, in errors and in the log.

None of the brokers of the matrix sends them, so a few packets of a broker are played here.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from fastlib.transport import Communicator, ConnectError, RefusedError
from tests.support.mosquitto import PATIENCE
from tests.support.transport.hostile_packets import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    PUBREC,
    SUBACK,
    SUBSCRIBE,
    Packet,
    properties,
    text,
)
from tests.support.waiting import wait_until

WORDS = "the tenant \N{EURO SIGN} has\nno room"
SHOWN = r'the broker says "the tenant \N{EURO SIGN} has\\nno room"'.replace(
    r"\N{EURO SIGN}", "\N{EURO SIGN}"
)
SAID = properties(b"\x1f" + text(WORDS.encode()))
NOT_AUTHORIZED, QUOTA_EXCEEDED, ADMINISTRATIVE_ACTION = b"\x87", b"\x97", b"\x98"

Answer = Callable[[bytes], Packet | None]
WELCOME = Packet(CONNACK, 0, b"\0\0" + properties())


@contextmanager
def broker(answers: dict[int, Answer]) -> Iterator[int]:
    """Play a broker that answers each kind of packet by its body. Yield its port."""

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file, suppress(OSError):
            while head := file.read(1):
                size, shift = 0, 0
                while True:
                    (byte,) = file.read(1)
                    size, shift = size | (byte & 127) << shift, shift + 7
                    if byte < 128:
                        break
                body = file.read(size)
                answer = answers.get(head[0] >> 4, lambda _: None)(body)
                if answer is not None:
                    connection.sendall(answer.encode())

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def packet_id_of_publish(body: bytes) -> bytes:
    at = 2 + int.from_bytes(body[:2])
    return body[at : at + 2]


def test_reason_string_of_a_refused_connection(join: Callable[..., Communicator]) -> None:
    refusal = Packet(CONNACK, 0, b"\0" + NOT_AUTHORIZED + SAID)
    with (
        broker({CONNECT: lambda _: refusal}) as port,
        pytest.raises(RefusedError, match=SHOWN) as caught,
    ):
        join(port, protocol="5")
    assert caught.value.code == NOT_AUTHORIZED[0]


def test_reason_string_of_a_refused_subscription(join: Callable[..., Communicator]) -> None:
    def refuse(body: bytes) -> Packet:
        return Packet(SUBACK, 0, body[:2] + SAID + NOT_AUTHORIZED)

    with broker({CONNECT: lambda _: WELCOME, SUBSCRIBE: refuse}) as port:
        one = join(port, protocol="5")
        with pytest.raises(RefusedError, match=f"'a/b': not authorized .*{SHOWN}"):
            one.subscribe("a/b")


@pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
def test_reason_string_of_a_refused_message(
    join: Callable[..., Communicator], qos: int, kind: int
) -> None:
    def refuse(body: bytes) -> Packet:
        return Packet(kind, 0, packet_id_of_publish(body) + QUOTA_EXCEEDED + SAID)

    with broker({CONNECT: lambda _: WELCOME, PUBLISH: refuse}) as port:
        one = join(port, protocol="5")
        with pytest.raises(RefusedError, match=f"message to a/b: quota exceeded .*{SHOWN}"):
            one.send(b"x", "a/b", qos).wait(PATIENCE)


def test_reason_string_of_an_ended_connection(
    join: Callable[..., Communicator], caplog: pytest.LogCaptureFixture
) -> None:
    end = Packet(DISCONNECT, 0, ADMINISTRATIVE_ACTION + SAID)
    answers: dict[int, Any] = {CONNECT: lambda _: WELCOME, SUBSCRIBE: lambda _: end}
    with broker(answers) as port:
        one = join(port, protocol="5")
        one.subscribe_now("a/b", lambda _: None)
        wait_until(lambda: isinstance(one.last_error, ConnectError), "the end of the connection")
        assert SHOWN.replace(r"\\", "\\") in caplog.text
