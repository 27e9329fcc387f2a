"""Much at once, for long, and with disturbances, over a real mosquitto.

No task is lost, none is executed twice, and memory stays flat. `--long` runs it in full.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from fastlib import Evacuate, Result, ResultContainer, Start, Stop, TaskContainer
from fastlib.client import AsyncMigfraClient, MigfraClient
from fastlib.message import topics
from fastlib.message.node import Progress
from fastlib.migfra import Context, Daemon, Hypervisor, NodeContext
from fastlib.migfra.hypervisors.simulated import (
    Cluster,
    ClusterDescription,
    DomainDescription,
    HostDescription,
)
from fastlib.transport import AsyncCommunicator, MqttOptions, connect, connect_async
from tests.support.migfra import many_daemons
from tests.support.migfra.bench import configuration
from tests.support.migfra.program import Program, program, without_stalls
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.transport.proxy import Proxy

pytestmark = pytest.mark.load

Figures = Callable[[object], None]

SEED = 11
HOST = "node01"
RESULT_PATIENCE = 300.0
"""Seconds until a result that must come is given up."""
UNBOUNDED = ("max_queued_messages 0",)
"""The broker drops nothing."""


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", settings=UNBOUNDED) as broker:
        yield broker


def at(port: int, **more: object) -> MqttOptions:
    return MqttOptions(host="127.0.0.1", port=port, retry_min=0.05, **more)  # type: ignore[arg-type]


def resident(pid: int) -> float:
    """MiB of a process that are in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"the process {pid} has no memory")


# --- many daemons ---------------------------------------------------------------------------------


class Size(NamedTuple):
    daemons: int
    processes: int
    evacuated: int
    domains: int
    """On each host."""


SHORT = Size(daemons=60, processes=3, evacuated=12, domains=3)
LONG = Size(daemons=1000, processes=5, evacuated=200, domains=4)
SPEED = 10
"""Seconds of the cluster's time in one."""


@contextmanager
def daemons(port: int, file: Path, hosts: Sequence[str], processes: int) -> Iterator[list[int]]:
    """Daemons of some hosts in some processes; they end in order. Gives the process ids."""
    program = [sys.executable, many_daemons.__file__]
    with ExitStack() as stack:
        running = []
        for first in range(processes):
            some = hosts[first::processes]
            process = subprocess.Popen(
                [*program, str(port), str(file), str(SPEED), *some],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            running.append(process)
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield [process.pid for process in running]
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        for process in running:
            assert process.stderr is not None
            assert without_stalls(process.stderr) == []  # nothing to warn of
            assert process.wait(PATIENCE) == 0


def test_many_nodes_evacuate_at_the_same_time(
    tmp_path: Path, broker: Mosquitto, is_long: bool, figures: Figures
) -> None:
    size = LONG if is_long else SHORT
    dice = random.Random(SEED)
    hosts = [f"node{number:04}" for number in range(size.daemons)]
    where = {f"{host}-vm{n}": host for host in hosts for n in range(size.domains)}
    file = tmp_path / "cluster"
    description = ClusterDescription(
        hosts=[HostDescription(name=host) for host in hosts],
        domains=[DomainDescription(name=name, host=host) for name, host in where.items()],
    )
    evacuated = dice.sample(hosts, size.evacuated)
    staying = sorted({*hosts} - {*evacuated})
    tasks = {host: Evacuate(destinations=dice.sample(staying, 8)) for host in evacuated}
    with Cluster(description, str(file)) as cluster:
        began = time.monotonic()
        with daemons(broker.port, file, hosts, size.processes) as pids:
            ready = time.monotonic() - began
            answers, took = asyncio.run(_evacuate(broker.port, tasks))
            memory = max(map(resident, pids))
        assert cluster.problems() == []
        found = {domain.name: domain for domain in cluster.domains()}
        assert found.keys() == where.keys()
        assert {domain.state for domain in found.values()} == {"running"}
        for name, host in where.items():
            allowed = tasks[host].destinations if host in tasks else [host]
            assert found[name].host in allowed, name
    for host in evacuated:
        (answer,) = answers[host]
        mine = [name for name, home in where.items() if home == host]
        assert sorted(result.vm_name for result in answer.results) == sorted(mine)
        assert {result.status for result in answer.results} == {"success"}
    figures(
        f"{size.daemons} daemons in {size.processes} processes, ready after {ready:.1f} s, at most "
        f"{memory:.0f} MiB each; {size.evacuated} nodes with {size.evacuated * size.domains} "
        f"domains evacuated in {took:.1f} s, each on one host, one result for each task"
    )


async def _evacuate(
    port: int, tasks: dict[str, Evacuate]
) -> tuple[dict[str, list[ResultContainer]], float]:
    """Every answer of each host, and after how long all had answered."""
    answers: dict[str, list[ResultContainer]] = {host: [] for host in tasks}
    async with await AsyncMigfraClient.connect(at(port), timeout=RESULT_PATIENCE) as client:
        began = time.monotonic()
        async with await client.watch() as watch:
            handles = [await client.submit(host, task) for host, task in tasks.items()]
            for handle in handles:
                await handle
            took = time.monotonic() - began
            # A query is answered after all that was answered before.
            for handle in [await client.query(host) for host in tasks]:
                await handle
            left = len(tasks)
            async for seen in watch:
                assert seen.message is not None, seen.error
                if seen.message.result == "node queried":
                    left -= 1
                else:
                    answers[seen.host].append(seen.message)
                if left == 0:
                    break
    return answers, took


# --- many tasks -----------------------------------------------------------------------------------

WINDOW = 100
"""Tasks that are under way at the same time."""
REPEAT_EVERY = 50


def test_memory_stays_bounded(
    tmp_path: Path, broker: Mosquitto, is_long: bool, figures: Figures
) -> None:
    count, warm = (100_000, 10_000) if is_long else (3_200, 1_600)
    with program(tmp_path, broker.port, "log: {level: warning}\n") as migfra:
        _bound_the_journal(migfra)
        migfra.start(ready=False)
        with connect(at(broker.port)) as communicator, MigfraClient(communicator) as client:
            samples = []
            under_way: deque[tuple[str, TaskContainer, Callable[[], ResultContainer]]] = deque()
            began = time.monotonic()
            for number in range(count + WINDOW):
                if number < count:
                    name = f"vm{number}"
                    task = (Start if number % 2 else Stop)(vm_name=name)
                    handle = client.submit(HOST, task, timeout=RESULT_PATIENCE)
                    under_way.append((name, handle.container, handle.result))
                if number >= WINDOW:
                    name, container, result = under_way.popleft()
                    (answer,) = result().results
                    assert answer == Result(vm_name=name, status="success")
                    if number % REPEAT_EVERY == 0:
                        payload = container.to_yaml().encode()
                        communicator.send(payload, topics.TASK(HOST), qos=2)
                    if (number - WINDOW + 1) % warm == 0:
                        samples.append(resident(migfra.pid))
            took = time.monotonic() - began
            client.query(HOST).result()  # the last repetition was looked at before
        assert migfra.terminate() == 0
        assert without_stalls(migfra.log) == []
        size = sum(file.stat().st_size for file in tmp_path.glob("journal*")) / (1 << 20)
    done = Counter(migfra.done())
    assert done == dict.fromkeys(
        (f"{what} vm{number}" for number in range(count) for what in ("begin", "end")), 1
    )
    growth = samples[-1] - samples[0]
    assert growth < 8, samples
    figures(
        f"{count:,} tasks, {count // REPEAT_EVERY:,} of them twice, each executed once, in "
        f"{took:.0f} s; {samples[0]:.1f} MiB after {warm:,}, {samples[-1]:.1f} MiB at the end; "
        f"journal {size:.1f} MiB of 1 MiB allowed"
    )


def _bound_the_journal(migfra: Program) -> None:
    """Let it forget all the time, as it does after months."""
    text = migfra.configuration.read_text()
    bounded = text.replace(f"{migfra.journal}}}", f"{migfra.journal}, max-size: 1}}")
    assert bounded != text
    migfra.configuration.write_text(bounded)


# --- duplicate delivery ---------------------------------------------------------------------------


class Counting(Hypervisor):
    """Counts how often each domain was started."""

    name = "counting"

    def __init__(self) -> None:
        super().__init__(None, NodeContext(HOST))
        self.started: Counter[str] = Counter()

    async def start(self, task: Start, context: Context) -> None:
        self.started[str(task.vm_name)] += 1
        await asyncio.sleep(0.01)


class Sender:
    """Sends starts with QoS 1, some of them twice, and keeps the answers."""

    def __init__(self, communicator: AsyncCommunicator, id: str | None) -> None:
        """`id` is that of each container; `{}` in it is replaced by the container's number."""
        self._communicator = communicator
        self._id = id
        self.sent = 0
        self.answers: dict[str, list[ResultContainer]] = {}
        """By domain."""

    async def send(self, *, again: bool) -> None:
        """A new container; with `again` twice."""
        id = self._id and self._id.format(self.sent)
        container = TaskContainer(tasks=[Start(vm_name=f"vm{self.sent}")], id=id)
        self.sent += 1
        for _ in range(2 if again else 1):
            await self._communicator.send(container.to_yaml().encode(), topics.TASK(HOST), qos=1)

    async def collect(self) -> None:
        """Take answers until each container has one."""
        while len(self.answers) < self.sent:
            await self._take()

    async def finish(self) -> None:
        """Collect answers, also those that are still in flight."""
        await self.collect()
        end = ResultContainer(result="unknown", results=[Result(vm_name="end", status="success")])
        await self._communicator.send(end.to_yaml().encode(), topics.RESULT(HOST), qos=1)
        while "end" not in self.answers:
            await self._take()
        del self.answers["end"]

    async def _take(self) -> None:
        async with asyncio.timeout(PATIENCE):
            message = await self._communicator.receive(topics.RESULT(HOST))
        answer = ResultContainer.from_yaml(message.payload)
        answer = msgspec.structs.replace(answer, executed=None)
        self.answers.setdefault(answer.results[0].vm_name, []).append(answer)


@pytest.mark.parametrize("id", ["t{}", ":-)", None])
def test_duplicates_are_executed_once(
    tmp_path: Path, broker: Mosquitto, id: str | None, is_long: bool, figures: Figures
) -> None:
    """The scheduler and MQTT cause duplicates. Connections are cut in the middle of packets.

    There is no idempotency key, and the ids identify no order.
    """
    count = 10_000 if is_long else 200
    hypervisor = Counting()
    # A proxy for each, as a cut is of all connections of one.
    with Proxy(broker.port) as one, Proxy(broker.port) as other:
        daemon = Daemon(
            configuration(),
            communicator=at(one.port, client_id="daemon", persistent=True, retry_max=0.1),
            hypervisor=hypervisor,
            journal=tmp_path / "journal",
        )
        options = at(other.port, client_id="scheduler", persistent=True, retry_max=0.1)
        answers = asyncio.run(_repeat(daemon, options, id, count, (one, other)))
        cuts = one.cuts + other.cuts
    assert hypervisor.started == {f"vm{number}": 1 for number in range(count)}
    assert set(answers) == {f"vm{number}" for number in range(count)}
    assert [given for given in answers.values() if any(a != given[0] for a in given)] == []
    repeated = daemon.counters.messages["repeated"]
    assert repeated >= count // 10
    extra = sum(map(len, answers.values())) - count
    figures(
        f"{count:,} containers with QoS 1 and the id {id}, {count // 10:,} of them sent twice, "
        f"{cuts} cuts: {repeated:,} deliveries recognised, {extra:,} answers again, none differs"
    )


async def _repeat(
    daemon: Daemon, options: MqttOptions, id: str | None, count: int, proxies: Sequence[Proxy]
) -> dict[str, list[ResultContainer]]:
    dice = random.Random(SEED)
    async with daemon, await connect_async(options) as communicator:
        await communicator.subscribe(topics.RESULT(HOST), qos=1)
        sender = Sender(communicator, id)
        for number in range(count):
            await sender.send(again=number % 10 == 0)
            if number % 50 == 25:  # somewhere in a packet
                proxy = dice.choice(proxies)
                proxy.cut_after(dice.randrange(1, 3000), dice.choice(["up", "down"]))
            if number % 50 == 49:
                await sender.collect()
        await sender.finish()
    return sender.answers


# --- a broker that goes and comes back -----------------------------------------------------------


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_restarts_of_the_broker_lose_no_task(
    tmp_path: Path, how: str, is_long: bool, figures: Figures
) -> None:
    """A broker that is ended keeps everything. Of one that is killed, the client sends again."""
    restarts = 40 if is_long else 3
    dice = random.Random(SEED)
    with (
        Mosquitto(tmp_path / "broker", persistence=how == "ended", settings=UNBOUNDED) as broker,
        program(tmp_path, broker.port, pause=0.02) as migfra,
    ):
        migfra.start()
        options = at(broker.port, client_id="scheduler", persistent=True)
        with MigfraClient.connect(options, timeout=RESULT_PATIENCE) as client:
            handles = []
            for _ in range(restarts):
                for _ in range(50):
                    handles.append(client.start(HOST, f"vm{len(handles)}"))
                    time.sleep(dice.uniform(0.0, 0.01))  # the broker goes amid the stream
                broker.stop() if how == "ended" else broker.kill()
                handles += [client.start(HOST, f"vm{len(handles) + n}") for n in range(5)]
                broker.start()
            for handle in handles:
                assert handle.result().status == "success"
        assert migfra.terminate() == 0
        repeated = sum("received again" in line for line in migfra.log)
    assert Counter(migfra.done()) == dict.fromkeys(
        (f"{what} vm{number}" for number in range(len(handles)) for what in ("begin", "end")), 1
    )
    figures(
        f"{restarts} times, {len(handles):,} tasks, each executed and answered; "
        f"{repeated} deliveries recognised"
    )


# --- what takes long ------------------------------------------------------------------------------

TEN_MINUTES = 600.0


def test_long_migration_does_not_block_other_tasks(
    tmp_path: Path, broker: Mosquitto, figures: Figures
) -> None:
    """The migration runs in scaled time. The daemon executes other tasks in this time."""
    bandwidth = 100.0
    file = tmp_path / "cluster"
    description = ClusterDescription(
        hosts=[HostDescription(name=host, memory=1 << 30) for host in ("a", "b")],
        domains=[
            DomainDescription(name="large", host="a", memory=int(TEN_MINUTES * bandwidth) << 10),
            DomainDescription(name="small", host="a"),
        ],
        bandwidth=bandwidth,
    )
    Cluster(description, str(file)).close()
    seen: list[Progress] = []
    configuration = tmp_path / "a.yaml"
    configuration.write_text(
        f"hostname: a\n"
        f"communicator: {{host: 127.0.0.1, port: {broker.port}}}\n"
        f"hypervisor: {{type: simulated, file: {file}, speed: 200}}\n"
        f"journal: {{path: {tmp_path}/a.journal}}\n"
        f"progress-interval: 0.25\n"
    )
    with program(tmp_path, broker.port) as migfra:
        migfra.configuration = configuration
        migfra.start(ready=False)
        migfra.wait_for("works on a")
        with MigfraClient.connect(at(broker.port), timeout=RESULT_PATIENCE) as client:
            handle = client.migrate(
                "large", "a", "b", migration_type="live", on_progress=seen.append
            )
            others = 0
            while not handle.done():
                for work in (client.suspend, client.resume):
                    assert work("a", "small").result().status == "success"
                    others += 1
                report = client.query("a").result().node
                assert report is not None
                assert [task.vm_name for task in report.tasks] == ["large"] or handle.done()
            assert handle.result().status == "success"
        assert migfra.terminate() == 0
    percents = [one.percent for one in seen if one.percent is not None]
    assert percents == sorted(percents)
    # A busy machine may give the daemon no time for reports at the beginning.
    whole = [
        one.expected / (1 - one.percent / 100)
        for one in seen
        if one.expected and one.percent is not None and one.percent < 90
    ]
    assert max(whole) > TEN_MINUTES * 0.8
    figures(f"{others} other tasks meanwhile, {len(seen)} reports of progress")
    with Cluster(file=str(file)) as cluster:
        assert cluster.domain("large").host == "b"
