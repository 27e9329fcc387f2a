"""The sections of the configuration file as types (the protocol's section 6, and new ones)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta

from fastlib.codec.annotations import Wire
from fastlib.codec.errors import ValidationError
from fastlib.codec.rules import (
    AtMost,
    Exclusive,
    NotEmpty,
    Positive,
    Requires,
    Rule,
    ValueRule,
)
from fastlib.message import topics
from fastlib.migfra.plugin_api.config_section import ConfigSection, Count, Port, Seconds
from fastlib.transport import OptionsError, TopicError
from fastlib.transport.broker_url import check_host, check_hosts, check_path
from fastlib.transport.filters import check_filter, check_topic

from .broker_hosts import BrokerHosts

HOSTNAME = "<hostname>"
"""Placeholder of the host's name in the texts of the communicator and in paths."""


class IsTopic(ValueRule):
    """Rule: a given text must be a topic; with `wildcards`, a topic filter."""

    def __init__(self, attribute: str, *, wildcards: bool = False) -> None:
        super().__init__(attribute)
        self._wildcards: Final = wildcards
        self._check = check_filter if wildcards else check_topic

    def problem_with(self, value: Any) -> str | None:
        try:
            self._check(value)
        except TopicError as error:
            return f"the topic {error.why}"
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        kind = "a topic filter" if self._wildcards else "a topic without wildcards"
        return f"{keys[self.attribute]} must be {kind}"

    def value_schema(self) -> dict[str, Any]:
        if self._wildcards:  # `+` and `#` are a level of their own, and `#` is the last one
            return {"minLength": 1, "not": {"type": "string", "pattern": "[^/][+#]|[+#][^/]|#/"}}
        return {"minLength": 1, "not": {"type": "string", "pattern": "[+#]"}}


class IsHost(ValueRule):
    """Rule: a given text must be a host name that can be part of a topic."""

    def problem_with(self, value: Any) -> str | None:
        try:
            topics.check_name(value, self.attribute)
        except ValidationError as error:
            return error.problems[0].message
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must be a name that can be one level of a topic"

    def value_schema(self) -> dict[str, Any]:
        return {"minLength": 1, "not": {"type": "string", "pattern": "[/+#]"}}


class IsBrokerHost(ValueRule):
    """Rule: values must be names or addresses of brokers. A URL may contain a password."""

    def problem_with(self, value: Any) -> str | None:
        try:
            check_host(value[0]) if len(value) == 1 else check_hosts(value)
        except OptionsError as error:
            return str(error)
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must be names or addresses, not URLs"

    def value_schema(self) -> dict[str, Any]:
        wrong = {"type": "string", "pattern": "://|@|,|^$"}
        return {"not": wrong, "items": {"not": wrong}}


class IsWebsocketPath(ValueRule):
    """Rule: a given text must be the path of a URL."""

    def problem_with(self, value: Any) -> str | None:
        try:
            check_path(value)
        except OptionsError as error:
            return str(error)
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must begin with '/', without spaces, '?' and '#'"

    def value_schema(self) -> dict[str, Any]:
        return {"pattern": r"^/[^ ?#]*$"}


class TlsSection(ConfigSection):
    """Certificates by which the daemon checks the broker, and its own for the broker."""

    example: ClassVar[str] = (
        "{ca-file: /etc/ssl/broker-ca.pem}, or {} for the certificates of the system; without the "
        "key there is no TLS"
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Requires("key", "certificate"),
        Requires("key_password_file", "certificate"),
    )

    ca_file: Annotated[
        str | None,
        Wire(
            "File with the certificates (PEM) that sign the broker's. Default: those of the system."
        ),
    ] = None
    certificate: Annotated[str | None, Wire("File with the daemon's own certificate (PEM).")] = None
    key: Annotated[
        str | None, Wire("File with the key of the certificate (PEM), if it is another one.")
    ] = None
    key_password_file: Annotated[
        str | None, Wire("File whose first line is the password of the key.")
    ] = None


_SECRET = {
    "password": "the configuration must not contain a password; write it into a file and name "
    "that by 'password-file', or into a variable of the environment named by "
    "'password-environment'"
}


class CommunicatorSection(ConfigSection):
    """The broker and the topics."""

    example: ClassVar[str] = "{host: broker.example.org}"
    example_key: ClassVar[str | None] = "host"

    rules: ClassVar[tuple[Rule, ...]] = (
        NotEmpty("id"),
        IsBrokerHost("host"),
        IsWebsocketPath("websocket_path"),
        IsTopic("subscribe_topic", wildcards=True),
        IsTopic("publish_topic"),
        Requires("password_file", "username"),
        Requires("password_environment", "username"),
        Exclusive("password_file", "password_environment"),
        Positive("retry_min"),
        Positive("retry_max"),
        AtMost("retry_min", "retry_max"),
    )

    type: Annotated[Literal["mqtt"], Wire("Transport of the messages.")] = "mqtt"
    id: Annotated[str, Wire("Client id of the daemon, unique at the broker.")] = (
        f"fast-migfra-{HOSTNAME}"
    )
    host: Annotated[
        BrokerHosts,
        Wire(
            "Host of the broker, or a list of brokers. If one is away, the daemon tries the next."
        ),
    ] = BrokerHosts(("localhost",))
    port: Annotated[
        Port | None,
        Wire(
            "Port of the broker. Default: 1883, or 8883 with TLS; with websocket-path 80, "
            "or 443 with TLS."
        ),
    ] = None
    websocket_path: Annotated[
        str | None,
        Wire(
            "Path of MQTT over WebSockets, such as /mqtt. Without it, the daemon uses MQTT "
            "over TCP."
        ),
    ] = None
    keepalive: Annotated[
        Annotated[int, Meta(ge=5, le=65535)],
        Wire("Time without traffic after which the connection is checked.", unit="s"),
    ] = 60
    subscribe_topic: Annotated[str, Wire("Topic filter of the tasks.")] = (
        f"fast/migfra/{HOSTNAME}/task"
    )
    publish_topic: Annotated[str, Wire("Topic of the results.")] = f"fast/migfra/{HOSTNAME}/result"
    protocol: Annotated[Literal["3.1.1", "5"], Wire("Version of MQTT.")] = "3.1.1"
    qos: Annotated[
        Annotated[int, Meta(ge=0, le=2)],
        Wire(
            "Quality of service of the results. If the broker supports only 0, write 0: it "
            "is then used for all messages."
        ),
    ] = 1
    largest_packet: Annotated[
        Annotated[int, Meta(ge=1, le=268_435_460)] | None,
        Wire(
            "Largest packet that the broker accepts. Default: the limit that the broker "
            "reports with MQTT 5.",
            unit="bytes",
        ),
    ] = None
    retry_min: Annotated[
        Seconds,
        Wire(
            "Pause before each of the first three tries to connect again. After these, it doubles.",
            unit="s",
        ),
    ] = 0.5
    retry_max: Annotated[Seconds, Wire("Longest pause between tries to connect.", unit="s")] = 30.0
    session_expiry: Annotated[
        Annotated[int, Meta(ge=0, le=0xFFFFFFFF)],
        Wire("Time that the broker keeps tasks for a daemon that is away (MQTT 5).", unit="s"),
    ] = 604_800
    username: Annotated[str | None, Wire("Name of the daemon's user at the broker.")] = None
    password_file: Annotated[
        str | None, Wire("File whose first line is the password.", old=_SECRET)
    ] = None
    password_environment: Annotated[
        str | None, Wire("Variable of the environment that has the password.")
    ] = None
    tls: Annotated[
        TlsSection | None,
        Wire("Encryption of the connection. Without it, the connection is not encrypted."),
    ] = None


class PscomSection(ConfigSection):
    """The topics by which pscom processes in a domain suspend and resume their connections."""

    example: ClassVar[str] = "{qos: 1}"

    rules: ClassVar[tuple[Rule, ...]] = (
        IsTopic("request_topic"),
        IsTopic("response_topic", wildcards=True),
    )

    request_topic: Annotated[str, Wire("Topic of the requests.")] = (
        "fast/pscom/<vm_name>/any_proc/request"
    )
    response_topic: Annotated[str, Wire("Topic filter of the responses.")] = (
        "fast/pscom/<vm_name>/+/response"
    )
    qos: Annotated[
        Annotated[int, Meta(ge=0, le=2)], Wire("Quality of service of the requests and responses.")
    ] = 0


class JournalSection(ConfigSection):
    """The record on the disk of all orders that were accepted and answered."""

    example: ClassVar[str] = "{path: /var/lib/migfra/node01.journal}"
    example_key: ClassVar[str | None] = "path"

    rules: ClassVar[tuple[Rule, ...]] = (NotEmpty("path"), Positive("max_age"))

    path: Annotated[
        str | None,
        Wire(
            "The file. Default: <hostname>.journal in the directory of state, such as "
            "/var/lib/migfra."
        ),
    ] = None
    max_age: Annotated[
        Seconds,
        Wire(
            "Time that an order is remembered after its result was sent. Only the time in "
            "which the daemon runs counts.",
            unit="s",
        ),
    ] = 604_800.0
    repetition_window: Annotated[
        Seconds,
        Wire(
            "Time in which a repeated message without an idempotency key is the same order, "
            "if its bytes and its id are the same.",
            unit="s",
        ),
    ] = 5.0
    max_size: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 20)],
        Wire("Size of the file above which answered orders are forgotten earlier.", unit="MiB"),
    ] = 64


class LimitsSection(ConfigSection):
    """Bounds on the work and the memory of the daemon. Further work waits in order."""

    example: ClassVar[str] = "{containers: 32}"

    containers: Annotated[Count, Wire("Containers that are executed at once.")] = 32
    members: Annotated[
        Count, Wire("Members that are executed at once, in all containers together.")
    ] = 64
    payload: Annotated[
        Annotated[int, Meta(ge=1024, le=16 << 20)],
        Wire("Size of the largest task container that is read.", unit="bytes"),
    ] = 4 << 20
    container_members: Annotated[
        Count, Wire("Largest number of members of a container that is accepted.")
    ] = 10_000
    queries: Annotated[Count, Wire("Queries that are answered at once.")] = 8
    inbox: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 40)],
        Wire(
            "Estimated memory of received messages that are not accepted or answered yet. "
            "Beyond it, messages with QoS 0 are dropped, and the broker waits with those of "
            "QoS 1 and 2.",
            unit="bytes",
        ),
    ] = 16 << 20
    parsed: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 40)],
        Wire(
            "Estimated memory of accepted containers. Further ones wait in the journal only.",
            unit="bytes",
        ),
    ] = 64 << 20
    waiting: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 40)],
        Wire(
            "Size of the containers that wait in the journal or run, and of the answers "
            "that the broker has not confirmed. Each counts with its text and 2 KiB. Orders "
            "beyond it are refused.",
            unit="bytes",
        ),
    ] = 64 << 20

    @property
    def unacknowledged(self) -> int:
        """Largest size of all messages with QoS 1 and 2 that are not acknowledged, in bytes.

        A broker that exceeds it has no window. Mosquitto sends 20 messages by default, and 20
        others after it has lost the session.
        """
        return max(8 * self.inbox, 48 * self.payload)


class RetrySection(ConfigSection):
    """Pauses between the tries of a task with a retry counter; each is twice the one before."""

    example: ClassVar[str] = "{first: 1, longest: 60}"

    rules: ClassVar[tuple[Rule, ...]] = (
        Positive("first"),
        Positive("longest"),
        AtMost("first", "longest"),
    )

    first: Annotated[Seconds, Wire("The first pause.", unit="s")] = 1.0
    longest: Annotated[Seconds, Wire("The longest pause.", unit="s")] = 60.0


class LogSection(ConfigSection):
    """Level and format of the log."""

    example: ClassVar[str] = "{level: info}"
    example_key: ClassVar[str | None] = "level"

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Wire("Lowest severity that is logged. The daemon reads it again on SIGHUP."),
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Wire("text: lines for people; json: JSON for programs.")
    ] = "text"


class MetricsSection(ConfigSection):
    """Address of the OpenMetrics that are served by HTTP."""

    example: ClassVar[str] = "{port: 9741}"
    example_key: ClassVar[str | None] = "port"

    rules: ClassVar[tuple[Rule, ...]] = (
        NotEmpty("address"),
    )  # an empty address would mean all addresses

    address: Annotated[str, Wire("Address to listen at.")] = "127.0.0.1"
    port: Annotated[Port, Wire("Port to listen at.")] = 9741
