"""What the story is played on: the simulated cluster, the broker, and the daemons."""

import asyncio
import secrets
import shutil
import tempfile
from contextlib import AsyncExitStack
from logging import getLogger
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from fastlib.message.topics import PRESENCE
from fastlib.migfra import Configuration, Daemon, HypervisorSection
from fastlib.migfra.hypervisors.simulated import (
    Clock,
    Cluster,
    SimulatedHypervisor,
    SimulatedOptions,
)
from fastlib.transport import (
    AsyncCommunicator,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    TransportError,
    connect_async,
)

from .executions import Executions, WatchedHypervisor
from .scenery import describe, host_names
from .settings import Settings

log = getLogger("fastlib.demo")

PROGRESS_SECONDS: Final = 0.1
"""How often progress is told, in our time; of many hosts less often."""
SESSION_SECONDS: Final = 600
"""MQTT 5: how long a broker keeps the session of a daemon that was killed."""
TIDY_SECONDS: Final = 5.0
"""How long the broker may take for what is tidied up at the end."""


class Stage:
    """The cluster, its daemons, and connections to the broker between them.

    Leaving the `async with` block ends the daemons in order and at once, and takes back what they
    left at a real broker: their presence and their sessions.
    """

    def __init__(self, settings: Settings) -> None:
        """Makes the cluster; `begin` a daemon for each of its `hosts`."""
        self.settings: Final = settings
        # At a broker that others use as well, nobody else has such names.
        token = secrets.token_hex(3)
        self._prefix: Final = "demo" if settings.broker is None else f"fastlib-demo-{token}"
        self.hosts: Final = host_names(settings, self._prefix)
        self.mortal: Final = self.hosts[-settings.killed :]
        """The hosts whose daemons are killed, so that their journals are files."""
        self.daemons: Final[dict[str, Daemon]] = {}
        self.executions: Final = Executions()
        self._name: Final = f"fastlib-demo-{secrets.token_hex(8)}"
        self.cluster: Final = Cluster.named(self._name, describe(settings, self.hosts))
        self._clock: Final = Clock(self.cluster.epoch, settings.speed)
        self._broker: Final = settings.broker or MemoryBroker()
        self._parts = AsyncExitStack()
        self._journals: Path
        self._ended: list[Daemon] = []
        self._ever: set[str] = set()
        """The hosts that the broker may know something of."""
        self.restarts = 0
        """Daemons that were killed and came back."""

    async def __aenter__(self) -> Self:
        self._journals = Path(tempfile.mkdtemp(prefix="fastlib-demo-"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for daemon in self.daemons.values():
            daemon.stop_now()
        try:
            await asyncio.gather(*(daemon.close() for daemon in self.daemons.values()))
            if self.settings.broker is not None and self._ever:
                await self._tidy_up()
            await self._parts.aclose()
        finally:
            Cluster.forget(self._name)
            self.cluster.close()
            shutil.rmtree(self._journals, ignore_errors=True)

    def now(self) -> float:
        """Seconds of the cluster's time."""
        return self._clock.now()

    @property
    def moved(self) -> int:
        """Bytes of memory that have moved between hosts, as the daemons have counted them."""
        return sum(
            daemon.counters.migrated_bytes for daemon in [*self._ended, *self.daemons.values()]
        )

    async def connect(self, name: str) -> AsyncCommunicator:
        """A connection to the broker until the end. Raises TransportError."""
        communicator = await connect_async(
            self._options(name), timeout=self.settings.connect_timeout
        )
        return await self._parts.enter_async_context(communicator)

    async def begin(self, host: str) -> None:
        """Begin the daemon of a host, or begin it again after `kill`."""
        options = SimulatedOptions(cluster=self._name, speed=self.settings.speed)
        few = self.settings.hosts <= 10
        configuration = Configuration(
            hostname=host,
            hypervisor=HypervisorSection(SimulatedHypervisor, options),
            progress_interval=PROGRESS_SECONDS if few else 1.0,
        )
        keeps = host in self.mortal
        daemon = Daemon(
            configuration,
            communicator=self._options(host, persistent=keeps),
            hypervisor=WatchedHypervisor(options, configuration.node, self.executions),
            journal=self._journals / host,
            in_memory=not keeps,
        )
        self._ever.add(host)
        await daemon.open()
        self.daemons[host] = daemon
        self.restarts += any(ended.host == host for ended in self._ended)

    async def kill(self, host: str) -> None:
        """End the daemon of a host without a word and in the middle of its work."""
        daemon = self.daemons.pop(host)
        await daemon.kill()
        self._ended.append(daemon)

    def _options(self, name: str, *, persistent: bool = False) -> MemoryOptions | MqttOptions:
        id = name if name.startswith(self._prefix) else f"{self._prefix}-{name}"
        if isinstance(self._broker, MemoryBroker):
            return MemoryOptions(broker=self._broker, client_id=id, persistent=persistent)
        return msgspec.structs.replace(
            self._broker, client_id=id, persistent=persistent, session_expiry=SESSION_SECONDS
        )

    async def _tidy_up(self) -> None:
        """Leave nothing behind at a broker that is not ours."""
        try:
            async with asyncio.timeout(TIDY_SECONDS):
                for host in sorted(self._ever.intersection(self.mortal)):
                    # A session ends with the next one of that name that is not kept.
                    async with await connect_async(self._options(host)):
                        pass
                async with await connect_async(self._options("tidy")) as communicator:
                    for host in sorted(self._ever):
                        await communicator.send(b"", PRESENCE(host), 1, retain=True)
        except (TransportError, TimeoutError) as error:
            said = str(error) or f"no answer within {TIDY_SECONDS:g} s"
            log.warning("what %s-... left at the broker stays there: %s", self._prefix, said)
