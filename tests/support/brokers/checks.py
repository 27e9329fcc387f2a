"""The checks of each broker: the transport, the client and the daemon.

A check passes, or raises `Cannot` in one of the ways that are known. Every other failure is an
error. A check does not wait for a message that must not come. It waits for a later one instead,
which cannot overtake it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from fastlib import Start, TaskContainer
from fastlib.client import AsyncMigfraClient
from fastlib.message import topics
from fastlib.migfra import Daemon
from fastlib.transport import (
    Communicator,
    ConnectError,
    MqttOptions,
    ReceivedMessage,
    RefusedError,
    UndeliveredError,
    Will,
    connect,
)
from tests.support.brokers.kinds import Place
from tests.support.migfra.bench import configuration, patiently
from tests.support.migfra.scripted import Scripted
from tests.support.mosquitto import PATIENCE
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until


class Cannot(Exception):
    """The broker cannot do it. The text has its behaviour."""


class Lab:
    """A broker for one check, with names that no other check uses."""

    def __init__(self, place: Place, name: str, directory: Path, stack: ExitStack) -> None:
        self.place: Final = place
        self.name: Final = name
        """A topic, a client id, and the name of a host."""
        self.directory: Final = directory
        self._stack = stack

    def join(self, end: int = 0, **options: Any) -> Communicator:
        """Connect to the first broker (0), or to the last one (-1)."""
        return self.enter(connect(self.options(end, **options), timeout=PATIENCE))

    def enter(self, communicator: Communicator) -> Communicator:
        """Close a communicator at the end of the check."""

        def close() -> None:
            with suppress(UndeliveredError):  # the check has seen what it wanted to see
                communicator.close(0.5)

        self._stack.callback(close)
        return communicator

    def away(self, **options: Any) -> dict[str, Any]:
        """Make a persistent session with a subscription, leave it, and return its options."""
        named = {"client_id": f"{self.name}-away", "persistent": True, **options}
        client = self.join(-1, **named)
        client.subscribe(self.name, manual_ack=True)
        client.close()
        return named

    def daemon(self, hypervisor: Scripted) -> Daemon:
        """A daemon of a host at the last broker."""
        return Daemon(
            configuration(hostname=self.name),
            communicator=self.options(-1, client_id=f"migfra-{self.name}", persistent=True),
            hypervisor=hypervisor,
            journal=self.directory / "journal",
        )

    def options(self, end: int, **more: Any) -> MqttOptions:
        return self.place.options(self.place.ports[end], **more)

    def client(self) -> Any:
        """A scheduler's client at the first broker: `await` it."""
        return AsyncMigfraClient.connect(self.options(0, client_id=f"scheduler-{self.name}"))


def _next(receiver: Communicator, topic: str | None = None) -> ReceivedMessage:
    return receiver.receive(topic, timeout=PATIENCE)


def _send(sender: Communicator, payload: bytes, topic: str, qos: int = 1, **more: Any) -> None:
    sender.send(payload, topic, qos=qos, **more).wait(PATIENCE)


def qos_0_and_1(lab: Lab) -> None:
    sender, receiver = lab.join(), lab.join(-1)
    for qos in (0, 1):
        receiver.subscribe(f"{lab.name}/{qos}", qos=qos)
        _send(sender, b"x", f"{lab.name}/{qos}", qos)
        assert _next(receiver, f"{lab.name}/{qos}").qos == qos


def qos_2(lab: Lab) -> None:
    sender, receiver = lab.join(), lab.join(-1)
    receiver.subscribe(lab.name, qos=2)
    _send(sender, b"x", lab.name, 2)
    if (qos := _next(receiver).qos) != 2:
        raise Cannot(f"arrives with QoS {qos}")


def lower_qos(lab: Lab) -> None:
    sender, receiver = lab.join(), lab.join(-1)
    receiver.subscribe(lab.name, qos=2)
    _send(sender, b"x", lab.name, 0)
    if (qos := _next(receiver).qos) != 0:
        raise Cannot(f"arrives with QoS {qos}")


def order(lab: Lab) -> None:
    sender, receiver = lab.join(), lab.join(-1)
    receiver.subscribe(lab.name)
    for number in range(100):
        sender.send(b"%d" % number, lab.name, qos=1)
    assert [int(_next(receiver).payload) for _ in range(100)] == list(range(100))


def wildcards(lab: Lab) -> None:
    sender, receiver = lab.join(), lab.join(-1)
    receiver.subscribe(f"{lab.name}/+/c")
    receiver.subscribe(f"{lab.name}/d/#")
    for topic in ("a/c", "a/b/c", "d", "d/e/f"):
        _send(sender, topic.encode(), f"{lab.name}/{topic}")
    _send(sender, b"end", f"{lab.name}/end/c")
    _send(sender, b"end", f"{lab.name}/d/end")
    found = [
        [_next(receiver, f).payload for _ in range(n)]
        for f, n in ((f"{lab.name}/+/c", 2), (f"{lab.name}/d/#", 3))
    ]
    assert found == [[b"a/c", b"end"], [b"d", b"d/e/f", b"end"]]


def names(lab: Lab) -> None:
    topic = f"{lab.name}/Knoten ä/\u4e16"
    sender, receiver = lab.join(), lab.join(-1)
    receiver.subscribe(topic)
    for payload in (b"", bytes(range(256))):
        _send(sender, payload, topic)
        assert _next(receiver).payload == payload


def large(lab: Lab) -> None:
    payload = b"x" * 1_000_000
    sender, receiver = lab.join(), lab.join(-1)
    receiver.subscribe(lab.name)
    _send(sender, payload, lab.name)
    assert _next(receiver).payload == payload


def unsubscribe(lab: Lab) -> None:
    sender, receiver = lab.join(), lab.join(-1)
    for topic in (f"{lab.name}/a", f"{lab.name}/b"):
        receiver.subscribe(topic)
    receiver.unsubscribe(f"{lab.name}/a")
    _send(receiver, b"", f"{lab.name}/unsubscribed")  # after the broker has read the request
    _send(sender, b"x", f"{lab.name}/a")
    _send(sender, b"end", f"{lab.name}/b")
    assert _next(receiver, f"{lab.name}/b").payload == b"end"


def retained(lab: Lab) -> None:
    _retained(lab, lab.name)


def retained_by_wildcard(lab: Lab) -> None:
    _retained(lab, f"{lab.name}/#")


def _retained(lab: Lab, pattern: str) -> None:
    sender, receiver = lab.join(-1), lab.join(-1)
    _send(sender, b"old", lab.name, retain=True)
    _send(sender, b"kept", lab.name, retain=True)
    receiver.subscribe(pattern)
    _send(sender, b"marker", lab.name)
    message = _next(receiver)
    if message.payload == b"marker":
        raise Cannot("none arrives")
    assert (message.payload, message.retain) == (b"kept", True)


def retained_deleted(lab: Lab) -> None:
    sender, receiver = lab.join(-1), lab.join(-1)
    _send(sender, b"kept", lab.name, retain=True)
    _send(sender, b"", lab.name, retain=True)
    receiver.subscribe(lab.name)
    _send(sender, b"marker", lab.name)
    assert _next(receiver).payload == b"marker"


def kept_for_session(lab: Lab) -> None:
    away = lab.away()
    sender = lab.join(-1)
    for number in range(10):
        _send(sender, b"%d" % number, lab.name, 1 + number % 2)
    back = lab.join(-1, **away)
    back.subscribe(lab.name)
    received = [_next(back) for _ in range(10)]
    assert sorted(int(message.payload) for message in received) == list(range(10))
    assert not any(message.retain for message in received)


def repeated_unacknowledged(lab: Lab) -> None:
    away = lab.away()
    sender, first = lab.join(-1), lab.join(-1, **away)
    first.subscribe(lab.name, manual_ack=True)
    _send(sender, b"one", lab.name)
    assert _next(first).payload == b"one"
    first.close()
    second = lab.join(-1, **away)
    second.subscribe(lab.name, manual_ack=True)
    _send(sender, b"two", lab.name)
    message = _next(second)
    if message.payload == b"two":
        raise Cannot("lost")
    assert message.payload == b"one"


def marked_duplicate(lab: Lab) -> None:
    away = lab.away()
    sender, first = lab.join(-1), lab.join(-1, **away)
    first.subscribe(lab.name, manual_ack=True)
    _send(sender, b"one", lab.name)
    _next(first)
    first.close()
    second = lab.join(-1, **away)
    second.subscribe(lab.name, manual_ack=True)
    _send(sender, b"two", lab.name)
    message = _next(second)
    if message.payload == b"two":
        raise Cannot("lost")
    if not message.duplicate:
        raise Cannot("repeated without DUP")


def survives_restart(lab: Lab) -> None:
    away = lab.away()
    sender = lab.join(-1)
    _send(sender, b"kept", lab.name)
    sender.close()
    lab.place.restart()
    again = lab.join(-1)
    back = lab.join(-1, **away)
    back.subscribe(lab.name)
    _send(again, b"marker", lab.name)
    if _next(back).payload == b"marker":
        raise Cannot("lost")


def will(lab: Lab) -> None:
    watcher = lab.join(-1)
    watcher.subscribe(lab.name)
    with Proxy(lab.place.ports[-1]) as proxy:
        options = lab.options(-1, will=Will(topic=lab.name, payload=b"gone", qos=1))
        lab.enter(connect(msgspec.structs.replace(options, port=proxy.port), timeout=PATIENCE))
        proxy.refusing = True
        proxy.cut()
        assert _next(watcher).payload == b"gone"


def takeover(lab: Lab) -> None:
    """The older connection ends in any state."""
    older = lab.join(-1, client_id=lab.name, retry_min=1000, retry_max=1000)
    lab.join(-1, client_id=lab.name)
    for _ in range(100):
        delivery = older.send(b"x", f"{lab.name}/older", qos=1)
        wait_until(lambda d=delivery: d.done or _was_cut(older), "an answer")  # type: ignore[misc]
        if _was_cut(older):
            return
    raise Cannot("both stay connected")


def _was_cut(communicator: Communicator) -> bool:
    link: Any = communicator._core.link
    return not communicator.is_connected or link._session.connection > 1


def system_topic(lab: Lab) -> None:
    one = lab.join(-1, client_id=lab.name)
    # A broker may confirm the message and end the connection then, so a further round trip follows.
    _send(one, b"", f"$fastlib/{lab.name}")
    _send(one, b"", lab.name)
    one.subscribe(lab.name)
    if _was_cut(one):
        raise Cannot("ends the connection")


def mqtt_5(lab: Lab) -> None:
    try:
        lab.enter(connect(lab.options(-1, protocol="5"), timeout=PATIENCE / 4))
    except RefusedError as error:
        raise Cannot("refuses the connection") from error
    except ConnectError as error:
        if "it may not know MQTT 5" not in str(error):
            raise
        raise Cannot("ends the connection") from error


def _scene(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def order_is_executed(lab: Lab) -> None:
    async def scene() -> None:
        hypervisor = Scripted()
        async with lab.daemon(hypervisor), await lab.client() as client:
            result = await patiently((await client.start(lab.name, "vm1")).result())
        assert result.status == "success"
        assert hypervisor.calls == [("start", "vm1")]

    _scene(scene)


def many_orders(lab: Lab) -> None:
    async def scene() -> None:
        hypervisor = Scripted()
        domains = [f"vm{number}" for number in range(30)]
        async with lab.daemon(hypervisor), await lab.client() as client:
            handles = [await client.start(lab.name, domain) for domain in domains]
            for handle in handles:
                assert (await patiently(handle.result())).status == "success"
        assert sorted(name for _, name in hypervisor.calls) == sorted(domains)

    _scene(scene)


def orders_for_daemon_away(lab: Lab) -> None:
    async def scene() -> None:
        hypervisor = Scripted()
        async with lab.daemon(Scripted()):
            pass
        async with await lab.client() as client:
            handles = [await client.start(lab.name, f"vm{number}") for number in range(3)]
            for handle in handles:
                delivery = handle._request.delivery
                await patiently(delivery)
            async with lab.daemon(hypervisor):
                for handle in handles:
                    assert (await patiently(handle.result())).status == "success"
        assert sorted(name for _, name in hypervisor.calls) == ["vm0", "vm1", "vm2"]

    _scene(scene)


def repeated_order(lab: Lab) -> None:
    """The same order twice, at QoS 1 as a sender repeats it, is executed once."""

    async def scene() -> None:
        hypervisor = Scripted()
        container = TaskContainer(
            tasks=[Start(vm_name="vm1")], id="1", idempotency_key=f"key-{lab.name}"
        )
        sender = lab.join()
        async with lab.daemon(hypervisor), await lab.client() as client:
            for _ in range(2):  # the broker has both before it gets the next order
                text = container.to_yaml().encode()
                await asyncio.to_thread(_send, sender, text, topics.TASK(lab.name))
            last = await client.start(lab.name, "vm2")
            await patiently(last.result())
        assert sorted(hypervisor.calls) == [("start", "vm1"), ("start", "vm2")]

    _scene(scene)


def presence(lab: Lab) -> None:
    """A client that comes later knows that the daemon is online, and learns when it ends."""

    async def scene() -> None:
        async with await lab.client() as client:
            async with lab.daemon(Scripted()):
                await _status(client, lab.name, "online")
                async with await AsyncMigfraClient.connect(lab.options(0)) as later:
                    await _status(later, lab.name, "online")
            await _status(client, lab.name, "offline")

    _scene(scene)


async def _status(client: Any, host: str, status: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while host not in client.presences or client.presences[host].status != status:
            await asyncio.sleep(0.01)


CHECKS: Final[dict[str, Callable[[Lab], None]]] = {
    "QoS 0 and 1": qos_0_and_1,
    "QoS 2": qos_2,
    "a lower QoS of the sender is kept": lower_qos,
    "messages keep their order": order,
    "wildcards": wildcards,
    "any characters in topics, any bytes, no bytes": names,
    "a message of 1 MB": large,
    "unsubscribe": unsubscribe,
    "retained message": retained,
    "retained message by a wildcard": retained_by_wildcard,
    "retained message is deleted": retained_deleted,
    "messages for a session without connection": kept_for_session,
    "unacknowledged message comes again": repeated_unacknowledged,
    "the repeated message has DUP": marked_duplicate,
    "messages survive a restart of the broker": survives_restart,
    "last will": will,
    "second client with the same id": takeover,
    "message to a topic that begins with `$`": system_topic,
    "MQTT 5": mqtt_5,
    "an order is executed": order_is_executed,
    "many orders at once": many_orders,
    "orders for a daemon that is away": orders_for_daemon_away,
    "an order that comes twice is executed once": repeated_order,
    "presence": presence,
}
"""The rows of the table."""


@contextmanager
def lab(place: Place, name: str, directory: Path) -> Iterator[Lab]:
    """Make a lab, and close its connections with the block."""
    with ExitStack() as stack:
        yield Lab(place, name, directory, stack)
