"""Tests of message loss when connections and brokers fail.

The fast tier has one short series for each kind of fault. The tests with the marker `load` vary
QoS, protocol and broker settings. `--long` sends 10,000 messages instead of 1,000 in these, with
the figures for docs/explanation/reliability.md.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fastlib.transport import Communicator, MqttOptions, QueueFullError, connect
from tests.support.mosquitto import Certificates, Mosquitto
from tests.support.transport.connector import tls_options
from tests.support.transport.proxy import Proxy
from tests.support.transport.stream import Outcome, stream
from tests.support.waiting import wait_until

QUEUE = ("max_queued_messages 0",)
"""No bound for what the broker keeps for a client: with one it drops messages on purpose."""

WINDOW = 20
"""Messages on their way at once, by default."""


LOAD = pytest.mark.load


@pytest.fixture
def many(request: pytest.FixtureRequest) -> int:
    """The number of messages of a series."""
    if request.config.getoption("--long"):
        return 10_000
    return 1_000 if request.node.get_closest_marker("load") else 300


@pytest.fixture
def faults(request: pytest.FixtureRequest, many: int) -> int:
    """The number of broker restarts in a series."""
    return 2 if many < 1_000 else 9


@pytest.fixture
def repeats(request: pytest.FixtureRequest) -> int:
    """How often a series is repeated that fails rarely."""
    return 200 if request.config.getoption("--long") else 1


@pytest.fixture
def root() -> str:
    return f"fault/{uuid4().hex}"


@pytest.fixture
def joined() -> Iterator[Callable[..., Communicator]]:
    """Makes communicators with quick retries, each with its own session."""
    made: list[Communicator] = []

    def join(port: int, **named: Any) -> Communicator:
        fixed = {
            "host": "127.0.0.1",
            "client_id": f"fault-{uuid4().hex[:8]}",
            "persistent": True,
            "retry_min": 0.02,
            "retry_max": 0.2,
            "max_pending": 20_000,
        }
        communicator = connect(MqttOptions(port=port, **(fixed | named)), timeout=60)
        made.append(communicator)
        return communicator

    yield join
    for communicator in made:
        communicator.close(0.5)


@pytest.mark.parametrize(
    ("qos", "protocol"),
    [
        (2, "3.1.1"),
        (1, "5"),
        pytest.param(2, "5", marks=LOAD),
        pytest.param(1, "3.1.1", marks=LOAD),
    ],
)
def test_connections_cut_in_the_middle_of_packets(
    tmp_path: Path,
    joined: Callable[..., Communicator],
    root: str,
    many: int,
    repeats: int,
    figures: Callable[[object], None],
    qos: int,
    protocol: str,
) -> None:
    """A cut after any number of bytes, in any direction, for the sender and for the receiver.

    With `--long`, QoS 2 is repeated with 1,000 messages: mosquitto published messages again in one
    of 15 runs, and `released.py` recognises them.
    """
    dice = random.Random(f"{qos} {protocol}")
    runs = [many] + [1000] * (repeats - 1 if qos == 2 else 0)
    cuts = recognised = 0
    with Mosquitto(tmp_path / "broker", settings=(*QUEUE, "log_type all")) as broker:
        for number, sent in enumerate(runs):
            broker.log.clear()
            outcome, cut = cut_stream(broker, joined, dice, f"{root}/{number}", sent, qos, protocol)
            cuts += cut
            assert not outcome.lost
            assert outcome.in_order
            if qos == 2:
                assert not outcome.duplicates
                recognised += repeated_after_release(broker.log, f"receiver-{root}/{number}") > 0
            if number == 0:
                figures(f"{outcome}, {cut} cuts")
    if len(runs) > 1:
        figures(
            f"{len(runs)} runs: {sum(runs)} messages: 0 lost, 0 duplicates, {cuts} cuts; in "
            f"{recognised} runs the broker published again what it had released"
        )


def cut_stream(
    broker: Mosquitto,
    joined: Callable[..., Communicator],
    dice: random.Random,
    root: str,
    sent: int,
    qos: int,
    protocol: str,
) -> tuple[Outcome, int]:
    """Send a stream over connections that are cut; return also the number of cuts."""
    with Proxy(broker.port) as sending, Proxy(broker.port) as receiving:
        sender = joined(sending.port, protocol=protocol)
        receiver = joined(receiving.port, protocol=protocol, client_id=f"receiver-{root}")

        def cut() -> None:
            proxy = dice.choice([sending, receiving])
            proxy.cut_after(dice.randrange(1, 2000), dice.choice(["up", "down"]))

        cuts = {sent * step // 25: cut for step in range(1, 20)}
        outcome = stream(sender, receiver, root, sent=sent, qos=qos, faults=cuts)
        for communicator in (sender, receiver):
            communicator.close(0.5)
        return outcome, sending.cuts + receiving.cuts


def repeated_after_release(log: Iterable[str], client_id: str) -> int:
    """How many messages the broker sent to a client again after it had sent PUBREL for them.

    MQTT forbids that (3.1.1, 4.3.3). `log` is the broker's, with `log_type all`.
    """
    client = re.escape(client_id)
    publish = re.compile(rf"Sending PUBLISH to {client} \(d([01]), q2, r\d, m(\d+),")
    release = re.compile(rf"Sending PUBREL to {client} \(m(\d+)\)")
    complete = re.compile(rf"Received PUBCOMP from {client} \(Mid: (\d+),")
    released: set[str] = set()
    repeated = 0
    for line in log:
        if found := publish.search(line):
            repeated += found[1] == "1" and found[2] in released
            released.discard(found[2])
        elif found := release.search(line):
            released.add(found[1])
        elif found := complete.search(line):
            released.discard(found[1])
    return repeated


def test_broker_log_shows_repetitions_after_pubrel(
    tmp_path: Path, joined: Callable[..., Communicator], root: str
) -> None:
    """A repetition before PUBREL is not counted, one after it is."""
    settings = (*QUEUE, "log_type all")
    with Mosquitto(tmp_path / "broker", settings=settings) as broker:
        sender, receiver = joined(broker.port), joined(broker.port, client_id="receiver")
        receiver.subscribe(root, manual_ack=True)
        sender.send(b"", root, 2).wait(60)
        receiver.receive(root, timeout=60)
        receiver.close()
        receiver = joined(broker.port, client_id="receiver")
        receiver.subscribe(root, manual_ack=True)
        message = receiver.receive(root, timeout=60)
        assert message.duplicate
        message.ack()
        wait_until(
            lambda: any("Received PUBCOMP from receiver" in x for x in broker.log), "PUBCOMP"
        )
    log = [line for line in broker.log if " receiver " in line]
    assert repeated_after_release(log, "receiver") == 0
    (again,) = [line for line in log if "(d1, q2" in line]
    (released,) = [number for number, line in enumerate(log) if "Sending PUBREL" in line]
    assert repeated_after_release([*log[: released + 1], again], "receiver") == 1
    assert repeated_after_release([*log, again], "receiver") == 0


WIDE = "max_inflight_messages 20000"
"""More than ever wait in these tests, so that the broker restores all as it was."""


@pytest.mark.parametrize(
    ("qos", "settings"),
    [
        pytest.param(1, QUEUE, id="1", marks=LOAD),
        pytest.param(2, QUEUE, id="2"),
        pytest.param(2, (*QUEUE, WIDE), id="2-wide", marks=LOAD),
    ],
)
def test_stopped_broker_loses_no_message(
    tmp_path: Path,
    joined: Callable[..., Communicator],
    root: str,
    many: int,
    faults: int,
    figures: Callable[[object], None],
    qos: int,
    settings: tuple[str, ...],
) -> None:
    """With persistence, mosquitto writes everything when it is asked to end.

    But of what exceeds its window it forgets on starting how far it was, and publishes again what
    it had released. Only that comes twice with QoS 2, and nothing if the window is wide enough.
    """
    settings = (*settings, "log_type all")
    broker = Mosquitto(tmp_path / "broker", persistence=True, settings=settings).start()
    try:
        sender, receiver = joined(broker.port), joined(broker.port, client_id="receiver")

        def restart() -> None:
            # Each time until both have noticed: mosquitto misses a signal that comes too early.
            broker.stop()
            wait_until(lambda: not (sender.is_connected or receiver.is_connected), "the end")
            broker.start()
            wait_until(lambda: sender.is_connected and receiver.is_connected, "the connections")

        restarts = {many * step // (faults + 1): restart for step in range(1, faults + 1)}
        outcome = stream(sender, receiver, root, sent=many, qos=qos, faults=restarts)
        broker.stop()
        repeated = repeated_after_release(broker.log, "receiver")
        figures(f"{outcome}, {repeated} published again after PUBREL")
        assert not outcome.lost
        assert outcome.in_order
        if qos == 2:
            assert outcome.duplicates <= repeated
            assert outcome.not_marked == 0
        if WIDE in settings:
            assert not repeated
    finally:
        broker.kill()


@pytest.mark.parametrize(
    ("qos", "persistence"),
    [
        pytest.param(2, False, id="2-no-persistence"),
        pytest.param(1, False, id="1-no-persistence", marks=LOAD),
        pytest.param(1, True, id="1-persistence", marks=LOAD),
        pytest.param(2, True, id="2-persistence", marks=LOAD),
    ],
)
def test_killed_broker_loses_only_confirmed_messages(
    tmp_path: Path,
    joined: Callable[..., Communicator],
    root: str,
    many: int,
    figures: Callable[[object], None],
    qos: int,
    persistence: bool,
) -> None:
    """Messages that the broker had not confirmed when it was killed are not lost.

    Only the broker can keep confirmed messages. Without persistence it keeps none, and with
    persistence mosquitto confirms before it writes.
    """
    broker = Mosquitto(tmp_path / "broker", persistence=persistence, settings=QUEUE).start()
    kills: list[tuple[float, float]] = []
    """The begin and the end of each kill."""
    try:
        with Proxy(broker.port) as proxy:
            sender = joined(proxy.port)
            receiver, probe = joined(broker.port), joined(broker.port)
            receiver.subscribe("probe")

            def kill() -> None:
                began = time.monotonic()
                # The sender comes back after the receiver: what is sent to nobody, nobody gets.
                proxy.refusing = True
                broker.kill()
                # A confirmation may have been on its way to the sender.
                wait_until(lambda: not proxy.connected, "the end of the connection")
                wait_until(lambda: not sender.is_connected, "the sender noticing")
                kills.append((began, time.monotonic()))
                broker.start()
                mark = f"{len(kills)}".encode()
                while True:
                    probe.send(mark, "probe").wait(60)
                    try:
                        if receiver.receive("probe", timeout=0.2).payload == mark:
                            break
                    except TimeoutError:
                        continue
                proxy.refusing = False

            outcome = stream(
                sender,
                receiver,
                root,
                sent=many,
                qos=qos,
                faults={many // 5: kill, many // 2: kill, many * 3 // 4: kill},
            )
        figures(outcome)
        assert outcome.in_order
        assert len(outcome.lost) <= many / 2
        # Seconds that a confirmed message may wait for the receiver; more on a busy machine.
        wait = max(5, outcome.seconds / 4)
        confirmed_later = [
            place
            for place in outcome.lost
            if not any(
                began - wait < outcome.confirmed_at[place] <= ended for began, ended in kills
            )
        ]
        # QoS 2 is confirmed in two steps. A broker that comes back with an older state of the
        # session completes what it had confirmed half, although it no longer has the message.
        assert len(confirmed_later) <= (len(kills) * WINDOW if qos == 2 and persistence else 0)
        if not persistence:
            assert outcome.duplicates <= len(kills) * WINDOW
    finally:
        broker.kill()


def test_messages_are_queued_while_broker_is_away(
    tmp_path: Path, joined: Callable[..., Communicator], root: str
) -> None:
    """Up to the bound, and then refused."""
    broker = Mosquitto(tmp_path / "broker", persistence=True, settings=QUEUE).start()
    try:
        sender, receiver = joined(broker.port, max_pending=100), joined(broker.port)
        receiver.subscribe(root)
        broker.stop()
        wait_until(lambda: not sender.is_connected, "the end of the connection")
        deliveries = [sender.send(b"%d" % number, root, 1 + number // 50) for number in range(100)]
        with pytest.raises(QueueFullError, match="100 messages wait"):
            sender.send(b"100", root, timeout=float("inf"))  # without a connection it does not wait
        assert sender.last_error is not None
        broker.start()
        for delivery in deliveries:
            delivery.wait(60)
        for number in range(100):
            assert receiver.receive(root, timeout=60).payload == b"%d" % number
        wait_until(lambda: sender.last_error is None, "the end of the last error")
        sender.send(b"100", root).wait(60)
    finally:
        broker.kill()


def test_connect_retries_until_broker_starts(
    tmp_path: Path, joined: Callable[..., Communicator]
) -> None:
    broker = Mosquitto(tmp_path / "broker")
    with Proxy(broker.port) as proxy:
        made: list[Communicator] = []
        thread = threading.Thread(target=lambda: made.append(joined(proxy.port)), daemon=True)
        thread.start()
        wait_until(lambda: proxy.connections >= 3, "three tries")
        assert not made
        with broker:
            thread.join(60)
            made[0].send(b"", "a").wait(60)


@pytest.mark.parametrize(
    "tls", [pytest.param(False, id="plain", marks=LOAD), pytest.param(True, id="tls")]
)
def test_large_payload_arrives(
    request: pytest.FixtureRequest,
    plain_broker: Mosquitto,
    tls_broker: Mosquitto,
    certificates: Certificates,
    joined: Callable[..., Communicator],
    root: str,
    figures: Callable[[object], None],
    tls: bool,
) -> None:
    mebibytes = 64 if request.config.getoption("--long") else 8
    payload = random.Random(1).randbytes(1 << 20) * mebibytes
    named = {"tls": tls_options(certificates)} if tls else {}
    port = tls_broker.port if tls else plain_broker.port
    sender, receiver = joined(port, **named), joined(port, **named)
    receiver.subscribe(root)
    start = time.monotonic()
    delivery = sender.send(payload, root, qos=2)
    assert receiver.receive(root, timeout=120).payload == payload
    delivery.wait(60)
    figures(f"{mebibytes} MiB in {time.monotonic() - start:.1f} s")
    assert sender.is_connected
    assert receiver.is_connected


@pytest.mark.parametrize("qos", [pytest.param(1, marks=LOAD), 2])
def test_slow_consumer_limits_messages_in_memory(
    tmp_path: Path,
    joined: Callable[..., Communicator],
    root: str,
    many: int,
    figures: Callable[[object], None],
    qos: int,
) -> None:
    """One that acknowledges late gets no more than the broker's window, and all in the end."""
    with Mosquitto(tmp_path / "broker", settings=QUEUE) as broker:
        sender, receiver = joined(broker.port), joined(broker.port)
        receiver.subscribe(root, manual_ack=True)
        for number in range(many):
            sender.send(b"%d" % number, root, qos, timeout=60)
        sender.send(b"end", root, qos).wait(60)
        waiting = receiver._core.inbox(root)
        wait_until(lambda: len(waiting) == 20, "a full window")
        most = 0
        for number in range(many):
            most = max(most, len(waiting))
            message = receiver.receive(root, timeout=60)
            assert message.payload == b"%d" % number
            assert not message.duplicate
            message.ack()
        figures(f"{many} messages: none lost, 20 in memory at first, later at most {most}")


def test_slow_callback_blocks_no_other_subscription(
    joined: Callable[..., Communicator], plain_broker: Mosquitto, root: str
) -> None:
    one = joined(plain_broker.port, keep_alive=5)
    go, seen = threading.Event(), []
    one.subscribe(f"{root}/slow", lambda m: (go.wait(60), seen.append(m.payload)))
    one.subscribe(f"{root}/fast")
    for number in range(200):
        one.send(b"%d" % number, f"{root}/slow")
    for number in range(200):
        one.send(b"%d" % number, f"{root}/fast").wait(60)
        assert one.receive(f"{root}/fast", timeout=60).payload == b"%d" % number
    assert not seen
    go.set()
    wait_until(lambda: len(seen) == 200, "the callbacks")
    assert seen == [b"%d" % number for number in range(200)]
