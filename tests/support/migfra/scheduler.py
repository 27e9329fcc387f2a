"""A scheduler of node01 at a real broker: it sends tasks, and waits for results and presence."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastlib import ResultContainer, Task, TaskContainer
from fastlib.message import topics
from fastlib.message.node import Presence
from fastlib.transport import Communicator, MqttOptions, connect
from tests.support.mosquitto import PATIENCE, Mosquitto


@contextmanager
def scheduler_at(broker: Mosquitto) -> Iterator[Communicator]:
    """A scheduler that hears everything of node01, from now on."""
    with connect(MqttOptions(host="127.0.0.1", port=broker.port)) as scheduler:
        # What an earlier test has left is not of this one.
        scheduler.send(b"", topics.PRESENCE("node01"), retain=True).wait(PATIENCE)
        for topic in (topics.RESULT, topics.PROGRESS, topics.PRESENCE):
            scheduler.subscribe(topic("node01"))
        yield scheduler


def forget(broker: Mosquitto) -> None:
    """Let the broker forget the session of an earlier test's daemon."""
    with connect(MqttOptions(host="127.0.0.1", port=broker.port, client_id="fast-migfra-node01")):
        pass


def ask(scheduler: Communicator, task: Task | TaskContainer, id: str | None = None) -> None:
    container = task if isinstance(task, TaskContainer) else TaskContainer(tasks=[task], id=id)
    scheduler.send(container.to_yaml().encode(), topics.TASK("node01")).wait(PATIENCE)


def result(scheduler: Communicator) -> ResultContainer:
    message = scheduler.receive(topics.RESULT("node01"), timeout=PATIENCE)
    return ResultContainer.from_yaml(message.payload)


def presence(scheduler: Communicator) -> Presence | None:
    """Return the next presence, without claims of its host; None if there is none."""
    message = scheduler.receive(topics.PRESENCE("node01"), timeout=PATIENCE)
    if not message.payload:
        return None
    shown = Presence.from_yaml(message.payload)
    return presence(scheduler) if shown.is_claim else shown


def until_presence(scheduler: Communicator, status: str) -> Presence:
    """The next presence with a status."""
    while (shown := presence(scheduler)) is None or shown.status != status:
        pass
    return shown
