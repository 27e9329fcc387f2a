"""The options of a connection: broker, credentials, session and retries."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import msgspec

from fastlib.argument_checks import check_fields, check_names

from .broker_url import check_host, check_hosts, check_path, host_and_port, parse_broker_url
from .credentials import check_credential
from .errors import OptionsError
from .filters import check_filter, check_qos, check_topic
from .memory.broker import MemoryBroker

_DEFAULT_PORTS: Final = {
    (False, False): 1883,
    (True, False): 8883,
    (False, True): 80,
    (True, True): 443,
}
"""The default port by (with TLS, over WebSockets)."""

LARGEST_ID: Final = 65535
LONGEST_PAUSE: Final = 1_000_000
"""The maximum pause between two tries to connect, in seconds: 12 days."""

_SECRET: Final = ("password", "key_password")


class _OptionsMeta(msgspec.StructMeta):
    # It has no docstring, because `__doc__` of a metaclass is that of its classes.

    if not TYPE_CHECKING:

        def __call__(cls, *arguments: Any, **named: Any) -> Any:
            """Construct options. Raises TypeError with the class and every unknown keyword."""
            check_names(cls.__name__, named, cls.__struct_fields__)
            return super().__call__(*arguments, **named)


class Will(msgspec.Struct, frozen=True, kw_only=True, metaclass=_OptionsMeta):
    """A message that the broker publishes if the client vanishes without a DISCONNECT."""

    topic: str
    payload: bytes = b""
    qos: int = 1
    retain: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_topic(self.topic)
        check_qos(self.qos)


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True, metaclass=_OptionsMeta):
    """The certificates for TLS."""

    ca_file: Path | str | None = None
    """Certificates (PEM) of the authorities that the client trusts; None is the system's."""
    certificate: Path | str | None = None
    """The client's certificate (PEM), if the broker requires one."""
    key: Path | str | None = None
    """The certificate's key (PEM), if it is not in the same file."""
    key_password: str | None = None
    """The password of the key. Never shown or logged."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.certificate is None and (self.key or self.key_password) is not None:
            raise OptionsError(
                "`key` and `key_password` belong to a `certificate`, which is missing"
            )

    def __repr__(self) -> str:
        return _without_secrets(self)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(_shown(self))


class MqttOptions(msgspec.Struct, frozen=True, kw_only=True, metaclass=_OptionsMeta):
    """An MQTT broker for `connect` and `connect_async`.

    Raises OptionsError, TopicError, and TypeError for a value of another type.
    """

    host: str | Sequence[str] = "localhost"
    """The broker, or a sequence of brokers: the next one is tried if one is unreachable.

    If there are several, each one may have its own port: `["b1", "b2:1884", "[::1]:1885"]`."""
    port: int | None = None
    """None is 8883 with TLS and 1883 without it; over WebSockets 443 and 80."""
    websocket_path: str | None = None
    """The path of MQTT over WebSockets at the broker, such as `/mqtt`; None is MQTT over TCP."""
    client_id: str | None = None
    """A name that no other client of the broker uses; None is a random one."""
    persistent: bool = False
    """True: the broker keeps subscriptions and messages between connections. Needs `client_id`."""
    session_expiry: int = 604_800
    """MQTT 5: seconds that the broker keeps a persistent session. With 3.1.1 the broker decides."""
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    username: str | None = None
    """Never logged, and not shown if it came in a URL."""
    password: str | None = None
    """Never shown or logged."""
    password_file: Path | str | None = None
    """A file whose first line is the password, read on connecting."""
    tls: TlsOptions | None = None
    keep_alive: int = 60
    """Seconds without traffic until the connection is checked, 5 to 65535."""
    will: Will | None = None
    max_pending: int = 10_000
    """The maximum number of unconfirmed messages. At this number, `send` waits or raises an
    error."""
    max_inflight: int = 20
    """The maximum number of messages in flight: sent and not confirmed."""
    qos: Literal[0, 1, 2] = 2
    """The highest quality of service that the broker supports. It is the maximum for messages.

    With MQTT 5 the broker reports it. Some MQTT 3.1.1 brokers do not support QoS 2 and end the
    connection."""
    largest_packet: int | None = None
    """The largest packet in bytes that the broker accepts; None is the broker's value (MQTT 5).

    A packet is the payload, the topic and some further bytes. `send` refuses larger messages with a
    MessageTooLargeError. Set it for an MQTT 3.1.1 broker, which cannot report its limit."""
    max_payload: int | None = None
    """The largest payload in bytes that is received whole; None is MQTT's maximum.

    Only the beginning of a larger one is kept in memory; see `ReceivedMessage.size`. With MQTT 5,
    the broker is requested to discard packets that are much larger."""
    max_queued: int | None = None
    """Bytes of received messages that may wait for the program in one subscription; None is no
    bound. Messages with QoS 0 beyond it are dropped. The broker limits the number of others."""
    max_unacknowledged: int | None = None
    """Bytes of messages with QoS 1 and 2 that the program has not acknowledged; None: no bound.

    A message beyond it is not taken. When the program has acknowledged others, the connection is
    renewed, and the broker repeats the message. So this needs a persistent session. It must be
    several times the size of all messages that the broker sends without an acknowledgement. Then
    only a broker without such a limit reaches it.
    """
    retry_min: float = 0.5
    """Seconds before each of the first three retries of a connection. Then each pause is twice as
    long."""
    retry_max: float = 30.0
    """The maximum pause between retries in seconds."""
    content_type: str | None = None
    """MQTT 5: the media type of the messages that are sent, such as `application/yaml`.

    Messages whose payload is UTF-8 get it, and the mark that they are text."""
    publish_topic: str | None = None
    """The default topic of `send`."""
    subscribe_topic: str | None = None
    """A subscription that `connect` makes; the default of `receive`."""

    def __post_init__(self) -> None:
        check_fields(self)
        one = isinstance(self.host, str)
        host = check_host(str(self.host)) if one else check_hosts(self.host)
        msgspec.structs.force_setattr(self, "host", host)
        if self.websocket_path is not None:
            check_path(self.websocket_path)
        if self.port is not None and not 0 < self.port < 65536:
            raise OptionsError(f"a port must be a number from 1 to 65535, not {self.port}")
        if self.protocol not in ("3.1.1", "5"):
            raise OptionsError(f"`protocol` must be '3.1.1' or '5', not {self.protocol!r}")
        _check_client_id(self.client_id, self.persistent)
        if (self.password or self.password_file) is not None and self.username is None:
            raise OptionsError("a password belongs to a `username`, which is missing")
        if self.password is not None and self.password_file is not None:
            raise OptionsError("`password` and `password_file` exclude each other")
        if self.content_type is not None and (not self.content_type or "\0" in self.content_type):
            raise OptionsError("`content_type` must be a media type such as application/yaml")
        check_credential("content_type", self.content_type)
        check_credential("username", self.username)
        check_credential("password", self.password)
        if not 5 <= self.keep_alive <= 65535:
            raise OptionsError(f"`keep_alive` must be 5 to 65535 seconds, not {self.keep_alive}")
        if not 0 <= self.session_expiry <= 0xFFFFFFFF:
            raise OptionsError(
                f"`session_expiry` must be 0 to 4294967295 seconds, not {self.session_expiry}"
            )
        if not 1 <= self.max_inflight <= 1000:
            raise OptionsError(f"`max_inflight` must be 1 to 1000, not {self.max_inflight}")
        if self.max_pending < self.max_inflight:
            raise OptionsError("`max_pending` must not be less than `max_inflight`")
        _check_highest_qos(self.qos)
        for name in ("largest_packet", "max_payload", "max_queued", "max_unacknowledged"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionsError(
                    f"`{name}` must be a number of bytes from 1, or None, not {value}"
                )
        if not 0 < self.retry_min <= self.retry_max <= LONGEST_PAUSE:
            raise OptionsError(
                f"it must be 0 < `retry_min` <= `retry_max` <= {LONGEST_PAUSE} seconds, not "
                f"{self.retry_min} and {self.retry_max}"
            )
        if len(set(self.brokers)) < len(self.brokers):
            raise OptionsError("`host` has the same broker twice; name each one once")
        _check_topics(self.publish_topic, self.subscribe_topic)

    @property
    def brokers(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each broker, in the order of the options."""
        port = self.port or _DEFAULT_PORTS[self.tls is not None, self.websocket_path is not None]
        if isinstance(self.host, str):
            return ((self.host, port),)
        return tuple(host_and_port(text, port) for text in self.host)

    def one_by_one(self) -> "tuple[MqttOptions, ...]":
        """Return the options of each broker alone."""
        return tuple(
            msgspec.structs.replace(self, host=host, port=port) for host, port in self.brokers
        )

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the options of a URL: `mqtt://[user[:password]@]host[:port]`, `mqtts://` for TLS.

        Several brokers are separated by commas: `mqtt://b1,b2:1884`. A host alone, or `host:port`,
        is `mqtt://`. `ws://host/path` and `wss://` are MQTT over WebSockets. `options` are further
        fields. They override the URL. All characters up to the last `@` are the user and the
        password; `/`, `?` and `#` in them must be percent-encoded. Raises OptionsError, which shows
        no part of the URL.
        """
        parts = parse_broker_url(url)
        found: dict[str, Any] = {"host": parts.host}
        for name in ("port", "username", "password", "websocket_path"):
            if getattr(parts, name) is not None:
                found[name] = getattr(parts, name)
        if parts.tls:
            found["tls"] = TlsOptions()
        return cls(**{**found, **options})

    def __repr__(self) -> str:
        return _without_secrets(self)

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(_shown(self))


class MemoryOptions(msgspec.Struct, frozen=True, kw_only=True, metaclass=_OptionsMeta):
    """A broker in this process for `connect` and `connect_async`. Raises OptionsError."""

    broker: MemoryBroker
    client_id: str | None = None
    persistent: bool = False
    will: Will | None = None
    max_pending: int = 10_000
    qos: Literal[0, 1, 2] = 2
    """See `MqttOptions.qos`."""
    largest_packet: int | None = None
    """See `MqttOptions.largest_packet`. The size is that of a packet of MQTT 3.1.1."""
    publish_topic: str | None = None
    subscribe_topic: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _check_highest_qos(self.qos)
        for name in ("max_pending", "largest_packet"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionsError(f"`{name}` must be a number from 1, not {value}")
        _check_client_id(self.client_id, self.persistent)
        _check_topics(self.publish_topic, self.subscribe_topic)


def _check_client_id(client_id: str | None, persistent: bool) -> None:
    if persistent and not client_id:
        raise OptionsError("a persistent session needs a `client_id` to be found again")
    if client_id is not None and not 0 < len(client_id.encode()) <= LARGEST_ID:
        raise OptionsError(f"a client id must have 1 to {LARGEST_ID} bytes")


def _check_highest_qos(qos: object) -> None:
    # True == 1, and 1.0 == 1.
    if type(qos) is not int or qos not in (0, 1, 2):
        raise OptionsError(f"`qos` must be 0, 1 or 2, not {qos!r}")


def _check_topics(publish_topic: str | None, subscribe_topic: str | None) -> None:
    if publish_topic is not None:
        check_topic(publish_topic)
    if subscribe_topic is not None:
        check_filter(subscribe_topic)


def _without_secrets(options: msgspec.Struct) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in _shown(options))
    return f"{type(options).__name__}({shown})"


def _shown(options: msgspec.Struct) -> Iterator[tuple[str, Any]]:
    """Yield the options that differ from the default, without passwords."""
    for field in msgspec.structs.fields(options):
        value = getattr(options, field.name)
        if field.name in _SECRET and value is not None:
            yield field.name, "***"
        elif value != field.default:
            yield field.name, value
