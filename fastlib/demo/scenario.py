"""The scenario: twelve steps, each with checks of its outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from fastlib.client import AsyncHandle
from fastlib.codec.errors import FastlibError
from fastlib.display.text import join_names, plural
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

from .cluster import DemoCluster
from .invariants import InvariantChecker
from .layout import SLOW_BANDWIDTH, first_host, vm_names
from .observer import Observer
from .scheduler import Scheduler, expect, gather, live_migration
from .settings import Settings
from .summary import Step
from .view import View

HALF_WAY_PERCENT: Final = 20.0
"""Progress from which a migration counts as running, for tests of interruptions."""

Action = Callable[[], Awaitable[None]]


class Scenario:
    """Runs the steps one after the other, until the end or until one fails."""

    def __init__(
        self,
        cluster: DemoCluster,
        scheduler: Scheduler,
        observer: Observer,
        invariants: InvariantChecker,
        view: View,
    ) -> None:
        self.steps: Final[list[Step]] = []
        self.problems: Final[list[str]] = []
        self._settings: Final[Settings] = cluster.settings
        self._cluster = cluster
        self._scheduler = scheduler
        self._observer = observer
        self._invariants = invariants
        self._view = view
        self._hosts: Final = cluster.hosts
        self._vms: Final = vm_names(cluster.settings)
        self._parallel: Final = cluster.settings.parallel
        self._killed_hosts: Final = cluster.killed_hosts
        self._evacuated: Final = cluster.hosts[1 : 1 + self._parallel]
        self._first_containers: dict[str, TaskContainer] = {}
        self._first_answers: dict[str, ResultContainer] = {}

    def _actions(self) -> list[tuple[str, Action]]:
        """Return the titles and the actions of the steps, in order."""
        many, kills = self._parallel, len(self._killed_hosts)
        return [
            (f"{plural(len(self._hosts), 'daemon')} start", self._start_daemons),
            (f"{plural(len(self._vms), 'VM')} start", self._start_vms),
            (f"{_some(many, 'VM migrates', 'VMs migrate')} live", self._migrate),
            (f"{_some(many, 'pair', 'pairs')} of VMs swap hosts", self._swap),
            (f"{_some(many, 'VM gets', 'VMs get')} new CPUs", self._repin),
            (f"{_some(many, 'VM is', 'VMs are')} suspended", self._suspend),
            (f"{_some(many, 'VM is', 'VMs are')} resumed", self._resume),
            (f"{_some(many, 'host is', 'hosts are')} evacuated under load", self._evacuate),
            (f"{_some(many, 'migration is', 'migrations are')} cancelled half-way", self._cancel),
            (f"{_some(kills, 'daemon is', 'daemons are')} killed during a migration", self._kill),
            ("all VMs stop", self._stop),
            ("all daemons quit", self._quit),
        ]

    async def run(self) -> None:
        """Run the scenario; a failed step is in `problems` afterwards."""
        actions = self._actions()
        for number, (title, action) in enumerate(actions, 1):
            self._scheduler.begin_step()
            self._view.step(number, len(actions), title)
            began, cluster_began = time.monotonic(), self._cluster.now()
            problem = await self._run(action)
            self.steps.append(
                Step(
                    number=number,
                    title=title,
                    seconds=time.monotonic() - began,
                    cluster_seconds=self._cluster.now() - cluster_began,
                    done=problem is None,
                )
            )
            if problem is not None:
                self.problems.append(f"step {number}, {title}: {problem}")
                return
            await asyncio.sleep(self._settings.pause)

    async def _run(self, action: Action) -> str | None:
        """Run a step, and return why it failed, or None. The failure of a daemon ends it."""
        step = asyncio.create_task(self._complete(action))
        failure = asyncio.create_task(self._cluster.wait_for_failure())
        try:
            await asyncio.wait((step, failure), return_when=asyncio.FIRST_COMPLETED)
            if failure.done():
                return failure.result()
            await step
        except FastlibError as error:
            return str(error)
        finally:
            for task in (step, failure):
                task.cancel()
            await asyncio.gather(step, failure, return_exceptions=True)
        return None

    async def _complete(self, action: Action) -> None:
        await action()
        await self._until(lambda: not self._observer.unanswered(), "an answer to every task")

    # --- the steps

    async def _start_daemons(self) -> None:
        await gather(self._cluster.start_daemon(host) for host in self._hosts)
        await self._presence("online", self._hosts)

    async def _start_vms(self) -> None:
        vms_by_host: dict[str, list[str]] = {}
        for number, vm in enumerate(self._vms):
            vms_by_host.setdefault(first_host(self._settings, self._hosts, number), []).append(vm)
        await gather(self._start_vms_on(host, vms) for host, vms in vms_by_host.items())
        await self._check_locations({vm: host for host, vms in vms_by_host.items() for vm in vms})

    async def _start_vms_on(self, host: str, vms: list[str]) -> None:
        handle = await self._scheduler.send(host, *(Start(vm_name=vm) for vm in vms))
        answer = await handle
        bad = [result for result in answer.results if result.status != "success"]
        expect(
            not bad, f"{bad[0].vm_name} does not start on {host}: {bad[0].details}" if bad else ""
        )
        self._first_containers[host], self._first_answers[host] = handle.container, answer
        self._invariants.running.update(vms)

    async def _migrate(self) -> None:
        moves = [(self._scheduler.pick(a), a, b) for a, b in self._host_pairs(1)]
        await gather(
            self._scheduler.execute_successfully(a, live_migration(vm, b)) for vm, a, b in moves
        )
        await self._check_locations({vm: b for vm, _, b in moves})

    async def _swap(self) -> None:
        pick = self._scheduler.pick
        swaps = [(pick(a), a, pick(b), b) for a, b in self._host_pairs(2)]
        await gather(
            self._scheduler.execute_successfully(
                a, live_migration(one, b, swap_with=SwapWith(vm_name=other))
            )
            for one, a, other, b in swaps
        )
        expected = {one: b for one, _, _, b in swaps}
        await self._check_locations(expected | {other: a for _, a, other, _ in swaps})

    async def _repin(self) -> None:
        vms = [(self._scheduler.pick(host), host) for host in self._hosts[: self._parallel]]
        pins = ((2, 3), (2, 3))
        await gather(
            self._scheduler.execute_successfully(host, Repin(vm_name=vm, vcpu_map=pins))
            for vm, host in vms
        )
        for vm, _ in vms:
            found = self._cluster.simulated.domain(vm).vcpu_map
            same = found is not None and [list(row) for row in found] == [list(row) for row in pins]
            expect(same, f"{vm} is to run on the CPUs 2 and 3, not by {found}")

    async def _suspend(self) -> None:
        vms = [(self._scheduler.pick(host), host) for host in self._hosts[: self._parallel]]
        await gather(
            self._scheduler.execute_successfully(host, Suspend(vm_name=vm)) for vm, host in vms
        )
        await self._check_locations({}, paused={vm for vm, _ in vms})

    async def _resume(self) -> None:
        paused = [vm for vm, state in self._scheduler.states.items() if state == "paused"]
        where = self._scheduler.locations
        await gather(
            self._scheduler.execute_successfully(where[vm], Resume(vm_name=vm)) for vm in paused
        )
        await self._check_locations({})

    async def _evacuate(self) -> None:
        """Evacuate hosts while other VMs migrate.

        The mode is `scatter`, because `auto` depends on the progress of the other migrations.
        """
        others = [host for host in self._hosts if host not in self._evacuated]
        end = self._hosts[-1]
        load = [(self._scheduler.pick(a), a) for a in others[: self._parallel] if a != end]
        leaving = [vm for vm, host in self._scheduler.locations.items() if host in self._evacuated]
        parameter = EvacuateParameter(mode="scatter", migration_type="live", auto_converge=True)
        task = Evacuate(destinations=others, parameter=parameter, time_measurement=True)
        await gather(
            [self._scheduler.execute_successfully(host, task) for host in self._evacuated]
            + [self._scheduler.execute_successfully(a, live_migration(vm, end)) for vm, a in load]
        )
        await self._check_locations({vm: end for vm, _ in load}, moved=leaving)
        left = set(self._scheduler.locations.values()) & set(self._evacuated)
        expect(not left, f"{join_names(sorted(left))} should be empty")
        self._view.say(f"{join_names(self._evacuated)}: no VM left")

    async def _cancel(self) -> None:
        sources = self._hosts[-self._parallel :]
        moves = [
            (self._scheduler.pick(source), source, to)
            for source, to in zip(sources, self._evacuated, strict=True)
        ]
        await gather(self._cancel_one(*move) for move in moves)
        await self._check_locations({})

    async def _cancel_one(self, vm: str, source: str, destination: str) -> None:
        handle = await self._start_endless_migration(vm, source, destination)
        self._view.say(f"{vm} writes faster than it can be copied; its migration is cancelled")
        cancelled = await (await handle.cancel())
        expect(cancelled.status == "success", f"cancelling failed: {cancelled.details}")
        (result,) = (await handle).results
        expect(
            result.status == "error" and "cancelled" in (result.details or ""),
            f"the migration of {vm} should be cancelled, not {result.status}: {result.details}",
        )

    async def _kill(self) -> None:
        """Kill daemons during a migration; then send a new task, and an old task again."""
        moves = [
            (self._scheduler.pick(host), self._scheduler.pick(host), host, to)
            for host, to in zip(self._killed_hosts, self._evacuated, strict=False)
        ]
        await gather(self._kill_one(*move) for move in moves)
        await self._check_locations(
            {moved: to for moved, _, _, to in moves}, paused={paused for _, paused, _, _ in moves}
        )

    async def _kill_one(self, moving: str, other: str, host: str, destination: str) -> None:
        migration = await self._start_endless_migration(moving, host, destination)
        self._view.say(f"the daemon of {host} is killed while {moving} migrates")
        await self._cluster.kill_daemon(host)
        await self._presence("offline", [host])
        waiting = await self._scheduler.send(host, Suspend(vm_name=other))
        self._view.say(f"the daemon of {host} restarts with its journal")
        await self._cluster.start_daemon(host)
        await self._presence("online", [host])
        (lost,) = (await migration).results
        expect(
            lost.status == "error" and "the daemon ended" in (lost.details or ""),
            f"the migration of {moving} ended with the daemon, not with {lost.details}",
        )
        (late,) = (await waiting).results
        expect(late.status == "success", f"the task that waited failed: {late.details}")
        if host in self._first_containers:
            again = await (await self._scheduler.client.submit(host, self._first_containers[host]))
            expect(
                msgspec.structs.replace(again, executed=None) == self._first_answers[host],
                f"{host} answered {again.id} differently when it was sent again",
            )
            self._view.say(f"{host} answers {again.id} from its journal with the same results")
        await self._scheduler.execute_successfully(host, live_migration(moving, destination))

    async def _stop(self) -> None:
        vms_by_host: dict[str, list[str]] = {}
        for vm, host in self._scheduler.locations.items():
            vms_by_host.setdefault(host, []).append(vm)
        self._invariants.running.clear()
        await gather(
            self._scheduler.execute_successfully(host, *(Stop(vm_name=vm) for vm in vms))
            for host, vms in vms_by_host.items()
        )
        await self._scheduler.locate_vms()
        left = sorted(self._scheduler.locations)
        expect(not left, f"all VMs must be stopped, but these run: {join_names(left)}")

    async def _quit(self) -> None:
        await gather(self._scheduler.execute_successfully(host, Quit()) for host in self._hosts)
        await self._presence("offline", self._hosts)
        await gather(daemon.ended.wait() for daemon in self._cluster.daemons.values())

    # --- what they share

    def _host_pairs(self, distance: int) -> list[tuple[str, str]]:
        """Return pairs of hosts with that distance in the list."""
        hosts = self._hosts
        return [(hosts[i], hosts[(i + distance) % len(hosts)]) for i in range(self._parallel)]

    async def _start_endless_migration(
        self, vm: str, source: str, destination: str
    ) -> AsyncHandle[ResultContainer]:
        """Start a migration that never converges, and wait until it is half-way."""
        half_way = asyncio.Event()

        def check(progress: Progress) -> None:
            if (progress.percent or 0.0) >= HALF_WAY_PERCENT:
                half_way.set()

        handle = await self._scheduler.send(
            source,
            live_migration(vm, destination, auto_converge=False, bandwidth_limit=SLOW_BANDWIDTH),
        )
        await handle.on_progress(check)
        handle.add_done_callback(lambda _: half_way.set())
        try:
            async with asyncio.timeout(self._settings.timeout):
                await half_way.wait()
        except TimeoutError:
            expect(False, f"the migration of {vm} does not come half-way")
        expect(not handle.done(), f"the migration of {vm} ended before it was half-way")
        return handle

    async def _presence(self, status: str, hosts: list[str]) -> None:
        def reached() -> bool:
            presence = self._observer.presence
            return all(host in presence and presence[host].status == status for host in hosts)

        await self._until(reached, f"{join_names(hosts)} to be {status}")

    async def _until(self, condition: Callable[[], bool], description: str) -> None:
        await self._observer.wait_until(condition, description, self._settings.timeout)

    async def _check_locations(
        self,
        expected: dict[str, str],
        *,
        moved: list[str] | None = None,
        paused: set[str] | None = None,
    ) -> None:
        """Check that every VM is on one host: the `expected` one, any if `moved`, else the same."""
        before = self._scheduler.locations
        await self._scheduler.locate_vms()
        where, states = self._scheduler.locations, self._scheduler.states
        missing = set(self._vms) - set(where)
        expect(not missing, f"{join_names(sorted(missing))} should be on a host, and are on none")
        for vm, host in where.items():
            wanted = expected.get(vm) or (None if vm in (moved or ()) else before.get(vm))
            expect(wanted in (None, host), f"{vm} should be on {wanted}, and is on {host}")
            state = "paused" if vm in (paused or ()) else "running"
            expect(states[vm] == state, f"{vm} should be {state}, and is {states[vm]}")
        self._view.say(f"query: each of {plural(len(where), 'VM')} is on exactly one host")


def _some(number: int, one: str, more: str) -> str:
    return f"a {one}" if number == 1 else f"{number:,} {more}"
