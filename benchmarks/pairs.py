"""Measure a sender and a receiver at one broker, by fastlib and by bare paho-mqtt."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from fastlib.transport import Communicator, MqttOptions, connect

WINDOW = 20
"""Messages on their way to the broker without its confirmation: the default of both."""

PATIENCE = 120.0
"""Seconds until a measurement fails."""

UNHEARD = "benchmark/unheard"
HEARD = "benchmark/heard/by-{}"


class Pair(Protocol):
    """Measures the seconds of sending and receiving."""

    def publish(self, payload: bytes, count: int, qos: int) -> float:
        """Send until the broker has confirmed everything; nobody listens."""

    def stream(self, payload: bytes, count: int, qos: int) -> float:
        """Send until the receiver has everything."""

    def close(self) -> None:
        """Disconnect."""


class FastlibPair:
    """Two communicators: `send` in one thread, `receive` in another."""

    name = "fastlib"
    topic = HEARD.format("fastlib")

    def __init__(self, port: int) -> None:
        self._sender = communicator(port)
        self._receiver = communicator(port)
        self._receiver.subscribe(self.topic, qos=2)

    def publish(self, payload: bytes, count: int, qos: int) -> float:
        begin = time.perf_counter()
        send = self._sender.send
        deliveries = [send(payload, UNHEARD, qos) for _ in range(count)]
        for delivery in deliveries:
            delivery.wait(PATIENCE)
        return time.perf_counter() - begin

    def stream(self, payload: bytes, count: int, qos: int) -> float:
        def send() -> None:
            for _ in range(count):
                self._sender.send(payload, self.topic, qos)

        sending = threading.Thread(target=send)
        begin = time.perf_counter()
        sending.start()
        for _ in range(count):
            message = self._receiver.receive(self.topic, PATIENCE)
            if message.payload != payload:
                raise ValueError("another message came")
        took = time.perf_counter() - begin
        sending.join()
        return took

    def close(self) -> None:
        self._sender.close()
        self._receiver.close()


class PahoPair:
    """Two clients with `loop_start`: `publish` in one thread, callbacks that count."""

    name = "bare paho"
    topic = HEARD.format("paho")

    def __init__(self, port: int) -> None:
        self._confirmed = Count()
        self._received = Count()
        self._payload = b""
        self._sender = client(port)
        self._receiver = client(port)
        self._sender.on_publish = lambda *_: self._confirmed.add()
        self._receiver.on_message = self._on_message
        subscribe(self._receiver, self.topic)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        if message.payload == self._payload:
            self._received.add()

    def publish(self, payload: bytes, count: int, qos: int) -> float:
        self._confirmed.expect(count)
        begin = time.perf_counter()
        for _ in range(count):
            self._sender.publish(UNHEARD, payload, qos)
        self._confirmed.wait()
        return time.perf_counter() - begin

    def stream(self, payload: bytes, count: int, qos: int) -> float:
        self._payload = payload
        self._received.expect(count)
        self._confirmed.expect(count)
        begin = time.perf_counter()
        for _ in range(count):
            self._sender.publish(self.topic, payload, qos)
        self._received.wait()
        took = time.perf_counter() - begin
        self._confirmed.wait()
        return took

    def close(self) -> None:
        for one in (self._sender, self._receiver):
            one.disconnect()
            one.loop_stop()


class Count:
    """Counts up to what is expected, for one thread that adds and one that waits."""

    def __init__(self) -> None:
        self._left = 0
        self._done = threading.Event()

    def expect(self, count: int) -> None:
        self._left = count
        self._done.clear()

    def add(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done.set()

    def wait(self) -> None:
        if not self._done.wait(PATIENCE):
            raise TimeoutError(f"{self._left} messages are missing after {PATIENCE:g} s")


def communicator(port: int) -> Communicator:
    """Return a communicator with default options."""
    return connect(MqttOptions(host="127.0.0.1", port=port, max_inflight=WINDOW))


def client(port: int) -> paho.Client:
    """Return a bare client with a running thread."""
    made = paho.Client(CallbackAPIVersion.VERSION2)
    made.max_inflight_messages_set(WINDOW)
    made.on_socket_open = _without_delay
    connected = threading.Event()
    made.on_connect = lambda *_: connected.set()
    made.connect("127.0.0.1", port)
    made.loop_start()
    if not connected.wait(PATIENCE):
        raise TimeoutError("the broker does not answer")
    return made


def subscribe(one: paho.Client, topic: str) -> None:
    """Subscribe and await the confirmation."""
    confirmed = threading.Event()
    one.on_subscribe = lambda *_: confirmed.set()
    one.subscribe(topic, 2)
    if not confirmed.wait(PATIENCE):
        raise TimeoutError("the broker does not answer")


def _without_delay(_client: paho.Client, _data: object, opened: Any) -> None:
    # As fastlib does; without it both would mostly wait for TCP.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


PAIRS: dict[str, Callable[[int], Pair]] = {
    FastlibPair.name: FastlibPair,
    PahoPair.name: PahoPair,
}
