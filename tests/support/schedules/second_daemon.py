"""A second daemon of a host's name, with its own client id and journal.

It is refused while the first one works. If the first one is offline, it takes over the host and
works for some time. Then it crashes, and its journal and its session are deleted.
"""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Final

from fastlib.migfra import Daemon, HostTakenError
from fastlib.transport import TransportError

from .environment import Environment
from .hosts import Host, JournalFiles
from .hypervisor import ScheduleHypervisor
from .orders import Order
from .process import CLOCK, Process
from .record import Record, Takeover
from .settings import connection as options

_numbers: Final = count(1)


class SecondDaemon:
    """A second daemon, from its start to its end."""

    def __init__(self, host: Host, environment: Environment, seconds: float) -> None:
        """Let it work for some seconds, if it is not refused."""
        self._host = host
        self._environment = environment
        self._seconds = seconds
        self._client_id: Final = f"second-{host.name}"
        self._journal = JournalFiles(environment.folder / f"{self._client_id}.journal")
        self._process = Process(f"{self._client_id}-{next(_numbers)}", host.process.clock_error)
        self._ended_before: Final = environment.record.ended()
        self._published_before: Final = dict(environment.record.published)
        self._process.start(self._live(), environment.loop)

    @property
    def runs(self) -> bool:
        """True until it has vanished."""
        return not self._process.dead

    def crash(self) -> None:
        """Let it vanish."""
        self._process.crash()

    async def _live(self) -> None:
        host, environment, first = self._host, self._environment, self._host.process
        ready, losses = host.works, environment.network.losses
        daemon = Daemon(
            host.configuration,
            hypervisor=ScheduleHypervisor(environment.domains, host.name),
            journal=self._journal.path,
            communicator=options(self._client_id, environment.protocol),
            clock=CLOCK,
        )
        with suppress(HostTakenError, TransportError):
            await daemon.open()
            ready = ready and first is host.process and host.works
            if ready and losses == environment.network.losses:
                environment.record.beside.append(host.name)
            else:
                environment.record.taken_over.add(host.name)
            began = environment.loop.time()
            connection = environment.network.connection(self._client_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await daemon.ended.wait()
            if connection is environment.network.connection(self._client_id) is not None:
                had = Takeover(host.name, began, environment.loop.time())
                environment.record.takeovers.append(had)
        self.crash()
        environment.observer.forget_session(self._client_id)
        self._journal.remove()
        if host.name in environment.record.taken_over:
            environment.record.shared |= self._may_have_had(environment.record)

    def _may_have_had(self, record: Record) -> set[Order]:
        """Return the orders of the host that had not ended when this daemon began, or came then."""
        return {
            order
            for order, host in record.hosts.items()
            if host == self._host.name
            and (
                order not in self._ended_before
                or record.published[order] > self._published_before.get(order, 0)
            )
        }
