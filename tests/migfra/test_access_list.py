"""docs/mosquitto.acl and docs/mosquitto.conf: each party may do only its own part at the broker."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastlib.message.topics import PRESENCE, PROGRESS, PSCOM_REQUEST, PSCOM_RESPONSE, RESULT, TASK
from fastlib.transport import (
    Communicator,
    MqttOptions,
    RefusedError,
    UndeliveredError,
    WaitTimeoutError,
    connect,
)
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until

PATIENCE = 60
DOCS = Path(__file__).parents[2] / "docs"
USERS = (
    "scheduler",
    "node01",
    "node02",
    "watcher",
    "auditor",
    "dashboard",
    "vm1",
    "vm1-p1",
    "vm2",
)
NO_HOSTS = tuple(user for user in USERS if not user.startswith("node"))


def shipped_broker(directory: Path, **other: str) -> Mosquitto:
    """A broker with the shipped settings, but without TLS; `other` are values of settings."""
    acl = directory / "fast.acl"
    acl.write_text((DOCS / "mosquitto.acl").read_text())
    acl.chmod(0o600)

    def settings(broker: Mosquitto, passwords: Path) -> str:
        text = (DOCS / "mosquitto.conf").read_text()
        text = re.sub(r"^(cafile|certfile|keyfile) .*\n", "", text, flags=re.MULTILINE)
        changes = {
            "listener 8883": f"listener {broker.port} 127.0.0.1",
            "/etc/mosquitto/fast.passwords": str(passwords),
            "/etc/mosquitto/fast.acl": str(acl),
            "/var/lib/mosquitto/": f"{directory}/",
            "persistence true": "persistence false",  # it would write for each message
        }
        for shipped, here in changes.items():
            assert shipped in text
            text = text.replace(shipped, here)
        for setting, value in other.items():
            text, count = re.subn(f"^{setting} .*$", f"{setting} {value}", text, flags=re.MULTILINE)
            assert count == 1
        return text

    passwords = {user: f"of {user}" for user in USERS}
    return Mosquitto(directory / "broker", passwords=passwords, whole=settings)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with shipped_broker(tmp_path_factory.mktemp("security")) as broker:
        yield broker


def enter(broker: Mosquitto, user: str, **options: Any) -> Communicator:
    chosen = MqttOptions(
        host="127.0.0.1",
        port=broker.port,
        username=user,
        password=f"of {user}",
        protocol="5",  # whose broker says when it refuses something
    )
    return connect(msgspec.structs.replace(chosen, **options), timeout=PATIENCE)


def another(
    broker: Mosquitto, user: str, known: Communicator, known_user: str
) -> AbstractContextManager[Communicator]:
    """Connect as a user, unless it is there: the broker closes the older connection of a user."""
    return nullcontext(known) if user == known_user else enter(broker, user)


SPOKEN = [
    (user, topic, user in may)
    for topic, may in [
        (TASK("node01"), {"scheduler", "dashboard"}),
        (RESULT("node01"), {"node01"}),
        (PROGRESS("node01"), {"node01"}),
        (PRESENCE("node01"), {"node01"}),
        (RESULT("node02"), {"node02"}),
        (PSCOM_REQUEST("vm1"), {"node01", "node02"}),
        (PSCOM_RESPONSE("vm1", "p0"), {"vm1"}),
        (PSCOM_RESPONSE("vm1", "p1"), {"vm1", "vm1-p1"}),
        (TASK("vm1"), {"scheduler", "dashboard"}),
        ("fast/other", set()),
        # A pattern of the list is for all users.
        *((topic(user), set()) for topic in (RESULT, PROGRESS, PRESENCE) for user in NO_HOSTS),
        *(
            (PSCOM_RESPONSE(user, "p0"), set())
            for user in ("watcher", "auditor", "dashboard", "vm1-p1")
        ),
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
        (RESULT("node01"), "node01", {"scheduler", "watcher", "auditor", "dashboard"}),
        (PROGRESS("node01"), "node01", {"scheduler", "watcher", "auditor", "dashboard"}),
        (PRESENCE("node01"), "node01", {"scheduler", "node01", "watcher", "auditor", "dashboard"}),
        (PSCOM_REQUEST("vm1"), "node01", {"vm1", "vm1-p1"}),
        (PSCOM_RESPONSE("vm1", "p0"), "vm1", {"node01", "node02"}),
    ]
    for user in USERS
]


@pytest.mark.parametrize(("user", "topic", "speaker", "allowed"), HEARD)
def test_access_list_limits_subscribing(
    broker: Mosquitto, user: str, topic: str, speaker: str, allowed: bool
):
    """A user without the right to a message does not get it, even with a subscription."""
    with enter(broker, user) as listener, another(broker, speaker, listener, user) as voice:
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


def send_order(broker: Mosquitto, topic: str) -> None:
    with enter(broker, "scheduler") as scheduler:
        scheduler.send(b"an order", topic, qos=2).wait(PATIENCE)


def daemon(broker: Mosquitto, user: str, client_id: str, **options: Any) -> Communicator:
    return enter(broker, user, client_id=client_id, subscribe_topic=TASK(user), **options)


@pytest.mark.parametrize("user", ["node01", "scheduler", "watcher", "vm1"])
@pytest.mark.parametrize("client_id", ["fast-migfra-node02", "node02"])
def test_broker_protects_sessions_from_other_users(broker: Mosquitto, user: str, client_id: str):
    """The broker keeps an order for a daemon that is away; another user cannot delete it."""
    daemon(broker, "node02", "fast-migfra-node02", persistent=True).close()
    send_order(broker, TASK("node02"))
    # A new session with the id would end the other one, with all that it has.
    enter(broker, user, client_id=client_id).close()
    with daemon(broker, "node02", "fast-migfra-node02", persistent=True) as node02:
        assert node02.receive(timeout=PATIENCE).payload == b"an order"


def test_broker_protects_connections_from_other_users(broker: Mosquitto):
    with daemon(broker, "node02", "fast-migfra-node02") as node02:
        enter(broker, "node01", client_id="fast-migfra-node02").close()
        send_order(broker, TASK("node02"))
        assert node02.receive(timeout=PATIENCE).payload == b"an order"
        assert node02.last_error is None


def test_session_is_found_again_by_the_user_name(broker: Mosquitto):
    """It is the setting that keeps sessions apart: the client ids differ here."""
    daemon(broker, "node01", "one", persistent=True).close()
    send_order(broker, TASK("node01"))
    with daemon(broker, "node01", "another", persistent=True) as node01:
        assert node01.receive(timeout=PATIENCE).payload == b"an order"


def test_domain_that_fills_the_memory_leaves_room_for_small_orders(tmp_path: Path):
    """The broker retains its answers, each on another topic; only memory_limit bounds them."""
    with shipped_broker(tmp_path, memory_limit="20000000") as broker:
        domain = enter(broker, "vm1", retry_min=60, retry_max=60)

        def stores(number: int) -> bool:
            """Return whether the broker confirms one more answer. Else it ends the connection."""
            topic = PSCOM_RESPONSE("vm1", f"p{number}")
            delivery = domain.send(b"x" * 4_000_000, topic, retain=True)
            wait_until(lambda: delivery.done or not domain.is_connected, "an end")
            return bool(delivery.done)

        stored = next(number for number in range(10) if not stores(number))
        with suppress(UndeliveredError):
            domain.close(timeout=0)
        assert 2 <= stored < 6
        with daemon(broker, "node01", "fast-migfra-node01") as node01:
            send_order(broker, TASK("node01"))
            assert node01.receive(timeout=PATIENCE).payload == b"an order"
