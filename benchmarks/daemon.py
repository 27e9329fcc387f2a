"""Tasks per second and latency of one daemon, beside a loop that only reads and answers.

All are processes of their own, asked by the same client over a mosquitto on loopback, in many short
rounds of one run. The ratios are those within each round.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from .codec import Target
from .mosquitto import MissingBrokerError, mosquitto
from .mosquitto import version as mosquitto_version
from .resources import usage_of

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient
    from fastlib.message import ResultContainer, TaskContainer

KINDS = {
    "loop": "loop",
    "loop, two commits": "floor",
    "journal in memory": "memory",
    "migfra": "migfra",
}
"""What is measured, and what `answerers` calls it."""
FLOOR = "loop, two commits"
"""Measured only one by one: at once, its commits would have to be shared as those of a journal."""
AT_ONCE = tuple(name for name in KINDS if name != FLOOR)
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


THOROUGH = Effort(rounds=31, tasks=600, single=60)
QUICK = Effort(rounds=5, tasks=200, single=20)


class Spread(NamedTuple):
    """The median of some figures and the middle half of them."""

    median: float
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""


def spread(figures: Sequence[float]) -> Spread:
    """Return the median and the quartiles of at least one figure."""
    if len(figures) == 1:
        return Spread(figures[0], figures[0], figures[0])
    low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
    return Spread(median, low, high)


@dataclass
class Outcome:
    """The measurements of one run, by contender. Each list has one entry a round.

    Other work on the machine changes from second to second. So figures are divided by those of the
    loop of the same round, and the median of these ratios counts.
    """

    rates: dict[str, list[float]] = field(default_factory=dict)
    """Tasks per second."""
    latencies: dict[str, list[list[float]]] = field(default_factory=dict)
    """Seconds from submit to result."""
    cpu: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of CPU time of the process that answers, for each task of those at once."""

    def ratio(self, name: str) -> Spread:
        """Return the tasks per second divided by those of the loop."""
        pairs = zip(self.rates[name], self.rates[BASE], strict=True)
        return spread([own / base for own, base in pairs])

    def delay(self, name: str) -> Spread:
        """Return the median of the latencies divided by that of the loop."""
        pairs = zip(self.latencies[name], self.latencies[BASE], strict=True)
        return spread([statistics.median(own) / statistics.median(base) for own, base in pairs])

    def all_latencies(self, name: str) -> list[float]:
        """Return the latencies of all rounds in seconds."""
        return list(chain.from_iterable(self.latencies[name]))

    def slow(self, name: str) -> float:
        """Return the 99th percentile of the latencies in seconds."""
        return statistics.quantiles(self.all_latencies(name), n=100, method="inclusive")[98]

    def targets(self) -> list[Target]:
        """Return the targets with the measured figures."""
        rate, delay = self.ratio(OWN).median, self.delay(OWN).median
        return [
            Target(f"at least {LEAST_RATE} of the loop's tasks per second", rate,
                   rate >= LEAST_RATE),
            Target(f"one by one, at most {LONGEST_MEDIAN} times the loop's median", delay,
                   delay <= LONGEST_MEDIAN),
        ]  # fmt: skip


class Contender(NamedTuple):
    """A process that answers tasks."""

    client: "MigfraClient"
    pid: int


def run(effort: Effort, progress: Callable[[str], None] = lambda text: None) -> Outcome:
    """Measure everything in rounds, each with all contenders, in another order each time.

    Raises MissingBrokerError, and MissingExtraError if paho-mqtt is not installed.
    """
    names = list(KINDS)
    outcome = Outcome(
        rates={name: [] for name in AT_ONCE},
        latencies={name: [] for name in names},
        cpu={name: [] for name in AT_ONCE},
    )
    with ExitStack() as stack:
        contenders = {name: stack.enter_context(_start(kind)) for name, kind in KINDS.items()}
        for name, contender in contenders.items():
            # Warms it up.
            if name == FLOOR:
                _one_by_one(contender.client, effort.single)
            else:
                _at_once(contender.client, min(effort.tasks, WINDOW))
            progress(f"{name} is ready")
        for number in range(effort.rounds):
            progress(f"round {number + 1} of {effort.rounds}")
            first = number % len(names)
            for name in names[first:] + names[:first]:
                if name == FLOOR:
                    continue
                client, pid = contenders[name]
                before = usage_of([pid]).cpu
                outcome.rates[name].append(effort.tasks / _at_once(client, effort.tasks))
                outcome.cpu[name].append((usage_of([pid]).cpu - before) / effort.tasks)
            # Apart from the tasks at once, so that the same kinds of work are compared.
            for name in names[first:] + names[:first]:
                outcome.latencies[name].append(_one_by_one(contenders[name].client, effort.single))
    return outcome


@contextmanager
def _start(kind: str) -> Iterator[Contender]:
    """Start a broker and the process that answers tasks."""
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
        yield Contender(client, process.pid)


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
    head = (
        f"{'':<20}{'tasks/s':>9}{'ratio':>7}{'middle half':>14}{'CPU, ms':>9}"
        f"{'median, ms':>12}{'ratio':>7}{'middle half':>14}{'p99, ms':>9}"
    )
    lines = [head, "-" * len(head)]
    for name in KINDS:
        delay = outcome.delay(name)
        at_once = f"{'':>39}"
        if name != FLOOR:
            rate = outcome.ratio(name)
            at_once = (
                f"{statistics.median(outcome.rates[name]):>9,.0f}"
                f"{rate.median:>7.2f}{_middle(rate):>14}"
                f"{statistics.fmean(outcome.cpu[name]) * 1e3:>9.2f}"
            )
        lines.append(
            f"{name:<20}{at_once}"
            f"{statistics.median(outcome.all_latencies(name)) * 1e3:>12.2f}"
            f"{delay.median:>7.2f}{_middle(delay):>14}{outcome.slow(name) * 1e3:>9.2f}"
        )
    lines += [
        "",
        f"tasks per second with {WINDOW} in flight, and the CPU time of a task in the process that",
        "answers; latency from submit to result, one by one; QoS 2 both ways",
        f"a ratio is the median of those of {len(outcome.rates[BASE])} rounds, each to the loop of "
        "its round, and the middle half",
        "has the ratios of half of the rounds",
        f"{FLOOR}: it also writes 20 KiB and calls fdatasync before each answer, twice in a row,",
        "in a thread; that is the least that a daemon with a journal on the disk must do",
        f"{BASE} reads each task and answers it; migfra has its journal on the disk, and a",
        "hypervisor that does nothing",
        f"Python {platform.python_version()}; mosquitto {mosquitto_version()}",
        "",
    ]
    for target in outcome.targets():
        verdict = "met" if target.met else "MISSED"
        lines.append(f"{verdict:<7}{target.value:>6.2f}  {target.text}")
    return "\n".join(lines)


def _middle(figures: Spread) -> str:
    return f"{figures.low:.2f} to {figures.high:.2f}"


def to_json(outcome: Outcome) -> str:
    """Return the outcome for programs."""
    tree: dict[str, Any] = {
        "benchmark": "daemon",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {"mosquitto": mosquitto_version()},
        "tasks-per-second": {
            name: {
                "best": max(rates),
                "median": statistics.median(rates),
                "rounds": len(rates),
            }
            for name, rates in outcome.rates.items()
        },
        "ratio": {name: outcome.ratio(name)._asdict() for name in AT_ONCE},
        "cpu-ms": {name: statistics.fmean(outcome.cpu[name]) * 1e3 for name in AT_ONCE},
        "latency-ms": {
            name: {
                "median": statistics.median(outcome.all_latencies(name)) * 1e3,
                "p99": outcome.slow(name) * 1e3,
                "tasks": len(outcome.all_latencies(name)),
            }
            for name in outcome.latencies
        },
        "latency-ratio": {name: outcome.delay(name)._asdict() for name in KINDS},
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
