"""The programs of the simulated cluster, and the verdicts of its invariants."""

from collections.abc import Iterator

import pytest

from fastlib.message import topics
from fastlib.migfra import HostTakenError
from tests.support.schedules.cluster import Cluster
from tests.support.schedules.faults import FAULTS
from tests.support.schedules.short_schedules import repeat_a_request, take_over_while_cut_off
from tests.support.schedules.simulated_time import simulated_time
from tests.support.schedules.steps import finish


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with simulated_time():
        cluster = Cluster()
        try:
            yield cluster
        finally:
            cluster.close()


def begun_at(cluster: Cluster, title: str, domain: str) -> list[str]:
    """The hosts and daemons that began an order."""
    return [begin.process.name for begin in cluster.domains.begins((title, domain))]


def take_over(cluster: Cluster, seconds: float = 20.0) -> None:
    """Let a second daemon take the host of a crashed one over, work for some seconds and vanish."""
    cluster.hosts[0].crash()
    cluster.advance(1.0)
    cluster.start_second(cluster.hosts[0], seconds)
    cluster.advance(10.0)


# The sender without keys.


def test_sender_sends_start_and_stop_of_one_domain_in_turn(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.send_without_key(cluster.hosts[0])
    cluster.advance(1.0)
    assert len(begun_at(cluster, "start vm", "cpp0")) == 2
    assert len(begun_at(cluster, "stop vm", "cpp0")) == 1
    assert finish(cluster) == []
    cluster.send_without_key(cluster.hosts[0])
    cluster.advance(1.0)
    assert len(begun_at(cluster, "start vm", "cpp1")) == 1


def test_sender_tries_until_it_has_a_connection(cluster: Cluster) -> None:
    cluster.network.blocked.add("sender")
    cluster.send_without_key(cluster.hosts[0])
    cluster.advance(100.0)  # longer than connecting takes at most
    assert not cluster.sender.quiet
    cluster.network.blocked.clear()
    cluster.advance(100.0)
    assert cluster.sender.quiet
    assert begun_at(cluster, "start vm", "cpp0") == ["n0"]
    assert finish(cluster) == []


def test_schedule_ends_once_the_broker_has_confirmed_the_orders_of_the_sender(
    cluster: Cluster,
) -> None:
    cluster.send_without_key(cluster.hosts[0])
    cluster.advance(1.0)
    cluster.network.cut("sender", silent=True)
    cluster.send_without_key(cluster.hosts[0])
    cluster.advance(1.0)
    assert not cluster.sender.quiet
    cluster.settle()
    assert begun_at(cluster, "stop vm", "cpp0") == ["n0"]
    assert finish(cluster) == []


# The end of a schedule.


def test_schedule_ends_when_no_order_is_in_flight(cluster: Cluster) -> None:
    """The client has given up, but its order is sent again once the keep-alive is over."""
    cluster.set_clock("s0", 3600.0)
    cluster.network.cut("s0", silent=True)
    cluster.submit(0, cluster.hosts[0], "start", 2.0)
    cluster.advance(20.0)
    assert all(sent.over for sent in cluster.record.sent)
    assert cluster.network.senders == ["s0"]
    assert begun_at(cluster, "start vm", "vm1") == []
    cluster.settle()
    assert cluster.network.senders == []
    assert begun_at(cluster, "start vm", "vm1") == ["n0"]
    assert finish(cluster) == []


@pytest.mark.parametrize("broker_is_down", [False, True])
def test_daemon_that_has_ended_is_shown_as_online_only_if_the_broker_was_down(
    cluster: Cluster, broker_is_down: bool
) -> None:
    host = cluster.hosts[0]
    if broker_is_down:
        cluster.restart_broker(200.0, keeps_sessions=True)
    host.stop()
    cluster.advance(300.0)
    assert host.is_shown == broker_is_down
    assert finish(cluster) == []


@pytest.mark.parametrize("began", [False, True])
def test_order_that_begins_in_a_later_schedule_is_a_violation(
    cluster: Cluster, began: bool
) -> None:
    order = ("start vm", "vm1")
    cluster.domains.begin_again({order})
    assert finish(cluster) == []
    if began:
        cluster.submit(0, cluster.hosts[0], "start", 60.0)
        cluster.advance(1.0)
    assert finish(cluster) == ([f"{order} of an earlier schedule began"] if began else [])


@pytest.mark.parametrize("noted", [True, False])
def test_clock_that_is_set_back_gives_time_only_to_an_order_that_no_journal_has(
    cluster: Cluster, noted: bool
) -> None:
    """A full disk keeps the daemon from noting when the order came, also beyond a crash."""
    host = cluster.hosts[0]
    host.process.disk_is_full = not noted
    cluster.domains.work_seconds = 2.0
    cluster.submit(0, host, "start", 60.0, others_wait=True)
    cluster.submit(0, host, "stop", 8.0)  # waits for the end of the other
    cluster.advance(1.0)
    host.crash()
    cluster.advance(40.0)
    cluster.set_clock("n0", -3600.0)
    host.process.disk_is_full = False
    host.restart()
    cluster.advance(10.0)
    assert begun_at(cluster, "stop vm", "vm2") == ([] if noted else ["n0"])
    assert finish(cluster) == []


# A second daemon.


def test_second_daemon_is_refused_while_the_first_one_works(cluster: Cluster) -> None:
    cluster.start_second(cluster.hosts[0], 20.0)
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(30.0)
    assert cluster.record.taken_over == set()
    assert begun_at(cluster, "start vm", "vm1") == ["n0"]
    assert finish(cluster) == []
    assert cluster.record.shared == set()


def test_orders_that_come_while_a_second_daemon_works_are_executed_by_both(
    cluster: Cluster,
) -> None:
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(1.0)
    take_over(cluster)
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(20.0)
    cluster.hosts[0].restart()
    cluster.advance(10.0)
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(1.0)
    assert cluster.record.taken_over == {"n0"}
    assert cluster.record.shared == {("start vm", "vm2")}
    assert begun_at(cluster, "start vm", "vm1") == ["n0"]
    second, first = begun_at(cluster, "start vm", "vm2")
    assert second.startswith("second-n0-")
    assert first == "n0"
    assert begun_at(cluster, "start vm", "vm3") == ["n0"]
    assert finish(cluster) == []


def test_order_that_waits_while_a_second_daemon_works_may_be_of_both(cluster: Cluster) -> None:
    cluster.domains.work_seconds = 5.0
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(1.0)
    take_over(cluster, seconds=0.0)
    assert cluster.record.shared == {("start vm", "vm1")}
    assert finish(cluster) == []


def test_first_daemon_that_was_cut_off_may_end_only_after_a_takeover(cluster: Cluster) -> None:
    take_over_while_cut_off(cluster)
    host = cluster.hosts[0]
    assert [type(error) for error in host.failures] == [HostTakenError]
    assert finish(cluster) == []
    host.failures.append(HostTakenError("no other daemon is there"))
    assert finish(cluster) != []


def test_order_of_a_second_daemon_that_has_vanished_needs_no_answer(cluster: Cluster) -> None:
    cluster.domains.work_seconds = 2.0
    take_over(cluster, seconds=20.0)
    cluster.submit(0, cluster.hosts[0], "start", 5.0)
    cluster.advance(1.0)
    cluster.restart_broker(60.0, keeps_sessions=False)  # it forgets what it keeps for the first
    cluster.advance(60.0)
    assert len(begun_at(cluster, "start vm", "vm1")) == 1
    cluster.settle()
    assert cluster.record.answers["n0"] == []
    assert finish(cluster) == []


@pytest.mark.parametrize("reconnects", [False, True])
def test_daemon_whose_subscription_was_refused_asks_for_it_again_after_a_reconnect(
    cluster: Cluster, reconnects: bool
) -> None:
    host = cluster.hosts[0]
    cluster.network.broker.refused.add(topics.PRESENCE(host.name))
    host.crash()
    host.restart()
    cluster.advance(20.0)
    assert host.works
    cluster.network.broker.refused.clear()
    if reconnects:
        cluster.network.cut(host.client_id)
        cluster.advance(20.0)
    cluster.start_second(host, 20.0)
    cluster.advance(30.0)
    assert cluster.record.beside == ([] if reconnects else [host.name])
    assert host.works


@pytest.mark.parametrize("before", [False, True])
def test_invariants_hold_for_orders_before_and_after_a_takeover(
    cluster: Cluster, before: bool
) -> None:
    with FAULTS["keys_are_ignored"].plant():
        if before:
            repeat_a_request(cluster)
        take_over(cluster, seconds=0.0)
        cluster.hosts[0].restart()
        cluster.advance(10.0)
        assert cluster.record.taken_over == {"n0"}
        if not before:
            repeat_a_request(cluster)
        (violation,) = [text for text in finish(cluster) if "began" in text]
    assert "began 2 times" in violation
