"""Run mosquitto for tests: on a free loopback port, in its own directory."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import Self

PATIENCE = 180
"""Seconds until something that must come is given up."""

MISSING = (
    "mosquitto is not installed, and the tests of the transport need it: "
    "apt-get update && apt-get install -y --no-install-recommends mosquitto"
)


def free_port() -> int:
    """Return a loopback port on which nothing listens, reserved until the end of this process.

    A bound socket that does not listen reserves the port: the system gives it to no other program
    that asks for any free port, also in parallel workers. A server may still listen on it, because
    servers set SO_REUSEADDR.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    port: int = reservation.getsockname()[1]
    reservation.detach()  # the file descriptor stays open
    return port


def port_to_bind() -> int:
    """Return a loopback port for a server that does not listen on a reserved one.

    It is below the ports that the system gives to programs which ask for any. So no other program
    gets it before the server listens.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(10_000, lowest) if lowest > 12_000 else range(10_000, 60_000)
    while True:
        port = SystemRandom().choice(ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def find(program: str) -> str:
    """Return the path of a program of mosquitto. Raises RuntimeError with the install command."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError(MISSING)
    return found


class Certificates:
    """A certificate authority, a broker's certificate for 127.0.0.1 and a client's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.ca = directory / "ca.pem"
        self.ca_key = directory / "ca.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=test authority", "-keyout", self.ca_key, "-out", self.ca),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),  # Python 3.13 requires it
        )
        self.broker = self._signed("broker", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.client = self._signed("client", "extendedKeyUsage=clientAuth")

    def _signed(self, name: str, extension: str) -> Path:
        request = self.directory / f"{name}.csr"
        certificate = self.directory / f"{name}.pem"
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", self.key(certificate), "-out", request),
        )
        extensions = self.directory / f"{name}.ext"
        # Python 3.13 requires the key of the authority.
        extensions.write_text(f"{extension}\nauthorityKeyIdentifier=keyid\n")
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate),
        )
        return certificate

    @staticmethod
    def key(certificate: Path) -> Path:
        return certificate.with_suffix(".key")

    @staticmethod
    def _openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Mosquitto:
    """A broker process: `start`, then `kill` (SIGKILL) or `stop` (SIGTERM), and again `start`."""

    def __init__(
        self,
        directory: Path,
        *,
        persistence: bool = False,
        password: tuple[str, str] | None = None,
        passwords: Mapping[str, str] | None = None,
        certificates: Certificates | None = None,
        client_certificates: bool = False,
        settings: tuple[str, ...] = (),
        whole: Callable[["Mosquitto", Path], str] | None = None,
    ) -> None:
        """`whole` makes the whole configuration, from this object and the file of the passwords."""
        known = dict(passwords or {}) | dict([password] if password else [])
        directory.mkdir(exist_ok=True)
        self.port = free_port()
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._configuration = directory / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "log_dest stderr",
            "connection_messages true",
            "max_packet_size 268435455",  # mosquitto 2.1 has a default of 2,000,000
            f"allow_anonymous {str(not known).lower()}",
        ]
        if os.getuid() == 0:
            lines.append("user root")  # otherwise it cannot read the directory
        if known:
            file = directory / "passwords"
            file.write_text("".join(f"{user}:{word}\n" for user, word in known.items()))
            command = [find("mosquitto_passwd"), "-U", str(file)]  # encrypts them
            subprocess.run(command, check=True, capture_output=True)
            lines.append(f"password_file {file}")
        if certificates is not None:
            lines += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.broker}",
                f"keyfile {certificates.key(certificates.broker)}",
                f"require_certificate {str(client_certificates).lower()}",
            ]
        if persistence:
            lines += [
                "persistence true",
                f"persistence_location {directory}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        text = "\n".join([*lines, *settings, ""])
        if whole is not None:
            text = "\n".join([*lines[1:3], whole(self, directory / "passwords")])
            text += "\nuser root\n" if os.getuid() == 0 else ""
        self._configuration.write_text(text)

    def start(self) -> Self:
        assert self._process is None, "it runs, and would be left behind"
        process = subprocess.Popen(
            [find("mosquitto"), "-c", str(self._configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = threading.Event()

        def read() -> None:
            assert process.stderr is not None
            with process.stderr:
                for line in process.stderr:
                    self.log.append(line)
                    if " running" in line:
                        running.set()
            running.set()

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()
        self._process = process
        if not running.wait(PATIENCE) or process.poll() is not None:
            self.kill()
            raise AssertionError(f"mosquitto does not start: {''.join(self.log)}")
        return self

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()  # else it would be left behind if it has not ended in time
                process.wait(PATIENCE)
            assert self._reader is not None
            self._reader.join(PATIENCE)  # the log must be complete before the next start

    def reload(self) -> None:
        """Read the configuration and the access list again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        """Stop the process with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
