"""The configuration file: read like a message, every problem at once with line and column."""

import glob
import os
import re
import socket
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec

from fastlib.codec import dispatch
from fastlib.codec.annotations import Wire
from fastlib.codec.composer import compose_all
from fastlib.codec.derivation import shape_of
from fastlib.codec.errors import MessageError, Problem, Report
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.rules import Positive, Rule
from fastlib.codec.text import decode
from fastlib.message import topics
from fastlib.message.entry_points import load_entry_points
from fastlib.migfra.errors import ConfigurationError
from fastlib.migfra.plugin_api.config_section import ConfigSection, Seconds
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.redaction import hide_user_information
from fastlib.transport import MqttOptions, OptionsError, TlsOptions
from fastlib.transport.credentials import read_password_file

from .advice import with_advice
from .hypervisor_section import HypervisorSection
from .sections import (
    HOSTNAME,
    CommunicatorSection,
    IsHost,
    JournalSection,
    LimitsSection,
    LogSection,
    MetricsSection,
    PscomSection,
    RetrySection,
)


class Configuration(ConfigSection):
    """The whole configuration of a daemon. Only `hypervisor` is required."""

    rules: ClassVar[tuple[Rule, ...]] = (
        IsHost("hostname"),
        Positive("shutdown_timeout"),
        Positive("cancel_timeout"),
        Positive("progress_interval"),
        Positive("presence_interval"),
    )

    hostname: Annotated[
        str | None, Wire("Name of this host in the cluster. Default: the system's name.")
    ] = None
    communicator: Annotated[CommunicatorSection, Wire("The broker and the topics.")] = (
        CommunicatorSection()
    )
    hypervisor: Annotated[
        HypervisorSection, Wire("The hypervisor that executes the tasks, and its options.")
    ]
    pscom_handler: Annotated[PscomSection, Wire("The topics of the pscom processes.")] = (
        PscomSection()
    )
    journal: Annotated[
        JournalSection, Wire("The record of all orders: its file and its bounds.")
    ] = JournalSection()
    limits: Annotated[LimitsSection, Wire("Bounds on simultaneous work and memory.")] = (
        LimitsSection()
    )
    retry: Annotated[RetrySection, Wire("Pauses between the tries of a task.")] = RetrySection()
    shutdown_timeout: Annotated[
        Seconds, Wire("Time that running tasks have to finish when the daemon ends.", unit="s")
    ] = 60.0
    cancel_timeout: Annotated[
        Seconds, Wire("Longest wait of `cancel task` for the end of the task.", unit="s")
    ] = 60.0
    progress_interval: Annotated[
        Seconds, Wire("Shortest time between two progress messages of a task.", unit="s")
    ] = 1.0
    presence_interval: Annotated[
        Seconds, Wire("Time between two messages with the daemon's presence and clock.", unit="s")
    ] = 30.0
    log: Annotated[LogSection, Wire("Level and format of the log.")] = LogSection()
    metrics: Annotated[
        MetricsSection | None, Wire("OpenMetrics by HTTP. Without it, no metrics are served.")
    ] = None

    @property
    def host(self) -> str:
        """Return the name of this host. Raises ValidationError if it cannot be part of a topic."""
        return topics.check_name(self.hostname or socket.gethostname(), "hostname")

    def named(self, text: str, host: str | None = None) -> str:
        """Replace `<hostname>` in a text by the name of a host, by default of this one."""
        return text.replace(HOSTNAME, host or self.host)

    def result_topic(self, host: str | None = None) -> str:
        """Return the topic of the answers to orders for a host, by default for this one."""
        return self.named(self.communicator.publish_topic, host)

    @property
    def node(self) -> NodeContext:
        """Return the facts about this host for the hypervisor."""
        pscom = self.pscom_handler
        return NodeContext(
            self.host,
            pscom_request=pscom.request_topic,
            pscom_response=pscom.response_topic,
            pscom_qos=pscom.qos,
        )

    def journal_path(self) -> Path:
        """Return the path of the journal: the configured one, or one in the directory of state."""
        if self.journal.path is not None:
            return Path(self.named(self.journal.path))
        return state_directory() / f"{self.host}.journal"

    def other_journals(self) -> list[Path]:
        """Return this machine's journals of other host names, and that without `journal.path`."""
        patterns = [f"{glob.escape(str(state_directory()))}/*.journal"]
        if self.journal.path is not None:
            before, *after = map(glob.escape, self.journal.path.split(HOSTNAME))
            if after:
                patterns.append("*".join((before, *after)))
        own = self.journal_path().absolute()
        paths = {Path(name) for pattern in patterns for name in glob.glob(pattern)}
        return sorted(path for path in paths if path.absolute() != own)

    def password_of_environment(self) -> str | None:
        """Return the password from a variable of the environment. Raises ConfigurationError."""
        variable = self.communicator.password_environment
        if variable is None:
            return None
        value = os.environ.get(variable)
        if value is None:
            # Any other text may be a password in the wrong place.
            is_name = re.fullmatch("[A-Z][A-Z0-9_]*", variable)
            name = f" {variable!r}" if is_name else " of this name"
            why = f"the environment has no variable{name}"
            raise _missing("communicator.password-environment", why)
        return value

    def tls_options(self) -> TlsOptions | None:
        """Return the certificates of TLS with the key's password. Raises ConfigurationError."""
        config = self.communicator.tls
        if config is None:
            return None
        password = None
        if config.key_password_file is not None:
            try:
                password = read_password_file(config.key_password_file, "the file")
            except OptionsError as error:
                raise _missing("communicator.tls.key-password-file", str(error)) from None
        return TlsOptions(
            ca_file=config.ca_file,
            certificate=config.certificate,
            key=config.key,
            key_password=password,
        )

    def mqtt_options(self) -> MqttOptions:
        """Return the options of the connection, with secrets.

        Raises ConfigurationError and OptionsError.
        """
        config = self.communicator
        return MqttOptions(
            host=config.host[0] if len(config.host) == 1 else config.host,
            port=config.port,
            websocket_path=config.websocket_path,
            client_id=self.named(config.id),
            persistent=True,
            session_expiry=config.session_expiry,
            protocol=config.protocol,
            username=config.username,
            password=self.password_of_environment(),
            password_file=config.password_file,
            tls=self.tls_options(),
            content_type="application/yaml",
            keep_alive=config.keepalive,
            qos=0 if config.qos == 0 else 2,
            largest_packet=config.largest_packet,
            retry_min=config.retry_min,
            retry_max=config.retry_max,
            max_payload=self.limits.payload,
            max_queued=self.limits.inbox,
            max_unacknowledged=self.limits.unacknowledged,
        )


def _missing(path: str, why: str) -> ConfigurationError:
    return ConfigurationError("configuration", [Problem(code="secret", message=why, path=path)])


def state_directory() -> Path:
    """Return the directory of the journals: systemd's STATE_DIRECTORY, or the usual place."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/migfra")
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(home) / "migfra"


def check(text: str | bytes) -> Report:
    """Return every problem of a configuration, and the configuration if it can be used.

    An unknown key is an error. Otherwise an operator would notice a misspelt option only when it is
    needed. A package whose messages cannot be loaded is a warning.
    """
    broken = [
        Problem(code="extension", message=str(extension), severity="warning")
        for extension in load_entry_points()
    ]
    shape = shape_of(Configuration)
    report = dispatch.inspect(lambda node, context: shape, text, what="configuration")[0]
    problems = broken + [_strict(with_advice(problem, shape)) for problem in report.problems]
    if report.ok:  # else the text may not be readable
        problems += _more_documents(text)
    failed = any(problem.severity == "error" for problem in problems)
    return Report(None if failed else report.message, problems)


def _more_documents(text: str | bytes) -> list[Problem]:
    """Return the problem of a second document, which nothing reads."""
    try:
        documents = compose_all(decode(text, DEFAULT_LIMITS, ""), DEFAULT_LIMITS, "configuration")
        another = next((root for root in islice(documents, 1, None) if root is not None), None)
    except MessageError as error:
        return [*error.problems]
    if another is None:
        return []
    message = (
        "the configuration must be one document, and this is another one; remove it, or the line "
        "'---' before it"
    )
    return [Problem(code="document", message=message, line=another.line, column=another.column)]


def _strict(problem: Problem) -> Problem:
    """Return a problem without passwords of URLs, as an error if a daemon cannot start with it."""
    hidden = hide_user_information(problem.message)
    if hidden != problem.message:
        problem = msgspec.structs.replace(problem, message=hidden)
    if problem.code == "unknown-key":
        message = problem.message.replace(", ignored by every peer", "")
        return msgspec.structs.replace(problem, severity="error", message=message)
    if problem.code == "old-key":
        return msgspec.structs.replace(problem, severity="error")
    return problem


def read(text: str | bytes) -> Configuration:
    """Return the configuration of a text. Raises ConfigurationError with every problem."""
    report = check(text)
    if not report.ok:
        raise ConfigurationError("configuration", report.errors)
    assert isinstance(report.message, Configuration)
    return report.message
