"""A simulated cluster with real daemons and a dashboard, in a thread with its own loop."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from fastlib import Result, ResultContainer, Start, TaskContainer
from fastlib.client import AsyncMigfraClient
from fastlib.dashboard import Access, Dashboard, ServerOptions, serve
from fastlib.demo.cluster import DemoCluster
from fastlib.demo.layout import first_host, vm_names
from fastlib.demo.settings import Settings
from fastlib.message.hardware import StoragePoolReport
from fastlib.message.node import (
    DomainReport,
    NodeReport,
    NodeResult,
    Presence,
    Progress,
    TaskReport,
)
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT, TASK
from fastlib.transport import ReceivedMessage
from tests.support.mosquitto import PATIENCE

T = TypeVar("T")


class DashboardCluster:
    """Daemons that are online, VMs that run on them, and the dashboard at `url`."""

    def __init__(self, settings: Settings, *, token: str | None = None) -> None:
        self.settings = settings
        self.url = ""
        self.cluster: DemoCluster
        self.client: AsyncMigfraClient
        """A scheduler's client."""
        self.dashboard: Dashboard
        self._token = token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = AsyncExitStack()
        self.serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port of the dashboard."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def run(self, work: Coroutine[Any, Any, T], patience: float = PATIENCE) -> T:
        """Run a coroutine in the loop of the cluster, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(patience)

    def start_vms(self) -> None:
        """Start all VMs, each where the settings place it."""
        self.run(self._start_vms(), 4 * PATIENCE)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self._open())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _open(self) -> None:
        self.cluster = await self._stack.enter_async_context(DemoCluster(self.settings))
        await asyncio.gather(*map(self.cluster.start_daemon, self.cluster.hosts))
        self.client = await self._client("scheduler")
        self.dashboard = Dashboard(
            await self._client("dashboard"), Access(self._token), title="simulated", tasks=True
        )
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.serving = asyncio.create_task(
            serve(self.dashboard, ServerOptions(port=0), on_listening=listening.set_result)
        )
        self.url = await listening

    async def _client(self, name: str) -> AsyncMigfraClient:
        return await self._stack.enter_async_context(
            AsyncMigfraClient(await self.cluster.connect(name))
        )

    async def _start_vms(self) -> None:
        by_host: dict[str, list[Start]] = {}
        for number, name in enumerate(vm_names(self.settings)):
            host = first_host(self.settings, self.cluster.hosts, number)
            by_host.setdefault(host, []).append(Start(vm_name=name))
        handles = [await self.client.submit(host, tasks) for host, tasks in by_host.items()]
        for handle in handles:
            assert all(result.status == "success" for result in (await handle).results)

    @contextmanager
    def impersonating(self, host: str, name: str, *, answers: bool = True) -> Iterator[None]:
        """Publish, as the daemon of a host, a VM, progress and an error with texts of choice."""
        communicator = self.run(self.cluster.connect(f"daemon-{host.strip('<>/')}"[:20]))

        async def answer(received: ReceivedMessage) -> None:
            container = TaskContainer.from_yaml(received.payload)
            if container.task == "query node":
                domain = DomainReport(name=name, state=name, vcpus=1, memory=1 << 20)
                task = TaskReport(id=name, task=name, vm_name=name, state="running")
                pool = StoragePoolReport(name=name, state=name, details=name)
                report = NodeReport(
                    host=host,
                    hypervisor=name,
                    cpu_model=name,
                    storage_pools=[pool],
                    domains=[domain],
                    tasks=[task],
                )
                results = ResultContainer.answer(
                    container, [NodeResult(status="success", node=report)]
                )
            else:
                results = ResultContainer.answer(
                    container, [Result(vm_name="n/a", status="error", details=name)]
                )
            await communicator.send(results.to_yaml().encode(), RESULT(host))

        async def publish() -> None:
            if answers:
                await communicator.subscribe(TASK(host), answer)
            presence = Presence(status="online", hypervisor=name, version=name, started=1.0)
            await communicator.send(presence.to_yaml().encode(), PRESENCE(host), retain=True)
            progress = Progress(id=name, vm_name=name, task=name, phase=name, percent=5)
            await communicator.send(progress.to_yaml().encode(), PROGRESS(host))
            result = Result(vm_name=name, status="error", details=name)
            results = ResultContainer(result="vm stopped", results=[result])
            await communicator.send(results.to_yaml().encode(), RESULT(host))

        host = host.replace("/", "\u2215")  # which a topic cannot hold
        self.run(publish())
        yield
        self.run(communicator.send(b"", PRESENCE(host), retain=True))

    async def _close(self) -> None:
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.wait((self.serving,))
        await self._stack.aclose()
