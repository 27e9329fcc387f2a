"""The story: twelve steps, each with what must be so at its end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from fastlib.client import AsyncHandle
from fastlib.codec.errors import FastlibError
from fastlib.message import (
    Evacuate,
    EvacuateParameter,
    Quit,
    Repin,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    TaskContainer,
)
from fastlib.message.node import Progress

from .guard import Guard
from .scenery import SLOW, home, vm_names
from .scheduler import Scheduler, expect, live, together
from .settings import Settings
from .stage import Stage
from .summary import Chapter
from .view import View
from .witness import Witness
from .words import count, names

ENOUGH: Final = 20.0
"""Per cent from which on a migration is in mid-flight."""

Step = tuple[str, Callable[[], Awaitable[None]]]


class Story:
    """Plays the steps one after the other, until the end or until one does not go as told."""

    def __init__(
        self, stage: Stage, scheduler: Scheduler, witness: Witness, guard: Guard, view: View
    ) -> None:
        self.chapters: Final[list[Chapter]] = []
        self.problems: Final[list[str]] = []
        self._settings: Final[Settings] = stage.settings
        self._stage = stage
        self._scheduler = scheduler
        self._witness = witness
        self._guard = guard
        self._view = view
        self._hosts: Final = stage.hosts
        self._vms: Final = vm_names(stage.settings)
        self._many: Final = stage.settings.many
        self._mortal: Final = stage.mortal
        self._evacuated: Final = stage.hosts[1 : 1 + self._many]
        self._first: dict[str, TaskContainer] = {}
        """The first container that each host got, and its answer."""
        self._answers: dict[str, ResultContainer] = {}

    def steps(self) -> list[Step]:
        """What happens, in order."""
        many = self._many
        return [
            (f"{count(len(self._hosts), 'daemon')} begin to work", self._begin),
            (f"{count(len(self._vms), 'VM')} start", self._start),
            (f"{_some(many, 'VM migrates', 'VMs migrate')} live", self._migrate),
            (f"{_some(many, 'pair', 'pairs')} of VMs swap hosts", self._swap),
            (f"{_some(many, 'VM gets', 'VMs get')} other CPUs", self._repin),
            (f"{_some(many, 'VM is', 'VMs are')} suspended", self._suspend),
            (f"{_some(many, 'VM is', 'VMs are')} resumed", self._resume),
            (f"{_some(many, 'host is', 'hosts are')} evacuated under load", self._evacuate),
            (f"{_some(many, 'migration is', 'migrations are')} cancelled half-way", self._cancel),
            (f"{_some(len(self._mortal), 'daemon is', 'daemons are')} killed at work", self._kill),
            ("all VMs stop", self._stop),
            ("all daemons quit", self._quit),
        ]

    async def play(self) -> None:
        """Play it. What does not go as told is in `problems` afterwards."""
        steps = self.steps()
        for number, (title, step) in enumerate(steps, 1):
            self._scheduler.begin_step()
            self._view.step(number, len(steps), title)
            began, cluster_began = time.monotonic(), self._stage.now()
            problem = await self._play(step)
            self.chapters.append(
                Chapter(
                    number=number,
                    title=title,
                    seconds=time.monotonic() - began,
                    cluster_seconds=self._stage.now() - cluster_began,
                    done=problem is None,
                )
            )
            if problem is not None:
                self.problems.append(f"step {number}, {title}: {problem}")
                return
            await asyncio.sleep(self._settings.pause)  # for whoever looks

    async def _play(self, step: Callable[[], Awaitable[None]]) -> str | None:
        """Why a step did not go as told, or None."""
        try:
            await step()
            await self._until(
                lambda: not self._witness.unanswered(), "an answer to everything that was asked"
            )
        except FastlibError as error:
            return str(error)
        return None

    # The steps

    async def _begin(self) -> None:
        await together(self._stage.begin(host) for host in self._hosts)
        await self._presence("online", self._hosts)

    async def _start(self) -> None:
        homes: dict[str, list[str]] = {}
        for number, vm in enumerate(self._vms):
            homes.setdefault(home(self._settings, self._hosts, number), []).append(vm)
        await together(self._start_on(host, vms) for host, vms in homes.items())
        await self._roll_call({vm: host for host, vms in homes.items() for vm in vms})

    async def _start_on(self, host: str, vms: list[str]) -> None:
        handle = await self._scheduler.send(host, *(Start(vm_name=vm) for vm in vms))
        answer = await handle
        bad = [result for result in answer.results if result.status != "success"]
        expect(
            not bad, f"{bad[0].vm_name} does not start on {host}: {bad[0].details}" if bad else ""
        )
        self._first[host], self._answers[host] = handle.container, answer
        self._guard.up.update(vms)

    async def _migrate(self) -> None:
        moves = [(self._scheduler.pick(a), a, b) for a, b in self._ways(1)]
        await together(self._scheduler.succeed(a, live(vm, b)) for vm, a, b in moves)
        await self._roll_call({vm: b for vm, _, b in moves})

    async def _swap(self) -> None:
        pick = self._scheduler.pick
        swaps = [(pick(a), a, pick(b), b) for a, b in self._ways(2)]
        await together(
            self._scheduler.succeed(a, live(one, b, swap_with=SwapWith(vm_name=other)))
            for one, a, other, b in swaps
        )
        expected = {one: b for one, _, _, b in swaps}
        await self._roll_call(expected | {other: a for _, a, other, _ in swaps})

    async def _repin(self) -> None:
        vms = [(self._scheduler.pick(host), host) for host in self._hosts[: self._many]]
        pins = ((2, 3), (2, 3))
        await together(
            self._scheduler.succeed(host, Repin(vm_name=vm, vcpu_map=pins)) for vm, host in vms
        )
        for vm, _ in vms:
            found = self._stage.cluster.domain(vm).vcpu_map
            same = found is not None and [list(row) for row in found] == [list(row) for row in pins]
            expect(same, f"{vm} is to run on the CPUs 2 and 3, not by {found}")

    async def _suspend(self) -> None:
        vms = [(self._scheduler.pick(host), host) for host in self._hosts[: self._many]]
        await together(self._scheduler.succeed(host, Suspend(vm_name=vm)) for vm, host in vms)
        await self._roll_call({}, paused={vm for vm, _ in vms})

    async def _resume(self) -> None:
        paused = [vm for vm, state in self._scheduler.states.items() if state == "paused"]
        where = self._scheduler.where
        await together(self._scheduler.succeed(where[vm], Resume(vm_name=vm)) for vm in paused)
        await self._roll_call({})

    async def _evacuate(self) -> None:
        """While others migrate, and all VMs write to their memory.

        Round the hosts, whose loads depend on how far the others are: so it is always the same.
        """
        others = [host for host in self._hosts if host not in self._evacuated]
        end = self._hosts[-1]
        load = [(self._scheduler.pick(a), a) for a in others[: self._many] if a != end]
        leaving = [vm for vm, host in self._scheduler.where.items() if host in self._evacuated]
        parameter = EvacuateParameter(mode="scatter", migration_type="live", auto_converge=True)
        task = Evacuate(destinations=others, parameter=parameter, time_measurement=True)
        await together(
            [self._scheduler.succeed(host, task) for host in self._evacuated]
            + [self._scheduler.succeed(a, live(vm, end)) for vm, a in load]
        )
        await self._roll_call({vm: end for vm, _ in load}, moved=leaving)
        left = set(self._scheduler.where.values()) & set(self._evacuated)
        expect(not left, f"{names(sorted(left))} should be empty")
        self._view.say(f"{names(self._evacuated)}: nothing left")

    async def _cancel(self) -> None:
        sources = self._hosts[-self._many :]
        moves = [
            (self._scheduler.pick(source), source, to)
            for source, to in zip(sources, self._evacuated, strict=True)
        ]
        await together(self._cancel_one(*move) for move in moves)
        await self._roll_call({})

    async def _cancel_one(self, vm: str, source: str, destination: str) -> None:
        handle = await self._endless(vm, source, destination)
        self._view.say(f"{vm} writes faster than it moves, so that is cancelled")
        cancelled = await (await handle.cancel())
        expect(cancelled.status == "success", f"cancelling failed: {cancelled.details}")
        (result,) = (await handle).results
        expect(
            result.status == "error" and "cancelled" in (result.details or ""),
            f"the migration of {vm} should be cancelled, not {result.status}: {result.details}",
        )

    async def _kill(self) -> None:
        """With a migration under way and a task on its way; a task that was done is sent again."""
        moves = [
            (self._scheduler.pick(host), self._scheduler.pick(host), host, to)
            for host, to in zip(self._mortal, self._evacuated, strict=False)
        ]
        await together(self._kill_one(*move) for move in moves)
        await self._roll_call(
            {moved: to for moved, _, _, to in moves}, paused={paused for _, paused, _, _ in moves}
        )

    async def _kill_one(self, moving: str, other: str, host: str, destination: str) -> None:
        migration = await self._endless(moving, host, destination)
        self._view.say(f"the daemon of {host} is killed while {moving} migrates")
        await self._stage.kill(host)
        await self._presence("offline", [host])
        waiting = await self._scheduler.send(host, Suspend(vm_name=other))
        self._view.say(f"the daemon of {host} comes back, and has its journal")
        await self._stage.begin(host)
        await self._presence("online", [host])
        (lost,) = (await migration).results
        expect(
            lost.status == "error" and "the daemon ended" in (lost.details or ""),
            f"the migration of {moving} ended with the daemon, not with {lost.details}",
        )
        (late,) = (await waiting).results
        expect(late.status == "success", f"the task that waited failed: {late.details}")
        if host in self._first:
            again = await (await self._scheduler.client.submit(host, self._first[host]))
            expect(
                again == self._answers[host],
                f"{host} answered {again.id} differently when it was sent again",
            )
            self._view.say(f"{host} answers {again.id} from its journal, as it did before")
        await self._scheduler.succeed(host, live(moving, destination))

    async def _stop(self) -> None:
        homes: dict[str, list[str]] = {}
        for vm, host in self._scheduler.where.items():
            homes.setdefault(host, []).append(vm)
        self._guard.up.clear()
        await together(
            self._scheduler.succeed(host, *(Stop(vm_name=vm) for vm in vms))
            for host, vms in homes.items()
        )
        await self._scheduler.roll_call()
        left = sorted(self._scheduler.where)
        expect(not left, f"all VMs should have stopped, but for {names(left)}")

    async def _quit(self) -> None:
        await together(self._scheduler.succeed(host, Quit()) for host in self._hosts)
        await self._presence("offline", self._hosts)
        await together(daemon.ended.wait() for daemon in self._stage.daemons.values())

    # Common to them

    def _ways(self, far: int) -> list[tuple[str, str]]:
        """Pairs of hosts, the second so far from the first."""
        hosts = self._hosts
        return [(hosts[i], hosts[(i + far) % len(hosts)]) for i in range(self._many)]

    async def _endless(
        self, vm: str, source: str, destination: str
    ) -> AsyncHandle[ResultContainer]:
        """A migration that is half-way, and that would not end by itself."""
        half_way = asyncio.Event()

        def look(progress: Progress) -> None:
            if (progress.percent or 0.0) >= ENOUGH:
                half_way.set()

        handle = await self._scheduler.send(
            source, live(vm, destination, auto_converge=False, bandwidth_limit=SLOW)
        )
        await handle.on_progress(look)
        handle.add_done_callback(lambda _: half_way.set())
        try:
            async with asyncio.timeout(self._settings.patience):
                await half_way.wait()
        except TimeoutError:
            expect(False, f"the migration of {vm} does not come half-way")
        expect(not handle.done(), f"the migration of {vm} ended before it was half-way")
        return handle

    async def _presence(self, status: str, hosts: list[str]) -> None:
        def so() -> bool:
            said = self._witness.presence
            return all(host in said and said[host].status == status for host in hosts)

        await self._until(so, f"{names(hosts)} to be {status}")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        await self._witness.until(condition, what, self._settings.patience)

    async def _roll_call(
        self,
        expected: dict[str, str],
        *,
        moved: list[str] | None = None,
        paused: set[str] | None = None,
    ) -> None:
        """Every VM is there once, and where it was, but for the `expected` and the `moved`."""
        before = self._scheduler.where
        await self._scheduler.roll_call()
        where, states = self._scheduler.where, self._scheduler.states
        missing = set(self._vms) - set(where)
        expect(not missing, f"{names(sorted(missing))} should be on a host, and are on none")
        for vm, host in where.items():
            wanted = expected.get(vm) or (None if vm in (moved or ()) else before.get(vm))
            expect(wanted in (None, host), f"{vm} should be on {wanted}, and is on {host}")
            state = "paused" if vm in (paused or ()) else "running"
            expect(states[vm] == state, f"{vm} should be {state}, and is {states[vm]}")
        self._view.say(f"roll call: each of {count(len(where), 'VM')} is on exactly one host")


def _some(number: int, one: str, more: str) -> str:
    return f"a {one}" if number == 1 else f"{number:,} {more}"
