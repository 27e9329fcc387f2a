"""The brokers of the matrix, each started on free ports of this machine."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastlib.transport import EmbeddedBroker, MqttOptions, TlsOptions, connect
from fastlib.transport.errors import TransportError
from tests.support.bridged import bridged_brokers
from tests.support.mosquitto import PATIENCE, Certificates, Mosquitto, find, free_port, port_to_bind
from tests.support.npm_packages import installed
from tests.support.waiting import wait_until

INSTALL_RABBITMQ: Final = "as root: tests/support/brokers/install_rabbitmq"
INSTALL_NPM: Final = "install node 20 or newer with npm"


class Place:
    """A running broker, or several that pass on each other's messages."""

    def __init__(
        self,
        ports: tuple[int, ...],
        restart: Callable[[], None],
        **options: Any,
    ) -> None:
        """`ports` are those of the first and of the last broker; `options` are of MqttOptions."""
        self.ports: Final = ports
        self.restart: Final = restart
        """End the broker in order, and start it again."""
        self._options = options

    def options(self, port: int, **more: Any) -> MqttOptions:
        """Return the options of a connection, with quick retries."""
        fixed: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "retry_min": 0.05,
            "retry_max": 0.5,
        }
        return MqttOptions(**(fixed | self._options | {"port": port} | more))


@contextmanager
def _mosquitto(directory: Path, _config: pytest.Config, **options: Any) -> Iterator[Place]:
    certificates = None
    if options.pop("tls", False):
        certificates = Certificates(directory / "tls")
        options["tls"] = TlsOptions(ca_file=certificates.ca)
    settings: tuple[str, ...] = ()
    if "websocket_path" in options:
        port = port_to_bind()  # libwebsockets does not listen on a port that is reserved
        settings = (f"listener {port} 127.0.0.1", "protocol websockets")
    broker = Mosquitto(
        directory / "broker", persistence=True, certificates=certificates, settings=settings
    )

    def restart() -> None:
        broker.stop()
        broker.start()

    with broker:
        port = port if settings else broker.port
        yield Place((port, port), restart, **options)


def _has_websockets() -> bool:
    return b"libwebsockets" in Path(find("mosquitto")).read_bytes()


@contextmanager
def _bridged(directory: Path, _config: pytest.Config) -> Iterator[Place]:
    with bridged_brokers(directory) as (first, second):

        def restart() -> None:
            for broker in (first, second):
                broker.stop()
                broker.start()
            _wait_for_bridge(place)

        place = Place((first.port, second.port), restart)
        _wait_for_bridge(place)
        yield place


def _wait_for_bridge(place: Place) -> None:
    """Wait until a message comes through in each direction."""
    one, other = (connect(place.options(port), timeout=PATIENCE) for port in place.ports)
    with one, other:
        for sender, receiver in ((one, other), (other, one)):
            arrived: list[object] = []
            receiver.subscribe("bridge/up", arrived.append)

            def passes(sender: Any = sender, arrived: Any = arrived) -> bool:
                sender.send(b"", "bridge/up").wait(PATIENCE)
                return len(arrived) > 0

            wait_until(passes, "the bridge", PATIENCE)


@contextmanager
def _amqtt(_directory: Path, _config: pytest.Config) -> Iterator[Place]:
    broker = EmbeddedBroker(port=0)

    def restart() -> None:
        broker.stop()
        again = EmbeddedBroker(port=place.ports[0])
        again.start()
        running.append(again)

    running = [broker]
    with broker:
        place = Place((broker.port, broker.port), restart)
        yield place
        for each in running:
            each.stop()


@contextmanager
def _aedes(_directory: Path, config: pytest.Config) -> Iterator[Place]:
    folder = installed(config, "aedes")
    port = free_port()
    running: list[subprocess.Popen[str]] = []

    def start() -> None:
        process = subprocess.Popen(
            ["node", "broker.mjs", str(port)], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    def stop() -> None:
        process = running.pop()
        process.terminate()
        with process:
            process.wait(PATIENCE)

    def restart() -> None:
        stop()
        start()

    try:
        start()
        yield Place((port, port), restart)
    finally:
        stop()


@contextmanager
def _rabbitmq(directory: Path, _config: pytest.Config) -> Iterator[Place]:
    """A separate node, which does not disturb the service of the machine."""
    port, own_port, epmd_port = free_port(), free_port(), free_port()
    (directory / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
    (directory / "rabbitmq.conf").write_text(
        f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\n"
        "mqtt.allow_anonymous = true\nlog.console = false\n"
    )
    environment = {
        **os.environ,
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_NODENAME": f"fastlib{port}@localhost",
        "RABBITMQ_DIST_PORT": str(own_port),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(directory / "expanded"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
    }
    program = _rabbitmq_server()
    assert program is not None
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (directory / "output").open("ab") as output:
            process = subprocess.Popen([program], env=environment, stdout=output, stderr=output)
        running.append(process)

        def listens() -> bool:
            assert process.poll() is None, (directory / "output").read_text()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                return False
            return True

        wait_until(listens, "RabbitMQ", 300)

    def stop() -> None:
        process = running.pop()
        process.terminate()
        process.wait(300)

    def restart() -> None:
        stop()
        start()

    try:
        start()
        yield Place((port, port), restart)
    finally:
        while running:
            stop()
        if epmd := shutil.which("epmd"):
            subprocess.run([epmd, "-port", str(epmd_port), "-kill"], capture_output=True)


def _rabbitmq_server() -> str | None:
    # The program in the PATH becomes another user, who cannot write into the folder of a test.
    path = "/usr/lib/rabbitmq/bin:/usr/local/lib/rabbitmq/bin:/opt/rabbitmq/sbin"
    return shutil.which("rabbitmq-server", path=path)


class Kind:
    """A column of the table."""

    def __init__(
        self,
        name: str,
        start: Callable[..., Any],
        *,
        is_slow: bool = False,
        missing: Callable[[], str | None] = lambda: None,
        **options: Any,
    ) -> None:
        self.name: Final = name
        self.is_slow: Final = is_slow
        """True if it is only run with `--long`."""
        self.missing: Final = missing
        """Returns how to install it if it is missing, else None."""
        self._start = start
        self._options = options

    @contextmanager
    def running(self, directory: Path, config: pytest.Config) -> Iterator[Place]:
        """Start the broker, and end it with the block."""
        with self._start(directory, config, **self._options) as place:
            # It may listen before it works.
            wait_until(lambda: _accepts(place), self.name, PATIENCE)
            yield place


def _accepts(place: Place) -> bool:
    try:
        connect(place.options(place.ports[-1]), timeout=PATIENCE).close()
    except TransportError:
        return False
    return True


KINDS: Final = (
    Kind("mosquitto, MQTT 3.1.1", _mosquitto),
    Kind("mosquitto, MQTT 5", _mosquitto, protocol="5"),
    Kind("mosquitto, TLS", _mosquitto, protocol="5", tls=True),
    Kind(
        "mosquitto, WebSockets",
        _mosquitto,
        missing=lambda: None if _has_websockets() else "its build has no libwebsockets",
        protocol="5",
        websocket_path="/mqtt",
    ),
    Kind("two bridged mosquittos", _bridged),
    Kind(
        "RabbitMQ",
        _rabbitmq,
        is_slow=True,
        missing=lambda: None if _rabbitmq_server() else INSTALL_RABBITMQ,
    ),
    Kind(
        "aedes",
        _aedes,
        missing=lambda: None if shutil.which("npm") and shutil.which("node") else INSTALL_NPM,
    ),
    Kind("amqtt", _amqtt),
)
