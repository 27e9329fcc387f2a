"""Query the daemons for their hosts and domains at intervals, a few at a time."""

import asyncio
from collections.abc import Iterable
from typing import Final

from fastlib.client import AsyncMigfraClient, ClientError
from fastlib.transport.errors import RefusedError

from .state import State

INTERVAL_SECONDS: Final = 5.0
"""Seconds between two queries to a host in a small cluster."""
MAX_QUERIES_PER_SECOND: Final = 20.0
"""Queries a second to all hosts; with more than 100 hosts, each is queried less often."""
MAX_IN_FLIGHT: Final = 16
"""Maximum queries without an answer yet."""
SOON_SECONDS: Final = 1.0
"""Seconds after a result until the host is queried again."""
ANSWER_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 30.0
"""Seconds until a host that has not answered is queried again."""
TICK_SECONDS: Final = 0.25


class Queries:
    """Queries all fastlib daemons that are online. C++ daemons do not know the query."""

    def __init__(self, client: AsyncMigfraClient, state: State) -> None:
        self._client = client
        self._state = state
        self._due: dict[str, float] = {}
        """Time of the next query of each host, by the event loop's clock."""
        self._running: set[str] = set()

    def soon(self, hosts: Iterable[str]) -> None:
        """Query some hosts soon, because their state has changed."""
        now = asyncio.get_running_loop().time()
        for host in hosts:
            if host in self._due:
                self._due[host] = min(self._due[host], now + SOON_SECONDS)

    async def run(self) -> None:
        """Query until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                for host in self._choose(loop.time()):
                    self._running.add(host)
                    group.create_task(self._ask(host))
                await asyncio.sleep(TICK_SECONDS)  # the loop sets the rate, so no event is awaited

    def _choose(self, now: float) -> list[str]:
        """Return the hosts to query now, those that have waited longest first."""
        online = self._online()
        for host in self._due.keys() - online:
            del self._due[host]
        for host in online - self._due.keys():
            self._due[host] = now
        due = sorted(
            (at, host) for host, at in self._due.items() if at <= now and host not in self._running
        )
        most = min(MAX_IN_FLIGHT - len(self._running), int(MAX_QUERIES_PER_SECOND * TICK_SECONDS))
        return [host for _, host in due[: max(0, most)]]

    def _online(self) -> set[str]:
        if not self._client.communicator.is_connected:
            return set()
        known = ((host, self._state.host(host)) for host in self._state.hosts)
        return {host for host, view in known if view is not None and view.status in _ANSWERING}

    async def _ask(self, host: str) -> None:
        loop = asyncio.get_running_loop()
        asked, pause = loop.time(), INTERVAL_SECONDS
        try:
            result = await (await self._client.query(host, timeout=ANSWER_SECONDS))
            if result.node is None:
                self._state.report_silence(host, result.details or "it answered without a report")
                pause = PAUSE_SECONDS
            else:
                self._state.report(host, result.node, asked)
        except (ClientError, RefusedError) as error:
            self._state.report_silence(host, str(error))
            pause = PAUSE_SECONDS
        finally:
            self._running.discard(host)
            if host in self._due:
                self._due[host] = loop.time() + pause


_ANSWERING: Final = ("online", "degraded")
