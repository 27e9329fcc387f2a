"""A sender that behaves like the C++ clients: one constant id, no keys, one quality of service."""

import asyncio
from contextlib import suppress
from typing import Final

from fastlib import TaskContainer
from fastlib.message import topics
from fastlib.transport import Delivery, TransportError, connect_async

from .environment import Environment
from .orders import Kind, make_task
from .process import Process
from .settings import connection

CONSTANT_ID: Final = ":-)"
"""The id of each of its orders."""

CLIENT_ID: Final = "sender"


class Sender:
    """Sends `start` and `stop` of one domain, in turn."""

    def __init__(self, environment: Environment, qos: int) -> None:
        """MQTT keeps the order of messages with the same quality of service only."""
        self._environment = environment
        self._qos = qos
        self._process = Process(CLIENT_ID)
        self._runs = False
        self._domain = 0
        self._outgoing: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._deliveries: list[Delivery] = []

    def send(self, host: str) -> None:
        """Send the next order, once there is a connection."""
        if not self._runs:
            self._runs = True
            self._process.start(self._run(), self._environment.loop)
        keyless = self._environment.record.keyless
        kind: Kind = "stop" if sum(keyless.values()) % 2 else "start"
        name = f"cpp{self._domain}"
        task = make_task(kind, name, retries=0)
        keyless[task.declaration.task, name] += 1
        container = TaskContainer(tasks=[task], id=CONSTANT_ID)
        self._outgoing.put_nowait((host, container.to_yaml().encode()))

    @property
    def quiet(self) -> bool:
        """True if the broker has confirmed all orders."""
        count = sum(self._environment.record.keyless.values())
        return len(self._deliveries) == count and all(one.done for one in self._deliveries)

    def begin_again(self) -> None:
        """Begin the next schedule with another domain."""
        self._deliveries.clear()
        self._domain += 1

    def crash(self) -> None:
        """End."""
        self._process.crash()

    async def _run(self) -> None:
        communicator = None
        while communicator is None:
            with suppress(TransportError):  # a client of C++ tries until it has a connection
                communicator = await connect_async(connection(CLIENT_ID, "3.1.1"))
        while True:
            host, payload = await self._outgoing.get()
            self._deliveries.append(
                await communicator.send(payload, topics.TASK(host), qos=self._qos)
            )
