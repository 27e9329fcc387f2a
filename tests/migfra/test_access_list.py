"""docs/mosquitto.acl: a scheduler, a daemon and a watcher may do only their own part."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fastlib.message.topics import PRESENCE, PROGRESS, PSCOM_REQUEST, PSCOM_RESPONSE, RESULT, TASK
from fastlib.transport import Communicator, MqttOptions, RefusedError, WaitTimeoutError, connect
from tests.support.mosquitto import Mosquitto

PATIENCE = 20
ACL = Path(__file__).parents[2] / "docs" / "mosquitto.acl"
USERS = ("scheduler", "node01", "node02", "watcher", "auditor")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    directory = tmp_path_factory.mktemp("security")
    acl = directory / "fast.acl"
    acl.write_text(ACL.read_text())
    acl.chmod(0o600)
    settings = (f"acl_file {acl}",)
    passwords = {user: f"of {user}" for user in USERS}
    with Mosquitto(directory / "broker", passwords=passwords, settings=settings) as broker:
        yield broker


def enter(broker: Mosquitto, user: str) -> Communicator:
    return connect(
        MqttOptions(
            host="127.0.0.1",
            port=broker.port,
            username=user,
            password=f"of {user}",
            protocol="5",  # whose broker says when it refuses something
        )
    )


SPOKEN = [
    (user, topic, user in may)
    for topic, may in [
        (TASK("node01"), {"scheduler"}),
        (RESULT("node01"), {"node01"}),
        (PROGRESS("node01"), {"node01"}),
        (PRESENCE("node01"), {"node01"}),
        (RESULT("node02"), {"node02"}),
        (PSCOM_REQUEST("vm1"), {"node01", "node02"}),
        (PSCOM_RESPONSE("vm1", "1"), set()),
        ("fast/other", set()),
    ]
    for user in USERS
]


@pytest.mark.parametrize(("user", "topic", "allowed"), SPOKEN)
def test_access_list_limits_publishing(broker: Mosquitto, user: str, topic: str, allowed: bool):
    with enter(broker, user) as communicator:
        delivery = communicator.send(b"x", topic)
        if allowed:
            delivery.wait(PATIENCE)
        else:
            with pytest.raises(RefusedError, match="not authorized"):
                delivery.wait(PATIENCE)


HEARD = [
    (user, topic, speaker, user in may)
    for topic, speaker, may in [
        (TASK("node01"), "scheduler", {"node01", "auditor"}),
        (TASK("node02"), "scheduler", {"node02", "auditor"}),
        (RESULT("node01"), "node01", {"scheduler", "watcher", "auditor"}),
        (PROGRESS("node01"), "node01", {"scheduler", "watcher", "auditor"}),
        (PRESENCE("node01"), "node01", {"scheduler", "node01", "watcher", "auditor"}),
    ]
    for user in USERS
]


@pytest.mark.parametrize(("user", "topic", "speaker", "allowed"), HEARD)
def test_access_list_limits_subscribing(
    broker: Mosquitto, user: str, topic: str, speaker: str, allowed: bool
):
    """Whoever may not hear a message is not sent it, even if its subscription is granted."""
    with enter(broker, user) as listener, enter(broker, speaker) as voice:
        try:
            listener.subscribe(topic, timeout=PATIENCE)
        except RefusedError:
            assert not allowed
            return
        voice.send(b"heard", topic).wait(PATIENCE)
        if allowed:
            assert listener.receive(topic, PATIENCE).payload == b"heard"
        else:
            # The broker has passed the message on, and what it answers now comes after it.
            with suppress(RefusedError):
                listener.subscribe("fast/migfra/fence/status", timeout=PATIENCE)
            with pytest.raises(WaitTimeoutError):
                listener.receive(topic, 0)
