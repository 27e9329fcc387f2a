"""Short schedules, each of which shows one fault.

Each works with the host n0. `Cluster.settle` ends them: it repairs and restarts everything.
"""

from collections.abc import Callable

from .cluster import Cluster


def crash(moment: str, count: int, down: float = 1.0) -> Callable[[Cluster], None]:
    """Crash at a moment while an order without a key comes."""

    def schedule(cluster: Cluster) -> None:
        cluster.hosts[0].process.write_seconds = 0.01  # what was sent before arrives
        cluster.hosts[0].crash_at(moment, count, down)
        cluster.send_without_key(cluster.hosts[0])
        cluster.advance(down + 1.0)

    return schedule


def crash_at_work(cluster: Cluster) -> None:
    """Crash while an order without a key is executed."""
    cluster.domains.work_seconds = 1.0
    cluster.send_without_key(cluster.hosts[0])
    cluster.advance(0.5)
    cluster.hosts[0].crash()
    cluster.advance(1.0)


def crash_before_a_failure_is_written(cluster: Cluster) -> None:
    """Crash after an order has failed, before that is in the journal."""
    host = cluster.hosts[0]
    host.process.write_seconds = 0.2
    host.crash_at("before write", 2, 1.0)
    cluster.submit(0, host, "start", 60.0, failures=1)
    cluster.advance(2.0)


def crash_without_a_network(cluster: Cluster) -> None:
    """Lose the network while an order is executed, and crash before its answer is sent."""
    host = cluster.hosts[0]
    cluster.domains.work_seconds = 1.0
    cluster.send_without_key(host)
    cluster.advance(0.5)
    cluster.network.blocked.add(host.client_id)
    cluster.network.cut(host.client_id)
    cluster.advance(2.0)
    host.crash()
    cluster.advance(1.0)


def send_to_a_daemon_that_is_away(cluster: Cluster) -> None:
    """Send an order while the daemon is down."""
    cluster.hosts[0].crash()
    cluster.advance(1.0)
    cluster.send_without_key(cluster.hosts[0])
    cluster.advance(1.0)


def expire_while_the_daemon_is_away(cluster: Cluster) -> None:
    """Start the daemon after an order has expired."""
    cluster.hosts[0].crash()
    cluster.submit(0, cluster.hosts[0], "start", 2.0)
    cluster.advance(10.0)


def expire_while_the_journal_is_slow(cluster: Cluster) -> None:
    """Let an order expire while it is noted in the journal that it begins."""
    cluster.hosts[0].process.write_seconds = 0.4
    cluster.submit(0, cluster.hosts[0], "start", 0.3)
    cluster.advance(10.0)


def repeat_a_request(cluster: Cluster) -> None:
    """Cut the connection of a scheduler that waits: it repeats its request."""
    cluster.domains.work_seconds = 20.0
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(10.0)
    cluster.network.cut("s0")
    cluster.advance(30.0)


def start_and_stop_in_turn(cluster: Cluster) -> None:
    """Send orders with one id and no key."""
    for _ in range(4):
        cluster.send_without_key(cluster.hosts[0])
        cluster.advance(1.0)


def lose_the_daemon_at_work(cluster: Cluster) -> None:
    """Crash the daemon while it executes an order, until the client waits no longer."""
    cluster.domains.work_seconds = 1.0
    cluster.submit(0, cluster.hosts[0], "start", 4.0)
    cluster.advance(0.5)
    cluster.hosts[0].crash()
    cluster.advance(30.0)


def come_back_behind_a_dead_connection(cluster: Cluster) -> None:
    """Start the daemon while the connection of a waiting scheduler is dead without a notice."""
    host = cluster.hosts[0]
    host.crash()
    cluster.advance(1.0)
    cluster.submit(0, host, "start", 20.0)
    cluster.advance(1.0)
    cluster.network.cut("s0", silent=True)
    host.restart()
    cluster.advance(30.0)


def come_back_with_a_late_clock(cluster: Cluster) -> None:
    """Start a daemon whose clock is late just after an order has expired by a right clock."""
    host = cluster.hosts[0]
    host.process.clock_error = -0.5
    host.crash()
    cluster.advance(1.0)
    cluster.submit(0, host, "start", 2.0)
    cluster.advance(2.05)
    host.restart()
    cluster.advance(10.0)


def set_the_clock_back(cluster: Cluster) -> None:
    """Set the clock of a host back after an order has come, and before it begins."""
    host = cluster.hosts[0]
    cluster.domains.work_seconds = 2.0
    cluster.submit(0, host, "start", 60.0, others_wait=True)
    cluster.submit(0, host, "start", 5.0)  # waits for the end of the other
    cluster.advance(1.0)
    host.crash(down=30.0)
    cluster.advance(9.0)
    cluster.set_clock("n0", -3600.0)
    cluster.advance(60.0)


def fill_the_disk_and_crash(cluster: Cluster) -> None:
    """Let an order come while the disk is full, and crash then."""
    host = cluster.hosts[0]
    host.process.disk_is_full = True
    cluster.domains.work_seconds = 5.0
    cluster.send_without_key(host)
    cluster.advance(1.0)
    host.crash()
    cluster.advance(1.0)


def start_with_a_full_disk(cluster: Cluster) -> None:
    """Start the daemon while its disk is full, and orders wait for it at the broker."""
    host = cluster.hosts[0]
    host.crash()
    cluster.advance(1.0)
    cluster.send_without_key(host)
    cluster.advance(1.0)
    host.process.disk_is_full = True
    host.restart()
    cluster.advance(100.0)
    cluster.submit(0, host, "start", 60.0)  # messages are dropped when another one comes
    cluster.advance(1.0)


def fill_the_disk_for_a_while(cluster: Cluster) -> None:
    """Let an order come while the disk is full, and make room then."""
    host = cluster.hosts[0]
    host.process.disk_is_full = True
    cluster.send_without_key(host)
    cluster.advance(1.0)
    host.process.disk_is_full = False
    cluster.advance(30.0)


def cancel_an_order(cluster: Cluster) -> None:
    """Cancel an order that is executed."""
    cluster.domains.work_seconds = 5.0
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(1.0)
    cluster.cancel(0)
    cluster.advance(10.0)


def quit_and_wait(cluster: Cluster) -> None:
    """End the daemon by a message, and wait until all must have seen it."""
    cluster.quit(0, cluster.hosts[0])
    cluster.advance(200.0)


def crash_the_scheduler(cluster: Cluster) -> None:
    """Crash a scheduler while its order is executed. It asks again with the same ids."""
    cluster.domains.work_seconds = 5.0
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(1.0)
    cluster.crash_scheduler(0, 1.0)
    cluster.advance(20.0)


def crash_scheduler_and_daemon(cluster: Cluster) -> None:
    """Crash a scheduler and the daemon that executes its order. Only the scheduler starts again."""
    cluster.domains.work_seconds = 5.0
    cluster.submit(0, cluster.hosts[0], "start", 10.0)
    cluster.advance(1.0)
    cluster.hosts[0].crash()
    cluster.crash_scheduler(0, 3.0)
    cluster.advance(60.0)


def restart_the_broker_without_its_sessions(cluster: Cluster) -> None:
    """Let the broker forget its sessions, and send an order once all are connected again."""
    cluster.restart_broker(1.0, keeps_sessions=False)
    cluster.advance(20.0)
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(5.0)


def restart_the_broker_amid_an_order(cluster: Cluster) -> None:
    """Let the broker forget its sessions while orders travel to it."""
    cluster.network.largest_delay = 0.1
    for _ in range(5):
        cluster.send_without_key(cluster.hosts[0])
    cluster.advance(0.2)
    cluster.restart_broker(1.0, keeps_sessions=False)
    cluster.advance(20.0)


def start_a_second_daemon(cluster: Cluster) -> None:
    """Start another daemon of the same host name while the first works."""
    cluster.start_second(cluster.hosts[0])
    cluster.advance(20.0)


def take_over_while_cut_off(cluster: Cluster) -> None:
    """Make a second daemon take over the host of one that is cut off and connects again."""
    host = cluster.hosts[0]
    cluster.network.blocked.add(host.client_id)
    cluster.network.cut(host.client_id)
    cluster.advance(10.0)
    cluster.start_second(host, 60.0)
    cluster.advance(20.0)
    cluster.network.blocked.clear()
    cluster.advance(20.0)


def come_back_after_a_takeover(cluster: Cluster) -> None:
    """Send an order after the takeover of a host whose daemon was cut off."""
    take_over_while_cut_off(cluster)
    cluster.submit(0, cluster.hosts[0], "start", 60.0)
    cluster.advance(5.0)


def wait_at_the_broker(cluster: Cluster) -> None:
    """Let an order wait at the broker for a daemon that is away, with MQTT 5."""
    host = cluster.hosts[0]
    host.crash()
    cluster.advance(1.0)
    cluster.submit(0, host, "start", 60.0)
    cluster.advance(20.0)
    host.restart()
    cluster.advance(10.0)
