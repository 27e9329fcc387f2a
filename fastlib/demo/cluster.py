"""Run the simulated cluster, its daemons, and their connections to the broker."""

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
from fastlib.migfra.failures import describe
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

from .executions import CountingHypervisor, ExecutionCounter
from .layout import describe_cluster, host_names
from .settings import Settings

log = getLogger("fastlib.demo")

PROGRESS_SECONDS: Final = 0.1
"""Real seconds between two reports of progress, for up to `MAX_VERBOSE_HOSTS` hosts."""
SLOW_PROGRESS_SECONDS: Final = 1.0
"""The same for more hosts."""
MAX_VERBOSE_HOSTS: Final = 10
SESSION_SECONDS: Final = 600
"""MQTT 5: seconds for which the broker keeps the session of a killed daemon."""
CLEANUP_SECONDS: Final = 5.0
"""Real seconds until the clean-up at the broker fails."""
FAILURE_SECONDS: Final = 0.05
"""Real seconds between two checks of the daemons for a failure."""


class DemoCluster:
    """The simulated cluster, its daemons, and their connections to the broker.

    At the end of the `async with` block, the daemons stop at once, and what they left at a real
    broker is deleted: their presence and their sessions.
    """

    def __init__(self, settings: Settings) -> None:
        """Make the cluster; `start_daemon` starts the daemon of each of its `hosts`."""
        self.settings: Final = settings
        # Unique names, because others may use the same broker.
        token = secrets.token_hex(3)
        self._prefix: Final = "demo" if settings.broker is None else f"fastlib-demo-{token}"
        self.hosts: Final = host_names(settings, self._prefix)
        self.killed_hosts: Final = self.hosts[-settings.kills :]
        """The hosts whose daemons are killed; their journals are files."""
        self.daemons: Final[dict[str, Daemon]] = {}
        self.executions: Final = ExecutionCounter()
        self._name: Final = f"fastlib-demo-{secrets.token_hex(8)}"
        self.simulated: Final = Cluster.named(self._name, describe_cluster(settings, self.hosts))
        self._clock: Final = Clock(self.simulated.epoch, settings.speed)
        self._broker: Final = settings.broker or MemoryBroker()
        self._connections = AsyncExitStack()
        self._journals: Path
        self._killed: list[Daemon] = []
        self._started_hosts: set[str] = set()
        """The hosts that may have left a presence or a session at the broker."""
        self.restarts = 0
        """Daemons that restarted after they were killed."""

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
            if self.settings.broker is not None and self._started_hosts:
                await self._clean_up_broker()
            await self._connections.aclose()
        finally:
            Cluster.forget(self._name)
            self.simulated.close()
            shutil.rmtree(self._journals, ignore_errors=True)

    def now(self) -> float:
        """Return the time of the cluster in seconds."""
        return self._clock.now()

    def bytes_moved(self) -> int:
        """Return the bytes of memory copied between hosts, as the daemons counted them."""
        return sum(
            daemon.counters.migrated_bytes for daemon in [*self._killed, *self.daemons.values()]
        )

    async def wait_for_failure(self) -> str:
        """Wait until a daemon fails by an unexpected error, and return the text about it."""
        while True:
            for daemon in [*self._killed, *self.daemons.values()]:
                if daemon.failure is not None:
                    return f"the daemon of {daemon.host} failed: {describe(daemon.failure)}"
            await asyncio.sleep(FAILURE_SECONDS)  # nothing announces it

    async def connect(self, name: str) -> AsyncCommunicator:
        """Open a connection to the broker until the end. Raises TransportError."""
        communicator = await connect_async(
            self._options(name), timeout=self.settings.connect_timeout
        )
        return await self._connections.enter_async_context(communicator)

    async def start_daemon(self, host: str) -> None:
        """Start the daemon of a host, also again after `kill_daemon`."""
        options = SimulatedOptions(cluster=self._name, speed=self.settings.speed)
        few = self.settings.hosts <= MAX_VERBOSE_HOSTS
        configuration = Configuration(
            hostname=host,
            hypervisor=HypervisorSection(SimulatedHypervisor, options),
            progress_interval=PROGRESS_SECONDS if few else SLOW_PROGRESS_SECONDS,
        )
        persistent = host in self.killed_hosts
        daemon = Daemon(
            configuration,
            communicator=self._options(host, persistent=persistent),
            hypervisor=CountingHypervisor(options, configuration.node, self.executions),
            journal=self._journals / host,
            in_memory=not persistent,
        )
        self._started_hosts.add(host)
        await daemon.open()
        self.daemons[host] = daemon
        self.restarts += any(killed.host == host for killed in self._killed)

    async def kill_daemon(self, host: str) -> None:
        """Kill the daemon of a host: it stops without publishing anything."""
        daemon = self.daemons.pop(host)
        await daemon.kill()
        self._killed.append(daemon)

    def _options(self, name: str, *, persistent: bool = False) -> MemoryOptions | MqttOptions:
        id = name if name.startswith(self._prefix) else f"{self._prefix}-{name}"
        if isinstance(self._broker, MemoryBroker):
            return MemoryOptions(broker=self._broker, client_id=id, persistent=persistent)
        return msgspec.structs.replace(
            self._broker, client_id=id, persistent=persistent, session_expiry=SESSION_SECONDS
        )

    async def _clean_up_broker(self) -> None:
        """Delete the presence and the sessions of the daemons at the broker."""
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                for host in sorted(self._started_hosts.intersection(self.killed_hosts)):
                    # A connection with the same client id and a clean session deletes the session.
                    async with connect_async(self._options(host)):
                        pass
                async with connect_async(self._options("clean-up")) as communicator:
                    for host in sorted(self._started_hosts):
                        await communicator.send(b"", PRESENCE(host), 1, retain=True)
        except (TransportError, TimeoutError) as error:
            said = str(error) or f"no answer within {CLEANUP_SECONDS:g} s"
            log.warning("what %s-... left at the broker stays there: %s", self._prefix, said)
