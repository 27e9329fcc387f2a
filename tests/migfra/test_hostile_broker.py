"""A broker that breaks MQTT in every packet type, against the client and the daemon.

Each session is honest up to a drawn point, then one packet is broken in one way. Client and daemon
must survive it, answer every call, and be served again by an honest broker on the same port.
`--long` plays 15,000 sessions, with an honest broker every 250 of them.
"""

import asyncio
import gc
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from fastlib.client import ClientError, MigfraClient
from fastlib.migfra import Daemon
from fastlib.transport import Communicator, MqttOptions, TransportError
from fastlib.transport.mqtt.inbound import InboundState
from fastlib.transport.mqtt.link import MqttLink
from tests.migfra.test_load import resident
from tests.support.migfra.bench import configuration
from tests.support.migfra.program import Program
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.transport.hostile_broker import HostileBroker
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until

HOST = "node01"
SEED = 14
CALL_SECONDS = 0.3
"""The timeout of each call during the hostile sessions."""
CALL_PATIENCE = 30.0
"""Seconds after which a call with that timeout hangs."""
DRAIN_SECONDS = 240.0
"""Seconds until the daemon must have answered everything that the hostile broker has sent."""
GROWTH = 16
"""MiB by which the process may grow in the second half of the sessions."""
UNACKNOWLEDGED = 2 << 20
"""Bytes of messages with QoS 1 and 2 that client and daemon keep without an acknowledgement."""
MOST_THREADS = 80
"""With the pools of the daemon and of asyncio, and with the proxies."""
TO_CLIENT = (
    f"fast/migfra/{HOST}/result",
    f"fast/migfra/{HOST}/progress",
    f"fast/migfra/{HOST}/presence",
)
TO_DAEMON = (f"fast/migfra/{HOST}/task",)

Protocol = Literal["3.1.1", "5"]


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> list[int]:
    """The sessions with one version of MQTT after which an honest broker serves again."""
    if request.config.getoption("--long"):
        return [250 * number for number in range(1, 11)]
    return [12, 24]


class Unhandled(logging.Handler):
    """Collects exceptions that left a thread, a task or a callback."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.found.append(logging.Formatter().format(record))

    def of_thread(self, arguments: threading.ExceptHookArgs) -> None:
        self.found.append(f"{arguments.thread}: {arguments.exc_value!r}")

    def of_task(self, _: object, context: dict[str, Any]) -> None:
        self.found.append(str(context))


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> Unhandled:
    unhandled = Unhandled()
    monkeypatch.setattr(threading, "excepthook", unhandled.of_thread)
    return unhandled


@contextmanager
def only_handler(handler: logging.Handler) -> Iterator[None]:
    """Give the records of fastlib to this handler alone.

    Pytest keeps each record of a test, and here are hundreds of thousands. It adds its handlers
    after the fixtures, also to loggers that do not propagate.
    """
    logger = logging.getLogger("fastlib")
    before = logger.propagate, logger.handlers[:]
    logger.propagate, logger.handlers[:] = False, [handler]
    try:
        yield
    finally:
        logger.propagate, logger.handlers[:] = before


class DaemonThread:
    """A daemon in a thread with its own loop."""

    def __init__(self, options: MqttOptions, unhandled: Unhandled) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(unhandled.of_task)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.daemon = Daemon(configuration(), communicator=options, in_memory=True)
        self._run(self.daemon.open())

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    @property
    def link(self) -> MqttLink:
        runtime = self.daemon._runtime
        assert runtime is not None
        return link_of(runtime.communicator)

    def tasks(self) -> int:
        return len(asyncio.all_tasks(self.loop))

    def close(self) -> None:
        self._run(self.daemon.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


def own_threads() -> int:
    """Return the threads of clients and links. The pools have separate bounds."""
    return sum(thread.name.startswith("fastlib") for thread in threading.enumerate())


def link_of(communicator: Any) -> MqttLink:
    link = communicator._core.link
    assert isinstance(link, MqttLink)
    return link


def pending(link: MqttLink) -> dict[str, int]:
    """Return the entries of a link for incomplete packet ids.

    A message that its consumer has acknowledged is kept until the broker repeats it, and a hostile
    broker does not. There are at most 65,535 packet ids.
    """
    session = link._session
    inbound = list(session._inbound._incomplete.values())
    return {
        "outbox": len(session.outbox),
        "sent": len(session.client._out_messages),
        "received": len(session.client._in_messages),
        "delivered": sum(each.state is InboundState.DELIVERED for each in inbound),
        "filters": len(session._subscriptions._requested),
        "answers": len(session._subscriptions._waiting),
    }


class Calls:
    """Calls of the client in threads, each of which must return within its timeout."""

    def __init__(self, client: MigfraClient, communicator: Communicator) -> None:
        self._client = client
        self._communicator = communicator
        self._ends = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._repeat, args=(call,), daemon=True)
            for call in (self._order, self._send, self._subscribe)
        ]
        for thread in self._threads:
            thread.start()

    def _repeat(self, call: Callable[[], object]) -> None:
        while not self._ends.is_set():
            try:
                call()
                self.outcomes[f"{call.__name__} answered"] += 1
            except (ClientError, TransportError) as error:
                self.outcomes[f"{call.__name__} {type(error).__name__}"] += 1
            self._ends.wait(0.005)

    def _order(self) -> object:
        return self._client.stop(HOST, "vm1", timeout=CALL_SECONDS).result(CALL_PATIENCE)

    def _send(self) -> object:
        qos = self.outcomes.total() % 3
        return self._communicator.send(b"", "other", qos, timeout=CALL_SECONDS).wait(CALL_SECONDS)

    def _subscribe(self) -> object:
        topic = f"other/{self.outcomes.total() % 5}"
        self._communicator.subscribe(topic, timeout=CALL_SECONDS)
        self._communicator.unsubscribe(topic)
        return topic

    def end(self) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(CALL_PATIENCE)
            assert not thread.is_alive(), "a call hangs"


def assert_flat(memory: list[float]) -> None:
    """The second half of these figures is not above the first one."""
    half = len(memory) // 2
    assert max(memory[half:]) < max(memory[:half]) + GROWTH, memory


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_client_and_daemon_survive_a_hostile_broker(
    broker: Mosquitto,
    rounds: list[int],
    unhandled: Unhandled,
    figures: Callable[[object], None],
    protocol: Protocol,
) -> None:
    with (
        only_handler(unhandled),
        Proxy(broker.port) as client_way,
        Proxy(broker.port) as daemon_way,
        HostileBroker(SEED, TO_CLIENT) as to_client,
        HostileBroker(SEED + 1, TO_DAEMON) as to_daemon,
    ):

        def options(way: Proxy, **named: Any) -> MqttOptions:
            return MqttOptions(
                host="127.0.0.1",
                port=way.port,
                protocol=protocol,
                retry_min=0.001,
                retry_max=0.005,
                max_payload=1 << 20,
                max_queued=1 << 18,
                max_unacknowledged=UNACKNOWLEDGED,
                **named,
            )

        daemon = DaemonThread(options(daemon_way, client_id="daemon", persistent=True), unhandled)
        client = MigfraClient.connect(options(client_way), clock_tolerance=0.1)
        try:
            assert client.stop(HOST, "vm1").result(PATIENCE).status == "success"
            links = {"client": link_of(client._communicator), "daemon": daemon.link}
            threads, tasks = own_threads(), daemon.tasks()
            ways = ((client_way, to_client), (daemon_way, to_daemon))
            memory: list[float] = []
            outcomes: Counter[str] = Counter()
            most_unacknowledged = 0
            for goal in rounds:
                for way, hostile in ways:
                    way.target = hostile.port
                    way.cut()
                calls = Calls(client, client._communicator)
                wait_until(
                    lambda goal=goal: (  # type: ignore[misc]
                        min(to_client.sessions, to_daemon.sessions) >= goal or unhandled.found
                    ),
                    lambda: f"{to_client.sessions} and {to_daemon.sessions} sessions",
                    1200,
                )
                gc.collect()
                memory.append(resident(os.getpid()))
                waiting = [link._session._inbound.unacknowledged for link in links.values()]
                most_unacknowledged = max(most_unacknowledged, *waiting)
                calls.end()
                outcomes += calls.outcomes
                assert not unhandled.found, unhandled.found[0]
                assert not daemon.daemon.ended.is_set()
                assert (to_client.failure, to_daemon.failure) == (None, None)
                for way, _ in ways:
                    way.target = broker.port
                    way.cut()
                # The daemon first answers what the hostile broker has sent.
                assert client.stop(HOST, "vm1").result(DRAIN_SECONDS).status == "success"
                for name, link in links.items():
                    wait_until(
                        lambda link=link: not any(pending(link).values()),  # type: ignore[misc]
                        lambda name=name, link=link: f"an empty session: {name} {pending(link)}",  # type: ignore[misc]
                    )
            # The timeout of the order itself comes first, and is a NoResultError.
            assert "_order WaitTimeoutError" not in outcomes
            assert most_unacknowledged <= UNACKNOWLEDGED
            assert own_threads() <= threads
            assert threading.active_count() < MOST_THREADS
            wait_until(lambda: daemon.tasks() <= tasks, "the end of the tasks")
            assert_flat(memory)
        finally:
            with suppress(TransportError):
                client.close()
            daemon.close()
    kinds = to_client.kinds + to_daemon.kinds
    shown = ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))
    figures(
        f"MQTT {protocol}: {to_client.sessions} sessions with a client and {to_daemon.sessions} "
        f"with a daemon, {min(kinds.values())} to {max(kinds.values())} broken packets of each "
        f"type, at most {most_unacknowledged} bytes without an acknowledgement, "
        f"{figures_of(memory)}; {shown}"
    )


def figures_of(memory: list[float]) -> str:
    return f"{'/'.join(f'{size:.0f}' for size in memory)} MiB"


IMPATIENT = """
import msgspec
from fastlib.cli.migfra import main
from fastlib.migfra.config.file import Configuration

patient = Configuration.mqtt_options
Configuration.mqtt_options = lambda self: msgspec.structs.replace(
    patient(self), retry_min=0.001, retry_max=0.005
)
raise SystemExit(main())
"""
"""The program `migfra`, but with short pauses between connections."""


class ImpatientProgram(Program):
    """A daemon that tries thousands of connections in a few minutes."""

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-c", IMPATIENT, "-c", str(self.configuration), *options]


@pytest.mark.load
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_memory_of_a_daemon_process_is_bounded_at_a_hostile_broker(
    tmp_path: Path,
    broker: Mosquitto,
    rounds: list[int],
    figures: Callable[[object], None],
    protocol: Protocol,
) -> None:
    limits = "limits: {inbox: 1048576, payload: 65536}\nlog: {level: error}\n"
    client_options = MqttOptions(host="127.0.0.1", port=broker.port)
    with (
        Proxy(broker.port) as way,
        HostileBroker(SEED + 2, TO_DAEMON) as hostile,
        MigfraClient.connect(client_options, timeout=DRAIN_SECONDS) as client,
    ):
        migfra = ImpatientProgram(tmp_path, way.port, limits)
        text = migfra.configuration.read_text()
        migfra.configuration.write_text(text.replace("{host:", f"{{protocol: '{protocol}', host:"))
        try:
            migfra.start(ready=False)
            assert client.stop(HOST, "vm1").result(PATIENCE).status == "success"
            memory: list[float] = []
            for goal in rounds:
                way.target = hostile.port
                way.cut()
                wait_until(
                    lambda goal=goal: hostile.sessions >= goal or hostile.failure,  # type: ignore[misc]
                    lambda: f"{hostile.sessions} sessions",
                    1200,
                )
                assert hostile.failure is None
                memory.append(resident(migfra.pid))
                way.target = broker.port
                way.cut()
                # The daemon first answers what the hostile broker has sent.
                assert client.stop(HOST, "vm1").result().status == "success"
            assert_flat(memory)
            assert not any("Traceback" in line for line in migfra.log), migfra.log
            assert migfra.terminate() == 0
        finally:
            migfra.kill()
    figures(
        f"MQTT {protocol}: a daemon process took {figures_of(memory)} "
        f"in {hostile.sessions} sessions"
    )
