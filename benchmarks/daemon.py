"""Tasks per second and latency of one daemon, beside a loop that only reads and answers.

All are processes of their own, asked by the same client over a mosquitto on loopback, in one run
and in turns.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from .codec import Target
from .mosquitto import MissingBrokerError, mosquitto
from .mosquitto import version as mosquitto_version

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient
    from fastlib.message import ResultContainer, TaskContainer

KINDS = {"loop": "loop", "journal in memory": "memory", "migfra": "migfra"}
"""What is measured, and what `answerers` calls it."""
BASE = "loop"
OWN = "migfra"

LEAST_RATE = 0.8
"""The tasks per second of migfra, divided by those of the loop, are at least this."""
LONGEST_MEDIAN = 1.7
"""The median latency of migfra, divided by that of the loop, is at most this."""

PATIENCE = 120.0
"""Seconds until a measurement fails."""
WINDOW = 200
"""Tasks in flight, for tasks per second."""


class Effort(NamedTuple):
    """The number of messages of a measurement."""

    rounds: int
    tasks: int
    """Of each sample of tasks per second."""
    single: int
    """One by one, of each sample."""


THOROUGH = Effort(rounds=7, tasks=3000, single=500)
QUICK = Effort(rounds=2, tasks=300, single=30)


@dataclass
class Outcome:
    """The measurements of one run, by contender."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    """Tasks per second, one entry a round."""
    latencies: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from submit to result, of all rounds."""

    def rate(self, name: str) -> float:
        """Return the tasks per second of the best round."""
        return max(self.rates[name])

    def ratio(self, name: str) -> float:
        """Return the best rate divided by that of the loop."""
        return self.rate(name) / self.rate(BASE)

    def median(self, name: str) -> float:
        """Return the median of the latencies in seconds."""
        return statistics.median(self.latencies[name])

    def delay(self, name: str) -> float:
        """Return the median of the latencies divided by that of the loop."""
        return self.median(name) / self.median(BASE)

    def targets(self) -> list[Target]:
        """Return the targets with the measured figures."""
        rate, delay = self.ratio(OWN), self.delay(OWN)
        return [
            Target(f"at least {LEAST_RATE} of the loop's tasks per second", rate,
                   rate >= LEAST_RATE),
            Target(f"one by one, at most {LONGEST_MEDIAN} times the loop's median", delay,
                   delay <= LONGEST_MEDIAN),
        ]  # fmt: skip

    def slow(self, name: str) -> float:
        """Return the 99th percentile of the latencies in seconds."""
        return statistics.quantiles(self.latencies[name], n=100, method="inclusive")[98]


def run(effort: Effort, progress: Callable[[str], None] = lambda text: None) -> Outcome:
    """Measure everything, the contenders in turns, each first in some round.

    Raises MissingBrokerError, and MissingExtraError if paho-mqtt is not installed.
    """
    outcome = Outcome({name: [] for name in KINDS}, {name: [] for name in KINDS})
    names = list(KINDS)
    with ExitStack() as stack:
        clients = {name: stack.enter_context(_client_of(kind)) for name, kind in KINDS.items()}
        for name, client in clients.items():
            _at_once(client, min(effort.tasks, WINDOW))  # warms it up
            progress(f"{name} is ready")
        for number in range(effort.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                progress(f"round {number + 1} of {effort.rounds}: {name}")
                outcome.rates[name].append(effort.tasks / _at_once(clients[name], effort.tasks))
                outcome.latencies[name] += _one_by_one(clients[name], effort.single)
    return outcome


@contextmanager
def _client_of(kind: str) -> Iterator["MigfraClient"]:
    """Start a broker and the process that answers tasks; yield a client."""
    from fastlib.client import MigfraClient
    from fastlib.transport import MqttOptions

    with tempfile.TemporaryDirectory() as directory, mosquitto() as port, ExitStack() as stack:
        options = MqttOptions(host="127.0.0.1", port=port)
        client = stack.enter_context(MigfraClient.connect(options, timeout=PATIENCE))
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.answerers", kind, str(port), directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.stdin.close if process.stdin else process.kill)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{kind} does not start")
        yield client


def _at_once(client: "MigfraClient", count: int) -> float:
    """Return the seconds for `count` tasks, at most `WINDOW` of them in flight."""
    container = _task()
    handles: deque[Handle[ResultContainer]] = deque()
    begin = time.perf_counter()
    for _ in range(count):
        handles.append(_submit(client, container))
        if len(handles) == WINDOW:
            _check(handles.popleft())
    for handle in handles:
        _check(handle)
    return time.perf_counter() - begin


def _one_by_one(client: "MigfraClient", count: int) -> list[float]:
    """Return the seconds of each task; each is sent after the result of the one before."""
    container = _task()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        _check(_submit(client, container))
        times.append(time.perf_counter() - begin)
    return times


def _task() -> "TaskContainer":
    from fastlib import Stop, TaskContainer

    return TaskContainer(tasks=[Stop(vm_name="centos7113")])


def _submit(client: "MigfraClient", container: "TaskContainer") -> "Handle[ResultContainer]":
    return client.submit("node01", container)


def _check(handle: "Handle[ResultContainer]") -> None:
    answer = handle.result(PATIENCE)
    if [result.status for result in answer.results] != ["success"]:
        raise ValueError(f"not the answer: {answer}")


# --- what is printed ----------------------------------------------------------------------------


def render(outcome: Outcome) -> str:
    """Return the outcome as a table for people."""
    head = f"{'':<20}{'tasks/s':>10}{'ratio':>8}{'median, ms':>14}{'ratio':>8}{'p99, ms':>10}"
    lines = [head, "-" * len(head)]
    for name in KINDS:
        lines.append(
            f"{name:<20}{outcome.rate(name):>10,.0f}{outcome.ratio(name):>8.2f}"
            f"{outcome.median(name) * 1e3:>14.2f}{outcome.delay(name):>8.2f}"
            f"{outcome.slow(name) * 1e3:>10.2f}"
        )
    lines += [
        "",
        f"tasks per second with {WINDOW} in flight, the best of all rounds; latency from submit",
        "to result, one by one, of all rounds; QoS 2 both ways",
        f"{BASE} reads each task and answers it; migfra has its journal on the disk, and a",
        "hypervisor that does nothing",
        f"Python {platform.python_version()}; mosquitto {mosquitto_version()}",
        "",
    ]
    for target in outcome.targets():
        verdict = "met" if target.met else "MISSED"
        lines.append(f"{verdict:<7}{target.value:>6.2f}  {target.text}")
    return "\n".join(lines)


def to_json(outcome: Outcome) -> str:
    """Return the outcome for programs."""
    tree: dict[str, Any] = {
        "benchmark": "daemon",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {"mosquitto": mosquitto_version()},
        "tasks-per-second": {
            name: {
                "best": outcome.rate(name),
                "median": statistics.median(rates),
                "rounds": len(rates),
            }
            for name, rates in outcome.rates.items()
        },
        "ratio": {name: outcome.ratio(name) for name in KINDS},
        "latency-ms": {
            name: {
                "median": outcome.median(name) * 1e3,
                "p99": outcome.slow(name) * 1e3,
                "tasks": len(times),
            }
            for name, times in outcome.latencies.items()
        },
        "latency-ratio": {name: outcome.delay(name) for name in KINDS},
        "targets": [target._asdict() for target in outcome.targets()],
    }
    return json.dumps(tree, indent=2)


def main(arguments: list[str]) -> int:
    """`python -m benchmarks daemon`: exit status 2 if there is nothing to measure with."""
    from fastlib.extras import MissingExtraError

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks daemon", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="some seconds, less exact")
    options = parser.parse_args(arguments)
    show = _show_progress if sys.stderr.isatty() else lambda text: None
    try:
        outcome = run(QUICK if options.quick else THOROUGH, show)
    except (MissingBrokerError, MissingExtraError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    print(to_json(outcome) if options.json else render(outcome))
    return 0


def _show_progress(text: str) -> None:
    print(text, file=sys.stderr)
