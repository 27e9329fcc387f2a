"""Scenarios: messages and a plan of what goes wrong in, a log that a person can read out.

Each folder of `scenarios/` has an `input.yaml` and the `golden.log` that it must give. Real daemons
run it on a simulated cluster, in virtual time, so that each run gives the same. After a change
that is meant, write the logs anew, look at the difference, and commit it::

    python tests/support/migfra/scenario.py --update [NAME …]
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from fastlib import ResultContainer, TaskContainer, load
from fastlib.codec.rules import OneOf
from fastlib.message import topics
from fastlib.message.node import Progress
from fastlib.migfra import ConfigSection
from fastlib.migfra.config.file import Configuration
from fastlib.migfra.config.hypervisor_section import HypervisorSection
from fastlib.migfra.daemon import Daemon
from fastlib.migfra.hypervisors.simulated import (
    Cluster,
    ClusterDescription,
    SimulatedHypervisor,
    SimulatedOptions,
    run_virtual,
)
from fastlib.migfra.plugin_api.config_section import Count
from fastlib.transport import MemoryBroker, MemoryOptions, ReceivedMessage, backoff, connect_async

FOLDER = Path(__file__).parents[2] / "hypervisors" / "simulated" / "scenarios"
MIB = 1 << 20
MARKS = ("!!", "<-", "##", "..", "->", "==")
"""The fate of daemons, messages to them, decisions, progress, answers, the end."""
LONGEST = 3600.0
"""Virtual seconds that answers may take."""


class Step(ConfigSection):
    """A message to a daemon, or its sudden death, or its new begin."""

    rules = (OneOf("message", "daemon"),)

    at: float
    to: str
    message: str | None = None
    daemon: Literal["killed", "started"] | None = None


class Limits(ConfigSection):
    """How many domains may migrate from a host and to it at once."""

    outgoing_migrations: Count = 2
    incoming_migrations: Count = 2


class Scenario(ConfigSection):
    """The contents of `input.yaml`."""

    about: str
    cluster: ClusterDescription
    limits: Mapping[str, Limits] = {}
    """Those of hosts that differ from the default."""
    progress: float = 1.0
    """Seconds between two lines of progress."""
    steps: Sequence[Step]


class Event:
    """One event of the log."""

    def __init__(self, mark: str, host: str, text: str) -> None:
        self.time = f"{asyncio.get_running_loop().time():9.3f}"
        self.mark = mark
        self.lines = [f"{self.time}  {host:6} {mark} {text}".rstrip()]

    @property
    def rank(self) -> tuple[str, int, str]:
        """Its place. What happens at the same instant has no order of its own, but progress, of
        which many daemons tell at once, is told between questions and answers."""
        return self.time, MARKS.index(self.mark), self.lines[0] if self.mark == ".." else ""


class ScenarioRun:
    """Run one scenario and write its log."""

    def __init__(self, scenario: Scenario, journals: Path) -> None:
        self.scenario = scenario
        self.journals = journals
        self.broker = MemoryBroker()
        self.daemons: dict[str, Daemon] = {}
        self.questions = sum(step.message is not None for step in scenario.steps)
        self.events: list[Event] = []
        self.answers = 0
        self.answered = asyncio.Event()
        Cluster.forget("scenario")

    def say(self, mark: str, host: str, text: str, *lines: str) -> None:
        """One event. Nothing that must never be may be at any of them."""
        event = Event(mark, host, text)
        event.lines += lines
        problems = Cluster.named("scenario").problems()
        event.lines += [f"BROKEN: {problem}" for problem in problems]
        self.events.append(event)

    async def run(self) -> str:
        for host in self.scenario.cluster.hosts:
            await self._open(host.name)
        scheduler = await connect_async(MemoryOptions(broker=self.broker, client_id="scheduler"))
        for topic in (topics.RESULT.pattern(), topics.PROGRESS.pattern()):
            await scheduler.subscribe(topic, self._heard)
        for step in self.scenario.steps:
            await asyncio.sleep(step.at - asyncio.get_running_loop().time())
            if step.message is not None:
                self._tell(step.to, step.message)
                await scheduler.send(step.message.encode(), topics.TASK(step.to))
                continue
            self.say("!!", step.to, f"the daemon is {step.daemon}")
            if step.daemon == "started":
                await self._open(step.to)
            else:
                await self.daemons.pop(step.to).kill()
        try:
            async with asyncio.timeout(LONGEST):
                await self.answered.wait()
        except TimeoutError:
            self.say("==", "", "not everything was answered")
        self._tell_places()
        for daemon in self.daemons.values():
            await daemon.close()
        await scheduler.close()
        events = sorted(self.events, key=lambda event: event.rank)
        lines = [line for event in events for line in event.lines]
        return "\n".join((*_wrapped(self.scenario.about), "", *lines, ""))

    async def _open(self, host: str) -> None:
        limits = self.scenario.limits.get(host, Limits())
        options = SimulatedOptions(
            cluster="scenario",
            create=self.scenario.cluster,
            outgoing_migrations=limits.outgoing_migrations,
            incoming_migrations=limits.incoming_migrations,
        )
        choice = HypervisorSection(SimulatedHypervisor, options)
        configuration = Configuration(
            hostname=host, hypervisor=choice, progress_interval=self.scenario.progress
        )
        journal = self.journals / host
        daemon = Daemon(configuration, communicator=self.broker, journal=journal)
        self.daemons[host] = await daemon.open()

    def _tell(self, host: str, message: str) -> None:
        container = load(message)
        assert isinstance(container, TaskContainer)
        lines = []
        for task in container.tasks:
            text = task.to_yaml(style="literal").removeprefix("---\n").removesuffix("\n---")
            for mark, line in zip(chain("-", repeat(" ")), text.splitlines(), strict=False):
                lines.append(f"{'':20}{mark} {line}".rstrip())
        self.say("<-", host, f"{container.task}{_id(container.id)}", *lines)

    async def _heard(self, message: ReceivedMessage) -> None:
        topic = topics.parse(message.topic)
        assert topic is not None
        host = topic.names["host"]
        if topic.kind == "PROGRESS":
            self.say("..", host, _progress(Progress.from_yaml(message.payload)))
            return
        container = ResultContainer.from_yaml(message.payload)
        lines = [
            f"{'':20}{result.vm_name} {result.status}"
            + (f": {result.details}" if result.details else "")
            for result in container.results
        ]
        self.say("->", host, f"{container.result}{_id(container.id)}", *lines)
        self.answers += 1
        if self.answers == self.questions:
            self.answered.set()

    def _tell_places(self) -> None:
        cluster = Cluster.named("scenario")
        lines = []
        for host in cluster.hosts():
            domains = [
                f"{domain.name} {domain.state}"
                + (" with a saved image" if domain.saved else "")
                + (f" pinned {domain.vcpu_map}" if domain.vcpu_map else "")
                for domain in cluster.domains(host.name)
            ]
            lines.append(f"{'':11}{host.name:6} {', '.join(domains) or 'nothing'}")
        self.say("==", "", "in the end", *lines)


class Decisions(logging.Handler):
    """Decisions about migrations are also in the log."""

    def __init__(self, run: ScenarioRun) -> None:
        super().__init__(logging.INFO)
        self.run = run

    def emit(self, record: logging.LogRecord) -> None:
        retry = record.levelno == logging.WARNING and " retry " in record.getMessage()
        if record.module in ("migration", "swap") or retry:
            self.run.say("##", "", record.getMessage())


def _id(id: str | None) -> str:
    return f" ({id})" if id else ""


def _progress(progress: Progress) -> str:
    parts = [progress.phase]
    if progress.position is not None:
        parts.append(f"place {progress.position}")
    if progress.percent is not None:
        parts.append(f"{progress.percent:.0f} %")
    if progress.remaining:
        parts.append(f"{progress.remaining / MIB:.0f} MiB remain")
    if progress.dirty_rate:
        parts.append(f"{progress.dirty_rate / MIB:.0f} MiB/s written")
    if progress.expected:
        parts.append(f"{progress.expected:.1f} s to go")
    return f"{progress.vm_name}: {', '.join(parts)}"


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in text.strip().splitlines()]


def names() -> list[str]:
    """Every scenario."""
    return sorted(path.parent.name for path in FOLDER.glob("*/input.yaml"))


def log_of(name: str) -> str:
    """Run a scenario and return its log."""
    scenario = Scenario.from_yaml((FOLDER / name / "input.yaml").read_bytes(), unknown="error")
    backoff.RANDOM.seed(0)  # the pauses between retries are shortened at random
    log = logging.getLogger("fastlib.migfra")
    with TemporaryDirectory() as journals:
        run = ScenarioRun(scenario, Path(journals))
        handler, level = Decisions(run), log.level
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            return run_virtual(run.run())
        finally:
            log.removeHandler(handler)
            log.setLevel(level)


def golden(name: str) -> Path:
    """The file with the log that a scenario must give."""
    return FOLDER / name / "golden.log"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Run scenarios and print their logs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="all if none is given")
    parser.add_argument("--update", action="store_true", help="write the golden logs anew")
    options = parser.parse_args(arguments)
    for name in options.names or names():
        log = log_of(name)
        if options.update:
            golden(name).write_text(log, encoding="utf-8")
        else:
            print(log)


if __name__ == "__main__":
    main(sys.argv[1:])
