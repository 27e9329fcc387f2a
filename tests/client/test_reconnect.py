"""Tests of the client when connections and brokers fail."""

from pathlib import Path
from typing import Any

import pytest

from fastlib import ResultContainer, TaskContainer
from fastlib.client import MigfraClient
from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions, connect
from tests.support.client.factory import PATIENCE, Daemon, success
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until


class IdempotentDaemon:
    """Executes an id once and answers it each time, like the fastlib daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.executed: dict[str, int] = {}
        self._results: dict[str, ResultContainer] = {}
        daemon.answers(self._answer)

    def _answer(self, container: TaskContainer) -> ResultContainer:
        assert container.id is not None
        if container.id not in self._results:
            self.executed[container.id] = self.executed.get(container.id, 0) + 1
            self._results[container.id] = success(container)
        return self._results[container.id]


def test_missed_result_is_requested_again():
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker, client_id="scheduler")) as client,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        daemon = Daemon("hostA", peer)
        watch = client.watch(presence=True)
        daemon.presence("online")
        next(watch)
        handle = client.suspend("hostA", "vm1")
        (container,) = daemon.wait()
        broker.cut("scheduler")
        memory = IdempotentDaemon(daemon)
        daemon.send(memory._answer(container))  # nobody is there to hear it
        broker.mend("scheduler")
        assert handle.result(PATIENCE).status == "success"
        assert memory.executed == {handle.id: 1}
        assert len(daemon.received) == 2


def test_task_is_repeated_when_daemon_appears():
    broker = MemoryBroker()
    with MigfraClient.connect(MemoryOptions(broker=broker)) as client:
        handle = client.suspend("hostA", "vm1")  # nobody is there, the broker drops it
        with connect(MemoryOptions(broker=broker)) as peer:
            daemon = Daemon("hostA", peer)
            IdempotentDaemon(daemon)
            daemon.presence("online")
            assert handle.result(PATIENCE).status == "success"


def test_task_to_peer_without_presence_is_never_repeated():
    broker = MemoryBroker()
    with (
        MigfraClient.connect(
            MemoryOptions(broker=broker, client_id="scheduler", persistent=True)
        ) as client,
        connect(MemoryOptions(broker=broker)) as peer,
        connect(MemoryOptions(broker=broker)) as other,
    ):
        daemon = Daemon("hostA", peer)
        Daemon("hostB", other).presence("online")
        handle = client.suspend("hostA", "vm1")
        (container,) = daemon.wait()
        broker.cut("scheduler")
        daemon.send(success(container))
        broker.mend("scheduler")
        assert handle.result(PATIENCE).status == "success"  # the session has kept it
        assert len(daemon.received) == 1


def test_task_sent_before_the_daemon_is_back_at_a_restarted_broker_is_repeated():
    """The new broker has no retained presence, and drops the task."""
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker, client_id="scheduler")) as client,
        connect(MemoryOptions(broker=broker, client_id="hostA")) as peer,
    ):
        daemon = Daemon("hostA", peer)
        memory = IdempotentDaemon(daemon)
        watch = client.watch(presence=True)
        daemon.presence("online", retain=False)
        next(watch)
        for name in "hostA", "scheduler":
            broker.cut(name)
        broker.mend("scheduler")
        wait_until(lambda: client._core.presences._connection == 1, "the client knows that")
        handle = client.suspend("hostA", "vm1")
        wait_until(lambda: handle._request.delivered, "the broker has the task")
        broker.mend("hostA")
        daemon.presence("online", retain=False)
        assert handle.result(PATIENCE).status == "success"
        assert memory.executed == {handle.id: 1}


def received_by(
    *presences: dict[str, Any], before: dict[str, Any] | None = None
) -> tuple[list[str], list[str]]:
    """Send two orders, then show presences. Return the ids sent, and those that the host got."""
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker)) as client,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        daemon = Daemon("hostA", peer)
        watch = client.watch(presence=True)
        if before is not None:
            daemon.presence(**before)
            next(watch)
        sent = [client.suspend("hostA", f"vm{n}").id for n in range(2)]
        daemon.wait(2)
        for presence in [*presences, presences[-1]]:
            daemon.presence(retain=False, **presence)
            next(watch)
        # The client has handled all but the copy of the last one, so it has sent all repetitions.
        last = client.suspend("hostA", "vm9").id
        wait_until(lambda: daemon.received[-1].id == last, "the last order")
        return sent, [str(one.id) for one in daemon.received[:-1]]


BARE: dict[str, Any] = {"status": "online", "started": None}
OFFLINE: dict[str, Any] = {"status": "offline"}
FIRST: dict[str, Any] = {"status": "online", "started": 1.0}
SECOND: dict[str, Any] = {"status": "online", "started": 2.0}


@pytest.mark.parametrize("presences", [[BARE] * 10, [OFFLINE, BARE] * 5])
def test_presence_of_a_peer_without_a_run_repeats_nothing(presences: list[dict[str, Any]]):
    """A C++ peer executes each copy, and another program may have published its presence."""
    sent, received = received_by(*presences)
    assert received == sent


@pytest.mark.parametrize(
    ("before", "presences", "copies"),
    [
        (None, [FIRST] * 10, 2),  # nobody was there before
        (None, [FIRST, OFFLINE] * 5, 2),
        (FIRST, [OFFLINE, FIRST] * 5, 1),  # it was sent to this run
        (OFFLINE, [FIRST, OFFLINE] * 5, 2),  # the broker may keep nothing for it
        (FIRST, [SECOND, FIRST] * 5, 2),
    ],
)
def test_request_is_repeated_once_for_each_run(
    before: dict[str, Any] | None, presences: list[dict[str, Any]], copies: int
):
    sent, received = received_by(*presences, before=before)
    assert received == sent * copies


def options(broker: Mosquitto, client_id: str) -> MqttOptions:
    return MqttOptions(
        host="127.0.0.1",
        port=broker.port,
        client_id=client_id,
        persistent=True,
        retry_min=0.05,
        retry_max=0.2,
    )


def test_tasks_survive_broker_restart(tmp_path: Path):
    with (
        Mosquitto(tmp_path / "broker", persistence=True) as broker,
        MigfraClient.connect(options(broker, "scheduler")) as client,
        connect(options(broker, "hostA")) as peer,
    ):
        daemon = Daemon("hostA", peer)
        handles = [client.suspend("hostA", f"vm{n}") for n in range(80)]
        daemon.wait(1)
        broker.stop()
        handles += [client.suspend("hostA", f"vm{n}") for n in range(80, 160)]
        broker.start()
        seen = {container.id: container for container in daemon.wait(160)}
        assert seen.keys() == {handle.id for handle in handles}
        for container in seen.values():
            daemon.send(success(container))
        for n, handle in enumerate(handles):
            assert handle.result(PATIENCE).vm_name == f"vm{n}"


def test_tasks_survive_killed_broker_without_persistence(tmp_path: Path):
    with (
        Mosquitto(tmp_path / "broker") as broker,
        MigfraClient.connect(options(broker, "scheduler")) as client,
        connect(options(broker, "hostA")) as peer,
    ):
        daemon = Daemon("hostA", peer)
        memory = IdempotentDaemon(daemon)
        daemon.presence("online")
        handles = [client.suspend("hostA", f"vm{n}") for n in range(150)]
        daemon.wait(10)
        broker.kill()
        broker.start()
        peer.send(b"", "anything").wait(PATIENCE)  # the daemon is back, and says so
        daemon.presence("online")
        for handle in handles:
            assert handle.result(PATIENCE).status == "success"
        assert set(memory.executed.values()) == {1}
