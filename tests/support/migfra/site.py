"""A real broker with a watcher of the presence, and daemons of one host in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.migfra import Daemon
from fastlib.transport import AsyncCommunicator, MqttOptions, connect, connect_async
from tests.support.migfra.bench import HOST, configuration, patiently
from tests.support.migfra.scripted import Scripted
from tests.support.mosquitto import PATIENCE, Mosquitto

CLIENT_ID = f"fast-migfra-{HOST}"


def forget(broker: Mosquitto) -> None:
    """Let the broker forget the session and the presence of an earlier test."""
    options = MqttOptions(host="127.0.0.1", port=broker.port, client_id=CLIENT_ID)
    with connect(options) as client:
        client.send(b"", topics.PRESENCE(HOST), retain=True).wait(PATIENCE)


class Site:
    """A real broker, a watcher of the presence, and daemons."""

    def __init__(self, broker: Mosquitto, watcher: AsyncCommunicator) -> None:
        self.broker = broker
        self.watcher = watcher
        self.daemons: list[Daemon] = []

    def make(
        self,
        hypervisor: Scripted | None = None,
        client_id: str = CLIENT_ID,
        journal: Path | None = None,
        port: int | None = None,
        **parts: Any,
    ) -> Daemon:
        """`port` is that of another way to the broker."""
        daemon = Daemon(
            configuration(**parts),
            communicator=MqttOptions(
                host="127.0.0.1",
                port=port or self.broker.port,
                client_id=client_id,
                persistent=True,
                retry_min=0.05,
                retry_max=0.2,
            ),
            hypervisor=hypervisor or Scripted(),
            journal=journal,
            in_memory=journal is None,
        )
        self.daemons.append(daemon)
        return daemon

    async def open(self, hypervisor: Scripted | None = None, **parts: Any) -> Daemon:
        return await patiently(self.make(hypervisor, **parts).open())

    async def publish(self, presence: Presence | None, *, retain: bool = False) -> None:
        """Publish a presence of this host like another program; None removes the retained one."""
        payload = b"" if presence is None else presence.to_yaml().encode()
        await self.watcher.send(payload, topics.PRESENCE(HOST), retain=retain)

    async def presence(self) -> Presence:
        """Return the next presence, without claims of the host."""
        while True:
            message = await patiently(self.watcher.receive())
            if not message.payload:
                continue
            presence = Presence.from_yaml(message.payload)
            if not presence.is_claim:
                return presence

    async def becomes(self, status: str) -> Presence:
        while (presence := await self.presence()).status != status:
            pass
        return presence

    async def kept(self) -> Presence:
        """Return the retained messages, like for a new subscriber."""
        async with await connect_async(self.watcher_options()) as late:
            await late.subscribe(topics.PRESENCE(HOST))
            message = await patiently(late.receive())
            assert message.retain
            return Presence.from_yaml(message.payload)

    def watcher_options(self) -> MqttOptions:
        return MqttOptions(host="127.0.0.1", port=self.broker.port)


@asynccontextmanager
async def site(broker: Mosquitto) -> AsyncIterator[Site]:
    options = MqttOptions(host="127.0.0.1", port=broker.port)
    async with await connect_async(options) as watcher:
        await watcher.subscribe(topics.PRESENCE(HOST))
        made = Site(broker, watcher)
        try:
            yield made
        finally:
            for daemon in made.daemons:
                daemon.stop_now()
                if not daemon.ended.is_set():
                    await patiently(daemon.close())


SitePlay = Callable[[Callable[[Site], Coroutine[Any, Any, None]]], None]


def player(broker: Mosquitto) -> SitePlay:
    """Run a scene at a site of a broker without earlier messages."""

    def play(scene: Callable[[Site], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with site(broker) as made:
                await scene(made)

        forget(broker)
        asyncio.run(main())

    return play
