"""Tests of orders that expire: their sending, delivery and repetition."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fastlib import (
    Suspend,
    TaskContainer,
    ValidationError,
)
from fastlib.client import MigfraClient
from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions
from tests.support.client.factory import IN_MEMORY, PATIENCE, ClientFactory, success
from tests.support.client.unanswered import SENT_BEFORE, failure_of, sent_in_time, shown
from tests.support.mosquitto import Mosquitto
from tests.support.transport.broker_clock import wait_until_expired
from tests.support.waiting import wait_until


def test_order_expires_with_its_timeout(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    before = datetime.now(UTC)
    handle = client.suspend("hostA", "vm1", timeout=3)
    after = datetime.now(UTC)
    (container,) = daemon.wait()
    late = timedelta(seconds=3)
    assert before + late - timedelta(milliseconds=1) <= container.expires <= after + late
    assert container == handle.container


@IN_MEMORY
def test_order_without_timeout_waits_without_limit(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    client.suspend("hostA", "vm1", timeout=None)
    client.suspend("hostA", "vm2", expires=None)
    assert [container.expires for container in daemon.wait(2)] == [None, None]


@IN_MEMORY
def test_expiry_may_be_given_as_time_or_as_time_from_now(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    when = datetime(2100, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    client.suspend("hostA", "vm1", expires=when)
    client.suspend("hostA", "vm2", expires=timedelta(days=1), timeout=None)
    absolute, relative = daemon.wait(2)
    assert absolute.expires == datetime(2100, 1, 1, 12, tzinfo=UTC)
    left = relative.expires - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)


@IN_MEMORY
def test_container_keeps_its_own_expiry_unless_another_is_given(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    when = datetime(2100, 1, 1, tzinfo=UTC)
    container = TaskContainer(tasks=[Suspend(vm_name="vm1")], expires=when)
    client.submit("hostA", container)
    client.submit("hostA", container, expires=None)
    assert [one.expires for one in daemon.wait(2)] == [when, None]


@IN_MEMORY
def test_expiry_without_zone_is_refused(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    with pytest.raises(ValidationError, match="zone"):
        client.suspend("hostA", "vm1", expires=datetime(2100, 1, 1))
    client.suspend("hostA", "vm2")
    assert [container.tasks[0].vm_name for container in daemon.wait()] == ["vm2"]


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf")])
def test_invalid_tolerance_is_refused(tolerance: float):
    with pytest.raises(ValueError, match="number of seconds from 0"):
        MigfraClient.connect(MemoryOptions(broker=MemoryBroker()), clock_tolerance=tolerance)


def test_broker_does_not_deliver_expired_orders_with_mqtt_5(mosquitto: Mosquitto):
    """With MQTT 3.1.1 it delivers them, and the daemon refuses them by their key `expires`."""
    clients = ClientFactory(
        lambda **o: MqttOptions(host="127.0.0.1", port=mosquitto.port, retry_min=0.05, **o), None
    )
    session = {"client_id": "fast-migfra-away", "persistent": True}
    clients.daemon("away", **session).communicator.close()
    five, three = clients.client(protocol="5"), clients.client()
    late = [five.suspend("away", "mqtt-5", timeout=SENT_BEFORE)]
    late.append(three.suspend("away", "mqtt-3", timeout=SENT_BEFORE))
    five.suspend("away", "waits", expires=None)
    for handle in late:
        failure_of(handle)
    wait_until_expired(five.communicator)
    received = clients.daemon("away", **session).wait(2)
    assert sorted(container.tasks[0].vm_name for container in received) == ["mqtt-3", "waits"]
    clients.close()


@pytest.mark.parametrize(("instance", "sent"), [("first", True), (None, False)])
def test_expired_order_asks_for_its_result_where_it_is_not_begun_late(
    clients: ClientFactory, instance: str | None, sent: bool
):
    daemon, first = clients.daemon(), clients.client()
    unanswered = sent_in_time(lambda seconds: first.suspend("hostA", "vm1", timeout=seconds))
    expired = unanswered.container
    failure_of(unanswered)  # else the first client asks for the result, too
    wait_until(lambda: datetime.now(UTC) > expired.expires, "the expiry")
    daemon.presence("online", instance=instance)

    def copies() -> list[str | None]:
        return [one.id for one in daemon.received if one.id == expired.id]

    handle = clients.client().submit("hostA", expired, timeout=PATIENCE if sent else 0.1)
    if sent:
        wait_until(lambda: len(copies()) == 2, "the second copy")
        daemon.send(success(daemon.received[-1]))
        assert handle.result(PATIENCE).results[0].status == "success"
    else:
        error = failure_of(handle)
        assert error.outcome == "unknown"  # the first copy may have begun
        assert len(copies()) == 1


@pytest.mark.parametrize(("instance", "repeated"), [("second", True), (None, False)])
@IN_MEMORY
def test_expired_order_is_repeated_only_to_a_daemon_that_does_not_begin_it(
    clients: ClientFactory, instance: str | None, repeated: bool
):
    daemon, client = clients.daemon(), clients.client()
    handle = sent_in_time(
        lambda seconds: client.suspend("hostA", "vm1", expires=timedelta(seconds=seconds))
    )
    wait_until(lambda: datetime.now(UTC) > handle.container.expires, "the expiry")
    daemon.presence("online", instance=instance, started=2.0)
    shown(client, "online")
    last = client.suspend("hostA", "vm2")

    def received() -> list[str | None]:
        return [one.id for one in daemon.received]

    wait_until(lambda: last.id in received(), "the last order")
    wait_until(lambda: received().count(handle.id) >= 1 + repeated, "the repetition")
    assert received().count(handle.id) == 1 + repeated
