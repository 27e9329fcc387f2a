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
"""Replaced by the host's name in the texts of the communicator and in paths."""


class IsTopic(ValueRule):
    """A text, if it is given, must be a topic; with `wildcards`, a topic filter."""

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
    """A text, if it is given, must be a host name that can be part of a topic."""

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
    """It must be brokers, and not their URLs, which may contain a password."""

    def problem_with(self, value: Any) -> str | None:
        try:
            check_host(value[0]) if len(value) == 1 else check_hosts(value)
        except OptionsError as error:
            return str(error)
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must be names or addresses, and no URL"

    def value_schema(self) -> dict[str, Any]:
        wrong = {"type": "string", "pattern": "://|@|,|^$"}
        return {"not": wrong, "items": {"not": wrong}}


class IsWebsocketPath(ValueRule):
    """A text, if it is given, must be the path of a URL."""

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
    """How the broker is known, and how the daemon is known to it."""

    example: ClassVar[str] = (
        "{ca-file: /etc/ssl/broker-ca.pem}, or {} for the certificates of the system; without the "
        "key there is no TLS"
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Requires("key", "certificate"),
        Requires("key_password_file", "certificate"),
    )

    ca_file: Annotated[
        str | None, Wire("Certificates (PEM) of those who vouch for the broker.")
    ] = None
    certificate: Annotated[str | None, Wire("The daemon's own certificate (PEM).")] = None
    key: Annotated[str | None, Wire("The certificate's key (PEM), if in another file.")] = None
    key_password_file: Annotated[
        str | None, Wire("A file whose first line is the password of the key.")
    ] = None


_SECRET = {
    "password": "a password does not stand in the configuration; write it into a file and name "
    "that by 'password-file', or into a variable of the environment named by "
    "'password-environment'"
}


class CommunicatorSection(ConfigSection):
    """The broker, and the topics."""

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

    type: Annotated[Literal["mqtt"], Wire("How messages travel.")] = "mqtt"
    id: Annotated[str, Wire("Client id, unique at the broker.")] = f"fast-migfra-{HOSTNAME}"
    host: Annotated[
        BrokerHosts,
        Wire("Host of the broker, or a list of brokers: the next one is tried if one is away."),
    ] = BrokerHosts(("localhost",))
    port: Annotated[Port | None, Wire("Port of the broker; absent is 1883, or 8883 with TLS.")] = (
        None
    )
    websocket_path: Annotated[
        str | None, Wire("Path of MQTT over WebSockets, such as /mqtt; absent is MQTT over TCP.")
    ] = None
    keepalive: Annotated[
        Annotated[int, Meta(ge=5, le=65535)],
        Wire("After how long without traffic the connection is checked.", unit="s"),
    ] = 60
    subscribe_topic: Annotated[str, Wire("Where tasks come.")] = f"fast/migfra/{HOSTNAME}/task"
    publish_topic: Annotated[str, Wire("Where results go.")] = f"fast/migfra/{HOSTNAME}/result"
    protocol: Annotated[Literal["3.1.1", "5"], Wire("Version of MQTT.")] = "3.1.1"
    qos: Annotated[
        Annotated[int, Meta(ge=0, le=2)],
        Wire("Quality of service of the results; 0 if the broker supports no other, for all."),
    ] = 1
    largest_packet: Annotated[
        Annotated[int, Meta(ge=1, le=268_435_460)] | None,
        Wire(
            "Largest packet that the broker takes; absent means what it says with MQTT 5.",
            unit="bytes",
        ),
    ] = None
    retry_min: Annotated[
        Seconds,
        Wire("Pause before the first retries of a lost connection; then it doubles.", unit="s"),
    ] = 0.5
    retry_max: Annotated[Seconds, Wire("Longest pause between retries.", unit="s")] = 30.0
    session_expiry: Annotated[
        Annotated[int, Meta(ge=0, le=0xFFFFFFFF)],
        Wire("MQTT 5: how long the broker keeps tasks for a daemon that is away.", unit="s"),
    ] = 604_800
    username: Annotated[str | None, Wire("User at the broker.")] = None
    password_file: Annotated[
        str | None, Wire("A file whose first line is the password.", old=_SECRET)
    ] = None
    password_environment: Annotated[
        str | None, Wire("The variable of the environment that holds the password.")
    ] = None
    tls: Annotated[TlsSection | None, Wire("Encryption; absent means none.")] = None


class PscomSection(ConfigSection):
    """How pscom processes in a domain are asked to suspend and resume their connections."""

    example: ClassVar[str] = "{qos: 1}"

    rules: ClassVar[tuple[Rule, ...]] = (
        IsTopic("request_topic"),
        IsTopic("response_topic", wildcards=True),
    )

    request_topic: Annotated[str, Wire("Where they are asked.")] = (
        "fast/pscom/<vm_name>/any_proc/request"
    )
    response_topic: Annotated[str, Wire("Where they answer.")] = "fast/pscom/<vm_name>/+/response"
    qos: Annotated[Annotated[int, Meta(ge=0, le=2)], Wire("Quality of service.")] = 0


class JournalSection(ConfigSection):
    """Where it is written down what was accepted and answered, and for how long."""

    example: ClassVar[str] = "{path: /var/lib/migfra/node01.journal}"
    example_key: ClassVar[str | None] = "path"

    rules: ClassVar[tuple[Rule, ...]] = (NotEmpty("path"), Positive("max_age"))

    path: Annotated[
        str | None,
        Wire("The file; absent means in the directory of state, such as /var/lib/migfra."),
    ] = None
    max_age: Annotated[
        Seconds,
        Wire(
            "How long an order is remembered after its result was sent, counted while the daemon "
            "runs.",
            unit="s",
        ),
    ] = 604_800.0
    repetition_window: Annotated[
        Seconds,
        Wire(
            "The same bytes with the same id, without an idempotency key, are one order if they "
            "come again within this time.",
            unit="s",
        ),
    ] = 5.0
    max_size: Annotated[
        Annotated[int, Meta(ge=1, le=1 << 20)],
        Wire("Size from which what was answered is forgotten earlier.", unit="MiB"),
    ] = 64


class LimitsSection(ConfigSection):
    """How much the daemon takes on at once; the rest waits in order."""

    example: ClassVar[str] = "{containers: 32}"

    containers: Annotated[Count, Wire("Containers at work.")] = 32
    members: Annotated[Count, Wire("Members of containers at work, all together.")] = 64
    payload: Annotated[
        Annotated[int, Meta(ge=1024, le=16 << 20)],
        Wire("Largest task container that is read.", unit="bytes"),
    ] = 4 << 20
    container_members: Annotated[Count, Wire("Members of a container that is accepted.")] = 10_000
    queries: Annotated[Count, Wire("Queries answered at the same time.")] = 8
    inbox: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 40)],
        Wire(
            "Memory of messages that have come and are not accepted or answered yet, estimated. "
            "What comes beyond with QoS 0 is dropped; with QoS 1 and 2 the broker waits.",
            unit="bytes",
        ),
    ] = 16 << 20
    parsed: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 40)],
        Wire(
            "Memory of accepted containers, estimated; those beyond wait in the journal only.",
            unit="bytes",
        ),
    ] = 64 << 20
    waiting: Annotated[
        Annotated[int, Meta(ge=1 << 20, le=1 << 40)],
        Wire(
            "Containers that wait in the journal, and answers that the broker has not confirmed, "
            "each counted with 2 KiB beside its text; what comes beyond is refused.",
            unit="bytes",
        ),
    ] = 64 << 20

    @property
    def unacknowledged(self) -> int:
        """Bytes of messages with QoS 1 and 2 that are not acknowledged, at most.

        A broker that sends more keeps to no window. Mosquitto sends 20 messages by default, and 20
        others after it has lost the session.
        """
        return max(8 * self.inbox, 48 * self.payload)


class RetrySection(ConfigSection):
    """Pauses between the tries of a task with a retry counter; they double."""

    example: ClassVar[str] = "{first: 1, longest: 60}"

    rules: ClassVar[tuple[Rule, ...]] = (
        Positive("first"),
        Positive("longest"),
        AtMost("first", "longest"),
    )

    first: Annotated[Seconds, Wire("The first pause.", unit="s")] = 1.0
    longest: Annotated[Seconds, Wire("No pause is longer.", unit="s")] = 60.0


class LogSection(ConfigSection):
    """What is logged, and how."""

    example: ClassVar[str] = "{level: info}"
    example_key: ClassVar[str | None] = "level"

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Wire("From which severity on; read again on SIGHUP."),
    ] = "info"
    format: Annotated[Literal["text", "json"], Wire("Lines for people, or JSON for programs.")] = (
        "text"
    )


class MetricsSection(ConfigSection):
    """Where OpenMetrics are served by HTTP."""

    example: ClassVar[str] = "{port: 9741}"
    example_key: ClassVar[str | None] = "port"

    rules: ClassVar[tuple[Rule, ...]] = (NotEmpty("address"),)  # an empty one would mean all

    address: Annotated[str, Wire("The address to listen at.")] = "127.0.0.1"
    port: Annotated[Port, Wire("The port to listen at.")] = 9741
