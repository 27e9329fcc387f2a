"""The URL of a broker. It may contain a password, so no error repeats any part of it."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from .errors import OptionsError

FORM: Final = "mqtt://[user[:password]@]host[:port][,host[:port]...]"

DEFAULT_PATH: Final = "/mqtt"
"""The default path of a URL of MQTT over WebSockets. Most brokers use it."""


_NO_ADDRESS: Final = "has a ':' or a '%', and is not an IPv6 address such as ::1 or fe80::1%eth0"


class _Errors(NamedTuple):
    """The texts of errors about an address, by the place in which it is."""

    port: str
    host: str
    """No host before the port."""
    colons: str
    """Several colons, and no IPv6 address."""


_IN_URL: Final = _Errors(
    port="the port in the broker's URL must be a number from 1 to 65535; a ':' in a user must "
    "be written %3A, and the host comes after an '@'",
    host=f"a broker's URL is {FORM}, and its host is missing",
    colons=f"the host of the broker's URL {_NO_ADDRESS}; with a port, an IPv6 address is in "
    "brackets: [::1]:1883",
)
_ALONE: Final = f"`host` {_NO_ADDRESS}; if that is a port, give it by `port`"
_IN_LIST: Final = _Errors(
    port="the port of a host in the list `host` must be a number from 1 to 65535, as in b1:1884",
    host="an entry of the list `host` has a port and no host; expected an entry such as b1:1884",
    colons=f"an entry of the list `host` {_NO_ADDRESS}; expected an entry such as b1, b1:1884, "
    "::1 or [::1]:1884",
)

_SCHEMES: Final = ("mqtt", "mqtts", "ws", "wss")
_PATH: Final = re.compile(r"/[!-~]*")

_LISTED_SCHEME: Final = re.compile(r",\s*[A-Za-z]+://")
_LISTED_USER: Final = re.compile(r"@[^,]*,")
_ONCE: Final = "a URL of several brokers, such as mqtt://user:password@b1:1884,b2, has"

_DEFAULT_PORTS: Final = ("1883", "8883")
_SEPARATORS: Final = re.compile(r"[/?#]")
_IN_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\](?::([^\[\]]*))?")
_ZONE: Final = re.compile(r"[\w.~-]+", re.ASCII)


class HiddenText(str):
    """A user name of a URL, which may be a secret token. Its `repr` does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class BrokerUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a URL, decoded. Like the options, it does not show the user and password."""

    host: str | tuple[str, ...]
    """If there are several brokers, each text has its port: `("b1:1884", "b2")`."""
    port: int | None = None
    username: str | None = None
    password: str | None = None
    tls: bool = False
    websocket_path: str | None = None
    """None is MQTT over TCP."""

    def __repr__(self) -> str:
        if not isinstance(self.host, str):
            return f"BrokerUrl({','.join(self.host)})"
        return f"BrokerUrl({address_text(self.host, self.port)})"


def parse_broker_url(url: str) -> BrokerUrl:
    """Return the parts of `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.

    Several brokers are separated by commas: `mqtt://b1,b2:1884`. A host alone, or `host:port`, is
    `mqtt://`. `ws://host/path` and `wss://` are MQTT over WebSockets. All characters up to the
    last `@` are the user and the password.

    Raises OptionsError, which shows no part of the URL and has no cause.
    """
    if not isinstance(url, str):
        raise TypeError(f"a broker's URL must be a str, not {type(url).__name__}")
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "mqtt", url
    if (scheme := scheme.lower()) not in _SCHEMES:
        raise OptionsError(
            "a broker's URL must begin with mqtt://, mqtts://, ws:// or wss://, or be a host"
        )
    if _LISTED_SCHEME.search(rest):
        raise OptionsError(f"{_ONCE} one scheme and one user")
    user, at, address = rest.rpartition("@")
    if _LISTED_USER.search(user):
        raise OptionsError(f"{_ONCE} one user. Write a ',' in a user or a password as %2C")
    if _SEPARATORS.search(user):
        raise OptionsError(
            "the user or the password in the broker's URL has a '/', '?' or '#'; write %2F, %3F or "
            "%23, or give `username` and `password` beside the URL"
        )
    path: str | None = None
    if scheme in ("ws", "wss"):
        address, slash, path = address.partition("/")
        path = check_path(slash + path) if slash else DEFAULT_PATH
    if address.endswith("/"):
        address = address[:-1]
    if not address or _SEPARATORS.search(address):
        raise OptionsError(f"a broker's URL is {FORM}, and no more: no path, query or fragment")
    host: str | tuple[str, ...]
    if "," in address:
        host, port = check_hosts(address.split(","), errors=_IN_URL), None
    else:
        host, port = _address(address, _IN_URL)
    name, colon, password = user.partition(":")
    if at and not name:
        raise OptionsError("the broker's URL has no user before its '@'")
    return BrokerUrl(
        host=host,
        port=port,
        username=HiddenText(_decoded(name, "user")) if name else None,
        password=_decoded(password, "password") if colon else None,
        tls=scheme in ("mqtts", "wss"),
        websocket_path=path,
    )


def check_host(host: str) -> str:
    """Return the host: a name, an IPv4 address, or an IPv6 address without brackets.

    Raises OptionsError, which does not show the host: it may be a URL with a password.
    """
    if not host:
        raise OptionsError("`host` is empty")
    if "://" in host or "@" in host:
        raise OptionsError(
            "`host` must be a host name or an address, and not a URL; the port, the user and the "
            "password are options of their own (`MqttOptions.from_url` takes a URL)"
        )
    if "," in host:
        raise OptionsError("`host` must be one host; for several brokers, give a list of hosts")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if ":" in host or "%" in host:
        return _ipv6(host)
    if not host.isprintable() or re.search(r"[\s/?#\[\]\\\"'<>]", host):
        raise OptionsError(
            "`host` must be a host name or an address, without spaces and any of /?#[]"
        )
    return host


def check_path(path: str) -> str:
    """Return the path of MQTT over WebSockets. Raises OptionsError, which does not show it."""
    if not _PATH.fullmatch(path) or "?" in path or "#" in path:
        raise OptionsError(
            "the path of MQTT over WebSockets must begin with '/', and have only ASCII characters "
            "without spaces, '?' and '#'"
        )
    return path


def check_hosts(hosts: Iterable[str], *, errors: _Errors = _IN_LIST) -> tuple[str, ...]:
    """Return the texts of several brokers, each a host with or without a port.

    Raises OptionsError, which does not show a host: it may be a URL with a password. `errors` has
    the texts of its errors.
    """
    found: list[str] = []
    for text in hosts:
        if not isinstance(text, str):
            raise TypeError(f"each `host` of a list must be a str, not {type(text).__name__}")
        if "://" in text or "@" in text:
            check_host(text)
        if not text.strip():
            raise OptionsError("`host` is a list with an empty text: a host is missing")
        shown = address_text(*_address(text.strip(), errors))
        if shown in found:
            raise OptionsError("`host` has the same broker twice; name each one once")
        found.append(shown)
    if not found:
        raise OptionsError("`host` is an empty list; name at least one broker")
    return tuple(found)


def host_and_port(text: str, default: int) -> tuple[str, int]:
    """Return host and port of a text that `check_hosts` has returned."""
    host, port = _address(text, _IN_LIST)
    return host, port or default


def address_text(host: str, port: int | None) -> str:
    """Return `host:port`, with an IPv6 address in brackets; without a port only the host."""
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _address(address: str, errors: _Errors) -> tuple[str, int | None]:
    """Return host and port."""
    if address.startswith("["):
        found = _IN_BRACKETS.fullmatch(address)
        if found is None:
            raise OptionsError("an IPv6 address must be in brackets, such as [::1] or [::1]:1883")
        return _ipv6(found[1].replace("%25", "%"), errors.colons), _port(found[2], errors)
    if address.count(":") > 1:
        if address.rpartition(":")[2] in _DEFAULT_PORTS:
            raise OptionsError(
                "an IPv6 address before a port must be in brackets, such as [::1]:1883"
            )
        return _ipv6(address.replace("%25", "%"), errors.colons), None
    host, _, port = address.partition(":")
    if not host:
        raise OptionsError(errors.host)
    return check_host(host.lower()), _port(port, errors)


def _port(text: str | None, errors: _Errors) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise OptionsError(errors.port)
    return int(text)


def _ipv6(host: str, bad: str = _ALONE) -> str:
    """Return an IPv6 address. It may have a zone: the network interface of a link-local address."""
    address, percent, zone = host.partition("%")
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        parsed = None
    if parsed is None or (percent and not _ZONE.fullmatch(zone)):
        raise OptionsError(bad)
    if percent and not parsed.is_link_local:
        raise OptionsError(
            "only a link-local IPv6 address (fe80::...) has a zone such as %eth0; remove the zone"
        )
    return host.lower() if not percent else f"{address.lower()}%{zone}"


def _decoded(text: str, what: str) -> str:
    encoded = unquote_to_bytes(text)
    decoded = encoded.decode("utf-8", "replace")
    # An exception of the decoder would have the text as its context.
    if decoded.encode() != encoded:
        raise OptionsError(f"the {what} in the broker's URL is not UTF-8 after its % escapes")
    return decoded
