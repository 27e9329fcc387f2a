"""Arguments for the broker and the connection to it."""

import argparse
import os
import secrets
from pathlib import Path
from typing import Final

from fastlib.transport.broker_url import parse_broker_url
from fastlib.transport.errors import OptionsError
from fastlib.transport.options import MqttOptions, TlsOptions

from .values import port_number, positive_integer, seconds

BROKER_VARIABLE: Final = "FASTLIB_BROKER"
PASSWORD_VARIABLE: Final = "FASTLIB_PASSWORD"  # noqa: S105 the variable's name
CONNECT_SECONDS: Final = 5.0

_IDENTITY: Final = (
    "broker", "port", "username", "password_file", "ca_file", "certificate", "key", "mqtt",
    "qos", "largest_packet",
)  # fmt: skip
"""Options that another command needs to reach the same broker."""


def add_broker_options(
    parser: argparse.ArgumentParser,
    default: str = f"the environment's {BROKER_VARIABLE}, or else localhost",
) -> None:
    """Add the options; `default` describes the broker that is used without `--broker`.

    There is no option for a password, because every user who lists processes would see it.
    """
    group = parser.add_argument_group("the broker")
    group.add_argument(
        "--broker",
        metavar="URL",
        help="mqtt://[USER@]HOST[:PORT], mqtts://... for TLS, ws:// and wss:// for WebSockets, or "
        f"HOST[:PORT]; several brokers as HOST[:PORT],HOST[:PORT] (default: {default})",
    )
    group.add_argument(
        "--port",
        metavar="N",
        type=port_number,
        help="port of the broker, if --broker has none (default: 1883, with TLS 8883)",
    )
    group.add_argument("--username", metavar="NAME", help="name of the user at the broker")
    group.add_argument(
        "--password-file",
        metavar="FILE",
        type=Path,
        help="file whose first line is the password; without it, the environment's "
        f"{PASSWORD_VARIABLE} has the password",
    )
    group.add_argument(
        "--ca-file",
        metavar="FILE",
        type=Path,
        help="certificates (PEM) of the authorities that sign the broker's; implies TLS "
        "(default: the "
        "system's)",
    )
    group.add_argument(
        "--certificate",
        metavar="FILE",
        type=Path,
        help="certificate of this client (PEM); implies TLS",
    )
    group.add_argument(
        "--key", metavar="FILE", type=Path, help="key of the client's certificate (PEM)"
    )
    group.add_argument(
        "--mqtt", choices=("3.1.1", "5"), default="3.1.1", help="version of MQTT (default: 3.1.1)"
    )
    group.add_argument(
        "--qos",
        type=int,
        choices=(0, 1, 2),
        default=2,
        help="highest quality of service that the broker supports (default: 2; with MQTT "
        "5 the broker reports it)",
    )
    group.add_argument(
        "--largest-packet",
        metavar="BYTES",
        type=positive_integer,
        help="largest packet that the broker accepts (default: its own value with MQTT 5)",
    )
    group.add_argument(
        "--connect-timeout",
        metavar="SECONDS",
        type=seconds,
        default=CONNECT_SECONDS,
        help=f"how long to try to connect to a broker (default: {CONNECT_SECONDS:g})",
    )
    parser.set_defaults(parser=parser)


def broker_arguments(options: argparse.Namespace) -> list[str]:
    """Return the arguments for another command to reach the same broker."""
    words: list[str] = []
    for name in _IDENTITY:
        value = getattr(options, name)
        if value not in (None, options.parser.get_default(name)):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def mqtt_options(options: argparse.Namespace) -> MqttOptions:
    """Return the address and the credentials. Raises OptionsError."""
    url: str = options.broker or os.environ.get(BROKER_VARIABLE) or "localhost"
    given: dict[str, object] = {
        # Its own name distinguishes it in the broker's log and in our errors.
        "client_id": f"fastlib-{secrets.token_hex(4)}",
        "protocol": options.mqtt,
        "qos": options.qos,
        "largest_packet": options.largest_packet,
    }
    if options.port is not None:
        if parse_broker_url(url).port is not None:
            raise OptionsError("the broker's URL has a port, so leave out --port")
        given["port"] = options.port
    if options.username is not None:
        given["username"] = options.username
    found = MqttOptions.from_url(url, **given)
    if options.broker and found.password is not None:
        raise OptionsError(
            "a password does not belong on a command line, where others can see it; use "
            f"--password-file or the environment's {PASSWORD_VARIABLE}"
        )
    if options.password_file is not None:
        given.update(password_file=options.password_file, password=None)
    elif os.environ.get(PASSWORD_VARIABLE) and found.password is None:
        if found.username is None:
            raise OptionsError(
                f"{PASSWORD_VARIABLE} is set, but no user name: also give --username"
            )
        given["password"] = os.environ[PASSWORD_VARIABLE]
    if (options.ca_file or options.certificate or options.key) is not None:
        given["tls"] = TlsOptions(
            ca_file=options.ca_file, certificate=options.certificate, key=options.key
        )
    return MqttOptions.from_url(url, **given)
