"""A sender that behaves like the C++ clients of the FaST project.

It sends every order with the same id and without an idempotency key. Its MQTT library connects
again after a lost connection, and sends again what was not confirmed.
"""

import threading
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from fastlib import ResultContainer
from fastlib.message import topics
from tests.support.mosquitto import PATIENCE
from tests.support.waiting import wait_until

LAYOUTS = {"start vm": "vm-configurations", "stop vm": "list"}


class CppSender:
    """Sends orders by one connection, and gets the answers by another one that is never cut."""

    def __init__(
        self,
        port: int,
        host: str,
        *,
        qos: int = 1,
        id: str = ":-)",
        answers_port: int | None = None,
    ) -> None:
        """Connect to a broker, or to a proxy with `answers_port` as its broker."""
        self._host = host
        self._qos = qos
        self._id = id
        self.answers: list[ResultContainer] = []
        self._confirmed: set[int] = set()
        self._subscribed = threading.Event()
        self._sender = self._client(port)
        self._receiver = self._client(answers_port or port, self._subscribe)
        assert self._subscribed.wait(PATIENCE)

    def _client(self, port: int, on_connect: Any = None) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.reconnect_delay_set(0.02, 0.1)  # type: ignore[arg-type]  # seconds, whole or not
        client.on_connect = on_connect
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_publish = lambda _, __, packet_id, *___: self._confirmed.add(packet_id)
        client.on_message = self._on_message
        client.connect("127.0.0.1", port)
        client.loop_start()
        return client

    def _subscribe(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(topics.RESULT(self._host), 2)

    def _on_message(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        self.answers.append(ResultContainer.from_yaml(bytes(message.payload)))

    def text(self, task: str, vm_name: str, more: str = "") -> str:
        """Return an order as the C++ library writes it."""
        head = f"task: {task}\nid: {self._id}\n{more}"
        return f"---\n{head}{LAYOUTS[task]}:\n  - vm-name: {vm_name}\n---"

    def send(self, text: str) -> None:
        """Send an order, and wait until the broker has confirmed it."""
        info = self._sender.publish(topics.TASK(self._host), text, self._qos)
        wait_until(lambda: info.mid in self._confirmed, "the broker has the order", PATIENCE)

    def wait_for_answers(self, count: int) -> list[ResultContainer]:
        """Wait until a number of answers have come."""
        wait_until(
            lambda: len(self.answers) >= count, lambda: f"{count} of {self.answers}", PATIENCE
        )
        return self.answers

    def ask(self, text: str) -> ResultContainer:
        """Send an order, and return its answer."""
        count = len(self.answers)
        self.send(text)
        return self.wait_for_answers(count + 1)[count]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self._sender, self._receiver):
            client.disconnect()
            client.loop_stop()
