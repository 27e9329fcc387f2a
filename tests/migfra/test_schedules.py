"""Schedules under a virtual clock: an order acts once, in time, or not at all, and all know it.

Hypothesis draws what schedulers send, what the network and the disks do, and when daemons crash.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.support.schedules.cluster import Cluster, Host, Kind, simulated_time
from tests.support.schedules.faults import FAULTS
from tests.support.schedules.invariants import violations

SECONDS = st.sampled_from((0.0, 0.001, 0.003, 0.01, 0.05, 0.3, 1.0, 4.0, 10.0, 40.0, 200.0))
"""How long a schedule lets time pass between two steps."""

HOSTS = st.integers(0, 1)

ORDERS = st.lists(
    st.tuples(
        st.integers(0, 1),
        HOSTS,
        st.sampled_from(("start", "stop", "migrate")),
        st.sampled_from((0.5, 60.0, 2.0, 8.0, None)),
        st.sampled_from((0, 1, 2)),
    ),
    min_size=1,
    max_size=3,
)
"""Scheduler, host, kind, timeout, and how many attempts fail."""

MOMENTS = st.one_of(
    st.sampled_from(
        (
            *(("before write", count) for count in (1, 2, 3, 4)),
            *(("after write", count) for count in (1, 2, 3, 4)),
            ("before send", 1), ("before send", 2), ("after send", 1), ("after send", 2),
            ("before work", 1), ("after work", 1),
        )
    ),
    st.tuples(st.just("turn"), st.integers(1, 150)),
)  # fmt: skip
"""When a daemon crashes."""

CLIENTS = st.sampled_from(("n0", "n1", "s0", "s1", "sender"))


class Schedule(RuleBasedStateMachine):
    """One schedule. Every rule is a step; the end of the schedule checks the invariants."""

    cluster: Cluster

    @initialize(
        seed=st.integers(0, 2**16),
        hosts=st.integers(1, 2),
        clock_errors=st.lists(st.integers(-500, 500), min_size=4, max_size=4),
        at_release=st.booleans(),
        reuses=st.booleans(),
        sender_qos=st.integers(1, 2),
    )
    def begin(
        self,
        seed: int,
        hosts: int,
        clock_errors: list[int],
        at_release: bool,
        reuses: bool,
        sender_qos: int,
    ) -> None:
        self.cluster = Cluster(seed, hosts=hosts, clock_errors=[e / 1000 for e in clock_errors])
        self.cluster.network.broker.publishes_at_release = at_release
        self.cluster.network.broker.reuses_packet_ids = reuses
        # MQTT keeps the order of messages with one quality of service only.
        self.sender_qos = sender_qos

    def _host(self, number: int) -> Host:
        return self.cluster.hosts[number % len(self.cluster.hosts)]

    def _submit(self, orders: list[tuple[int, int, Kind, float | None, int]]) -> None:
        for scheduler, host, kind, timeout, failures in orders:
            failures = failures if kind == "migrate" else failures // 2
            self.cluster.submit(scheduler, self._host(host), kind, timeout, failures=failures)

    def _client_id(self, name: str) -> str:
        return self._host(int(name[1])).client_id if name in ("n0", "n1") else name

    @rule(orders=ORDERS, pause=SECONDS)
    def submit(self, orders: list[Any], pause: float) -> None:
        self._submit(orders)
        self.cluster.advance(pause)

    @rule(orders=ORDERS, host=HOSTS, moment=MOMENTS, down=SECONDS, pause=SECONDS)
    def submit_and_crash(
        self, orders: list[Any], host: int, moment: tuple[str, int], down: float, pause: float
    ) -> None:
        self.cluster.crash_at(self._host(host), *moment, down=down)
        self._submit(orders)
        self.cluster.advance(pause)

    @rule(orders=ORDERS, after=SECONDS, client=CLIENTS, silent=st.booleans(), pause=SECONDS)
    def submit_and_cut(
        self, orders: list[Any], after: float, client: str, silent: bool, pause: float
    ) -> None:
        self._submit(orders)
        self.cluster.advance(after)
        self.cluster.network.cut(self._client_id(client), silent=silent)
        self.cluster.advance(pause)

    @rule(
        count=st.integers(1, 2),
        moment=st.none() | MOMENTS,
        down=SECONDS,
        cut=st.booleans(),
        pause=SECONDS,
    )
    def send_without_key(
        self,
        count: int,
        moment: tuple[str, int] | None,
        down: float,
        cut: bool,
        pause: float,
    ) -> None:
        if moment is not None:
            self.cluster.crash_at(self._host(0), *moment, down=down)
        for _ in range(count):
            self.cluster.send_without_key(self._host(0), self.sender_qos)
        if cut:
            self.cluster.advance(0.003)
            self.cluster.network.cut("sender")
        self.cluster.advance(pause)

    @rule(host=HOSTS, ordered=st.booleans(), pause=SECONDS)
    def end(self, host: int, ordered: bool, pause: float) -> None:
        if ordered:
            self.cluster.stop(self._host(host))
        else:
            self.cluster.crash(self._host(host))
        self.cluster.advance(pause)

    @rule()
    def restart(self) -> None:
        for host in self.cluster.hosts:
            self.cluster.restart(host)
        self.cluster.network.blocked.clear()
        self.cluster.advance(0.05)

    @rule(
        client=CLIENTS,
        block=st.booleans(),
        delay=st.sampled_from((0.002, 0.1, 2.0)),
        write=st.sampled_from((0.0, 0.01, 0.2)),
        work=st.sampled_from((0.0, 0.02, 3.0)),
    )
    def disturb(self, client: str, block: bool, delay: float, write: float, work: float) -> None:
        client = self._client_id(client)
        self.cluster.network.blocked.clear()
        if block:
            self.cluster.network.blocked.add(client)
            self.cluster.network.cut(client)
        self.cluster.network.largest_delay = delay
        self.cluster.domains.work_seconds = work
        for host in self.cluster.hosts:
            host.process.write_seconds = write

    def teardown(self) -> None:
        if not hasattr(self, "cluster"):
            return
        try:
            self.cluster.settle()
            found = violations(self.cluster)
        finally:
            self.cluster.close()
        assert not found, "\n".join(found)


STEPS = 6
"""The largest number of steps in a schedule."""


SOON_FOUND = {"orders_never_expire", "accepted_orders_forgotten_at_the_start", "a_lost_fsync"}


class Search:
    """Runs schedules until one violates an invariant, and counts them."""

    def __init__(self, most: int, *phases: Phase) -> None:
        self.count = 0
        self.found: str | None = None
        search = self

        class Counted(Schedule):
            def teardown(self) -> None:
                if search.found is None:
                    search.count += 1
                try:
                    super().teardown()
                except AssertionError as error:
                    search.found = search.found or str(error)
                    raise

        self._machine = Counted
        self._settings = settings(
            max_examples=most,
            stateful_step_count=STEPS,
            deadline=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )

    def run(self) -> None:
        """Raise AssertionError for the first schedule that violates an invariant."""
        with simulated_time():
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                self._machine, settings=self._settings
            )


def test_orders_act_once_in_time_or_not_at_all(
    request: pytest.FixtureRequest, figures: Callable[[object], None]
) -> None:
    if request.config.getoption("--long"):
        search = Search(20_000, Phase.generate, Phase.shrink)
    else:
        search = Search(60, Phase.generate)
    began, cpu = time.monotonic(), time.process_time()
    search.run()
    cpu, seconds = time.process_time() - cpu, time.monotonic() - began
    figures(
        f"{search.count} schedules, {search.count / seconds * 60:.0f} a minute "
        f"({search.count / cpu * 60:.0f} in a minute of one CPU)"
    )


def run(schedule: Callable[[Cluster], None]) -> list[str]:
    """Run one schedule to its end, and return what it violates."""
    with simulated_time():
        cluster = Cluster(seed=1)
        try:
            schedule(cluster)
            cluster.settle()
            return violations(cluster)
        finally:
            cluster.close()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_shown_by_its_schedule_and_only_then(name: str) -> None:
    fault = FAULTS[name]
    assert run(fault.schedule) == []
    with fault.plant():
        assert run(fault.schedule) != []


@pytest.mark.load
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_drawn_schedules(
    request: pytest.FixtureRequest, figures: Callable[[object], None], name: str
) -> None:
    if not request.config.getoption("--long") and name not in SOON_FOUND:
        pytest.skip("only with --long: it needs hundreds of schedules")
    search = Search(5000 if request.config.getoption("--long") else 300, Phase.generate)
    with FAULTS[name].plant(), pytest.raises(AssertionError):
        search.run()
    assert search.found is not None, "an error that no schedule explains"
    figures(f"found by schedule {search.count}")
