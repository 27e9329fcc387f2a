"""Where one mosquitto ends: its CPU time for each message, and its memory for each client.

mosquitto uses one core. So the CPU time of a message says how many messages a second it can take on
a machine that has nothing else to do. The bare clients of `raw_mqtt` cost next to nothing.
"""

import resource
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, NamedTuple

from .mosquitto import Running, running_mosquitto
from .raw_mqtt import RawClient, publish_packet
from .resources import usage_of

PAYLOAD: Final = b"x" * 300
"""As long as a result of one domain."""
BATCH: Final = 200
"""Messages that are written at once."""
TOPICS_OF_A_HOST: Final = ("task", "result", "progress")
"""Each client subscribes to as many topics as a scheduler does for each host."""


class Effort(NamedTuple):
    """How much is measured."""

    messages: int
    clients: int
    pings: int
    """Of each client."""
    retained: int


class Capacity(NamedTuple):
    """The figures of one broker, and of two with a bridge."""

    messages_per_second: float
    """From one client through the broker to another, with QoS 0."""
    message_cpu: float
    """Seconds of the broker for each of them."""
    bridged_per_second: float
    """From a client through both brokers to another."""
    bridge_cpu: float
    """Seconds of both brokers together for each of them."""
    client_bytes: float
    """Memory for each connection with three subscriptions."""
    ping_cpu: float
    """Seconds of the broker for each PINGREQ."""
    retained_bytes: float
    """Memory for each retained presence."""


def measure(effort: Effort, progress: Callable[[str], None] = lambda text: None) -> Capacity:
    """Measure everything. Raises MissingBrokerError."""
    progress("messages through one broker")
    with running_mosquitto() as broker:
        per_second, message_cpu = _throughput(effort.messages, broker, broker, [broker])
    progress("messages through a bridge")
    with running_mosquitto() as first, ExitStack() as stack:
        bridge = (
            "connection first",
            f"address 127.0.0.1:{first.port}",
            "topic # in 0",
            "bridge_protocol_version mqttv311",
            "notifications false",
            "try_private false",
        )
        second = stack.enter_context(running_mosquitto(*bridge))
        _await_bridge(first, second)
        bridged, bridge_cpu = _throughput(effort.messages, first, second, [first, second])
    progress("connections and retained messages")
    with running_mosquitto() as broker:
        client_bytes, ping_cpu = _connections(effort, broker)
    with running_mosquitto() as broker:
        retained_bytes = _retained(effort, broker)
    return Capacity(
        per_second, message_cpu, bridged, bridge_cpu, client_bytes, ping_cpu, retained_bytes
    )


def _throughput(
    count: int, source: Running, target: Running, brokers: list[Running]
) -> tuple[float, float]:
    """Return the messages per second, and the CPU seconds for each."""
    packet = publish_packet("fast/migfra/node01/result", PAYLOAD)
    with RawClient(target.port, "receiver") as receiver, RawClient(source.port, "sender") as sender:
        receiver.subscribe("fast/migfra/+/result")
        pids = [broker.pid for broker in brokers]
        before, begin = usage_of(pids), time.perf_counter()
        window = threading.Semaphore(50)  # else the broker's queues would be measured

        def send() -> None:
            for _ in range(count // BATCH):
                window.acquire()
                sender.socket.sendall(packet * BATCH)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        for _ in range(count // BATCH):
            receiver.read(len(packet) * BATCH)
            window.release()
        seconds = time.perf_counter() - begin
        cpu = usage_of(pids).cpu - before.cpu
        sending.join()
    sent = count // BATCH * BATCH
    return sent / seconds, cpu / sent


def _await_bridge(first: Running, second: Running) -> None:
    latest = time.monotonic() + 30
    with RawClient(second.port, "probe-in") as receiver, RawClient(first.port, "probe") as sender:
        receiver.subscribe("probe")
        receiver.socket.settimeout(0.1)
        while time.monotonic() < latest:
            sender.socket.sendall(publish_packet("probe", b""))
            try:
                receiver.read_message()
            except TimeoutError:
                continue
            return
    raise ConnectionError("the bridge does not connect")


def _connections(effort: Effort, broker: Running) -> tuple[float, float]:
    """Return the bytes for each connection, and the CPU seconds for each PINGREQ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < effort.clients + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, effort.clients + 100), hard))
    with ExitStack() as stack:
        before = usage_of([broker.pid])
        clients = []
        for number in range(effort.clients):
            clients.append(stack.enter_context(RawClient(broker.port, f"migfra-node{number:05}")))
            topics = [f"fast/migfra/node{number:05}/{topic}" for topic in TOPICS_OF_A_HOST]
            clients[-1].subscribe(*topics)
        after = usage_of([broker.pid])
        for _ in range(effort.pings):
            for client in clients:
                client.ping()
        pings = usage_of([broker.pid]).cpu - after.cpu
    size = (after.memory - before.memory) / effort.clients
    return size, pings / (effort.pings * effort.clients)


def _retained(effort: Effort, broker: Running) -> float:
    """Return the bytes for each retained presence."""
    with RawClient(broker.port, "publisher") as client:
        client.ping()
        before = usage_of([broker.pid])
        for number in range(effort.retained):
            topic = f"fast/migfra/node{number:06}/status"
            client.socket.sendall(publish_packet(topic, PAYLOAD, retain=True))
        client.ping()  # the broker has read all before
        return (usage_of([broker.pid]).memory - before.memory) / effort.retained
