"""Orders to clusters of 10, 100 and 1,000 daemons over one mosquitto, and where one broker ends.

Each daemon is a real one, many in a process, with a hypervisor that does nothing. All of them
report progress and presence. One scheduler sends orders to all hosts. Another one uses one host.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple

from . import broker_capacity
from .broker_capacity import Capacity
from .codec import Target
from .mosquitto import MissingBrokerError, running_mosquitto
from .mosquitto import version as mosquitto_version
from .raw_mqtt import RawClient
from .resources import usage_of

SIZES: Final = (10, 100, 1000)
"""Daemons of each cluster."""
HOSTS_OF_A_PROCESS: Final = 100
"""Daemons in one process, at most."""
WINDOW: Final = 100
"""Orders in flight, for orders per second; one at most for each host."""

MOST_GROWTH: Final = 1.3
"""CPU time of an order in the largest cluster, divided by that in the smallest one, at most."""
MOST_OF_OTHERS: Final = 1.05
"""Messages for an order to one host in the largest cluster, divided by those in the smallest."""

PATIENCE: Final = 600.0
SYS: Final = "$SYS/broker/messages"
SYS_SECONDS: Final = 2.2
"""The broker publishes its counters each second; until they are those of now."""


class Effort(NamedTuple):
    """How much is measured."""

    sizes: tuple[int, ...]
    orders: int
    """Of the scheduler that uses all hosts, in each cluster; and half as many of the other one."""
    single: int
    """One by one."""
    idle: float
    """Seconds in which nothing is ordered: some presence intervals, as daemons that started
    together publish together."""
    capacity: broker_capacity.Effort


THOROUGH: Final = Effort(SIZES, 2000, 200, 90.0, broker_capacity.Effort(400_000, 5000, 4, 50_000))
QUICK: Final = Effort((2, 4), 60, 10, 0.2, broker_capacity.Effort(2_000, 40, 5, 1_000))


class Part(NamedTuple):
    """What one program has used."""

    cpu_order: float
    """Seconds of CPU for each order, without what would be used without orders."""
    cpu_idle: float
    """Seconds of CPU in each second without an order."""
    memory: int
    """Bytes."""


class Cluster(NamedTuple):
    """The figures of one cluster."""

    hosts: int
    orders_per_second: float
    median: float
    """Seconds from an order to its result, one order after the other."""
    p99: float
    broker: Part
    scheduler: Part
    daemons: Part
    """All of them together."""
    packets: float
    """MQTT packets to and from the broker for each order."""
    received: float
    """Messages to the scheduler for each order."""
    one_host_received: float
    """Messages for each order to a scheduler that uses one host, while another uses all."""
    one_host_cpu: float
    """Its CPU seconds for each order."""

    @property
    def cpu(self) -> float:
        """The CPU seconds of everything for each order."""
        return sum(part.cpu_order for part in (self.broker, self.scheduler, self.daemons))


class Outcome(NamedTuple):
    """The figures of one run."""

    clusters: list[Cluster]
    capacity: Capacity
    load: tuple[float, float]
    """The load average of the machine at the start and at the end."""

    def targets(self) -> list[Target]:
        """Return the targets with the measured figures."""
        small, large = self.clusters[0], self.clusters[-1]
        growth = large.cpu / small.cpu
        others = large.one_host_received / small.one_host_received
        sizes = f"in a cluster of {large.hosts} as in one of {small.hosts}"
        return [
            Target(f"an order costs at most {MOST_GROWTH} times the CPU {sizes}", growth,
                   growth <= MOST_GROWTH),
            Target(f"a scheduler that uses one host gets as many messages {sizes}", others,
                   others <= MOST_OF_OTHERS),
        ]  # fmt: skip


def run(effort: Effort, progress: Callable[[str], None] = lambda text: None) -> Outcome:
    """Measure everything. Raises MissingBrokerError."""
    load = os.getloadavg()[0]
    clusters = []
    for size in effort.sizes:
        progress(f"a cluster of {size}")
        clusters.append(_cluster(size, effort, progress))
    capacity = broker_capacity.measure(effort.capacity, progress)
    return Outcome(clusters, capacity, (load, os.getloadavg()[0]))


class _Process:
    """A process of `scale_processes`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.scale_processes", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("a process of the benchmark does not start")

    def begin(self, hosts: Sequence[str], orders: int, window: int) -> None:
        assert self.process.stdin is not None
        line = json.dumps({"hosts": hosts, "orders": orders, "window": window})
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def measure(self, hosts: Sequence[str], orders: int, window: int) -> dict[str, Any]:
        self.begin(hosts, orders, window)
        return self.end()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@contextmanager
def _process(*arguments: str) -> Iterator[_Process]:
    process = _Process(*arguments)
    try:
        yield process
    finally:
        process.close()


def _cluster(size: int, effort: Effort, progress: Callable[[str], None]) -> Cluster:
    hosts = [f"node{number:04}" for number in range(size)]
    with running_mosquitto("sys_interval 1") as broker, ExitStack() as stack:
        port = str(broker.port)
        daemons = [
            stack.enter_context(_process("daemons", port, *hosts[at : at + HOSTS_OF_A_PROCESS]))
            for at in range(0, size, HOSTS_OF_A_PROCESS)
        ]
        for process in daemons:
            process.await_ready()
        progress("the daemons are ready")
        everything = stack.enter_context(_process("scheduler", port))
        one_host = stack.enter_context(_process("scheduler", port))
        for scheduler in (everything, one_host):
            scheduler.await_ready()
        groups = [[broker.pid], [everything.pid], [process.pid for process in daemons]]

        idle_before = [usage_of(pids).cpu for pids in groups]
        time.sleep(effort.idle)
        idle = [
            (usage_of(pids).cpu - cpu) / effort.idle
            for pids, cpu in zip(groups, idle_before, strict=True)
        ]
        # Orders that are in flight at the same host share its commits, so there is one at most.
        window = min(WINDOW, size)
        everything.measure(hosts, max(size, effort.single), window)  # warms everything up
        progress("orders to all hosts")
        packets_before = _packets(broker.port)
        before = [usage_of(pids).cpu for pids in groups]
        many = everything.measure(hosts, effort.orders, window)
        after = [usage_of(pids) for pids in groups]
        packets = (_packets(broker.port) - packets_before) / effort.orders
        single = everything.measure(hosts, effort.single, 1)
        progress("a scheduler that uses one host")
        one_host.measure(hosts[:1], 2, 1)
        everything.begin(hosts, effort.orders // 2, 10)
        one = one_host.measure(hosts[:1], effort.orders // 10, 1)
        everything.end()
        parts = [
            Part(
                (usage.cpu - cpu - idle_cpu * many["seconds"]) / effort.orders,
                idle_cpu,
                usage.memory,
            )
            for usage, cpu, idle_cpu in zip(after, before, idle, strict=True)
        ]
        return Cluster(
            hosts=size,
            orders_per_second=many["orders"] / many["seconds"],
            median=single["median"],
            p99=single["p99"],
            broker=parts[0],
            scheduler=parts[1],
            daemons=parts[2],
            packets=packets,
            received=many["received"] / many["orders"],
            one_host_received=one["received"] / one["orders"],
            one_host_cpu=one["cpu"] / one["orders"],
        )


def _packets(port: int) -> int:
    """Return how many MQTT packets the broker has received and sent so far.

    It publishes the numbers each second, if they have changed. A subscription gets the last ones.
    """
    time.sleep(SYS_SECONDS)
    with RawClient(port, "counter") as client:
        return sum(
            int(number) for number in client.retained(f"{SYS}/received", f"{SYS}/sent").values()
        )


# --- what is printed ----------------------------------------------------------------------------


def render(outcome: Outcome) -> str:
    """Return the outcome as tables for people."""
    head = (
        f"{'hosts':>6}{'orders/s':>10}{'median, ms':>12}{'p99, ms':>10}{'packets':>9}"
        f"{'CPU of an order, ms: broker':>29}{'scheduler':>11}{'daemon':>8}"
    )
    lines = [head, "-" * len(head)]
    for one in outcome.clusters:
        lines.append(
            f"{one.hosts:>6}{one.orders_per_second:>10,.0f}{one.median * 1e3:>12.1f}"
            f"{one.p99 * 1e3:>10.1f}{one.packets:>9.1f}{one.broker.cpu_order * 1e3:>29.2f}"
            f"{one.scheduler.cpu_order * 1e3:>11.2f}{one.daemons.cpu_order * 1e3:>8.2f}"
        )
    head = (
        f"{'hosts':>6}{'MiB: broker':>13}{'scheduler':>11}{'a daemon':>10}"
        f"{'idle CPU, ms/s: broker':>24}{'scheduler':>11}{'a daemon':>10}"
    )
    lines += ["", head, "-" * len(head)]
    for one in outcome.clusters:
        lines.append(
            f"{one.hosts:>6}{one.broker.memory / 2**20:>13.1f}{one.scheduler.memory / 2**20:>11.1f}"
            f"{one.daemons.memory / one.hosts / 2**20:>10.1f}{one.broker.cpu_idle * 1e3:>24.1f}"
            f"{one.scheduler.cpu_idle * 1e3:>11.1f}"
            f"{one.daemons.cpu_idle / one.hosts * 1e3:>10.2f}"
        )
    head = f"{'hosts':>6}{'a scheduler of one host, for each order: messages':>51}{'CPU, ms':>9}"
    lines += ["", head, "-" * len(head)]
    for one in outcome.clusters:
        lines.append(f"{one.hosts:>6}{one.one_host_received:>51.2f}{one.one_host_cpu * 1e3:>9.2f}")
    capacity = outcome.capacity
    lines += [
        "",
        f"one broker: {capacity.messages_per_second:,.0f} messages/s with QoS 0, "
        f"{capacity.message_cpu * 1e6:.1f} µs of CPU each",
        f"two bridged brokers: {capacity.bridged_per_second:,.0f} messages/s, "
        f"{capacity.bridge_cpu * 1e6:.1f} µs of both each",
        f"a connection with 3 subscriptions: {capacity.client_bytes:,.0f} bytes; a ping: "
        f"{capacity.ping_cpu * 1e6:.1f} µs; a retained presence: "
        f"{capacity.retained_bytes:,.0f} bytes",
        "",
        f"orders per second with {WINDOW} in flight, one at a host; latency one by one; QoS 2;",
        "daemons with a hypervisor that does nothing, and journals in memory",
        f"Python {platform.python_version()}; mosquitto {mosquitto_version()}; "
        f"{os.cpu_count()} cores; load {outcome.load[0]:.1f} to {outcome.load[1]:.1f}",
        "",
    ]
    for target in outcome.targets():
        verdict = "met" if target.met else "NOT met"
        lines.append(f"{target.text}: {target.value:.2f}x - {verdict}")
    return "\n".join(lines)


def to_json(outcome: Outcome) -> str:
    """Return the outcome for programs. Times are in seconds, memory is in bytes."""
    parts = ("broker", "scheduler", "daemons")
    tree = {
        "benchmark": "scale",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": outcome.load,
        "versions": {"mosquitto": mosquitto_version()},
        "clusters": [
            one._asdict() | {part: getattr(one, part)._asdict() for part in parts}
            for one in outcome.clusters
        ],
        "capacity": outcome.capacity._asdict(),
        "targets": [target._asdict() for target in outcome.targets()],
    }
    return json.dumps(tree, indent=2)


def main(arguments: list[str]) -> int:
    """`python -m benchmarks scale`: exit status 2 if there is nothing to measure with."""
    from fastlib.extras import MissingExtraError

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scale", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="tiny clusters, some seconds")
    parser.add_argument(
        "--sizes", metavar="N,N", help="the numbers of daemons, smallest first (10,100,1000)"
    )
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else THOROUGH
    if options.sizes:
        effort = effort._replace(sizes=tuple(int(size) for size in options.sizes.split(",")))
    show = _show_progress if sys.stderr.isatty() else lambda text: None
    try:
        outcome = run(effort, show)
    except (MissingBrokerError, MissingExtraError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    print(to_json(outcome) if options.json else render(outcome))
    return 0


def _show_progress(text: str) -> None:
    print(text, file=sys.stderr)
