"""A cluster in a file that several processes share. Some are killed at any moment."""

import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastlib.migfra.hypervisors.simulated import Cluster
from tests.support.migfra import simulated_process
from tests.support.migfra.simulation import GIB, cluster_of
from tests.support.waiting import wait_until

PROGRAM = Path(simulated_process.__file__)
PATIENCE = 60
"""Seconds that a slow machine may need."""


def begin(stack, file, host, speed):
    process = subprocess.Popen(
        [sys.executable, PROGRAM, file, host, str(speed)], stdout=subprocess.PIPE, text=True
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    stack.callback(process.stdout.close)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def cluster(tmp_path):
    domains = [(f"vm{i}", "abc"[i % 3], {"memory": GIB, "dirty_rate": 100}) for i in range(9)]
    description = cluster_of(*domains, ("common", "a", {"state": "shut off"}))
    with Cluster(description, tmp_path / "cluster") as cluster:
        yield cluster


def wait_for(cluster, condition):
    """Return the domains when they have the expected state."""

    def look():
        domains = cluster.domains()
        assert cluster.problems() == []
        return domains if condition(domains) else None

    return wait_until(look, lambda: str(cluster.domains()), PATIENCE)


def test_migration_of_killed_process_leaves_domain_on_source(cluster):
    with ExitStack() as stack:
        process = begin(stack, cluster.where, "a", 0.001)
        mine = [domain.name for domain in cluster.domains("a") if domain.active]
        wait_for(cluster, lambda _: all(cluster.domain(name).migrating for name in mine))
        assert cluster.host("b").used + cluster.host("c").used == 9 * GIB
        process.kill()  # nobody waits for it yet: it is a zombie
        domains = wait_for(cluster, lambda domains: not any(d.migrating for d in domains))
        states = {domain.name: (domain.host, domain.state) for domain in domains}
        assert [states[name] for name in mine] == [("a", "running")] * 3
        assert cluster.host("b").used + cluster.host("c").used == 6 * GIB


def test_live_processes_keep_their_migrations(cluster):
    with ExitStack() as stack:
        for host in "ab":
            begin(stack, cluster.where, host, 0.001)
        wait_for(cluster, lambda domains: sum(d.migrating for d in domains) == 6)


@pytest.mark.load
def test_domain_is_on_one_host_when_processes_are_killed(cluster, pytestconfig):
    """The long run kills twelve processes, at other moments each time."""
    long = pytestconfig.getoption("--long")
    chance = random.Random(None if long else 1)
    with ExitStack() as stack:
        processes = {host: begin(stack, cluster.where, host, 2000) for host in "abc"}
        before = [domain.name for domain in cluster.domains()]
        for _ in range(12 if long else 3):
            host = chance.choice("abc")
            for _ in range(chance.randrange(60)):
                assert cluster.problems() == []
            processes[host].kill()
            assert [domain.name for domain in cluster.domains()] == before
            processes[host] = begin(stack, cluster.where, host, 2000)
        moved = {domain.name: domain.host for domain in cluster.domains()}
        wait_for(cluster, lambda now: any(d.host != moved[d.name] for d in now))
        for process in processes.values():
            process.kill()
        domains = wait_for(cluster, lambda domains: not any(d.migrating for d in domains))
        assert [domain.name for domain in domains] == before
        assert {domain.state for domain in domains if domain.name != "common"} == {"running"}
