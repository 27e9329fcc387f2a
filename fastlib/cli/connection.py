"""How commands reach the broker: their common options, and what is said when it cannot be."""

import argparse
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastlib.codec.errors import FastlibError
from fastlib.transport.errors import (
    ConnectError,
    OptionsError,
    RefusedError,
    UndeliveredError,
    WaitTimeoutError,
)
from fastlib.transport.options import MqttOptions, TlsOptions

from .exit_status import TOO_LATE, UNUSABLE
from .terminal import printable

if TYPE_CHECKING:
    from fastlib.client import MigfraClient

BROKER: Final = "FASTLIB_BROKER"
PASSWORD: Final = "FASTLIB_PASSWORD"  # noqa: S105 the variable's name
CONNECT_SECONDS: Final = 5.0

_SHOWN: Final = (
    "broker", "username", "password_file", "ca_file", "certificate", "key", "mqtt",
)  # fmt: skip
"""The options by which another command reaches the same broker."""


def add_connection(
    parser: argparse.ArgumentParser,
    default: str = f"the environment's {BROKER}, or else localhost",
) -> None:
    """Adds the options; `default` says what stands for a broker that is not named.

    Passwords are no option: who may list processes would see them.
    """
    group = parser.add_argument_group("the broker")
    group.add_argument(
        "--broker",
        metavar="URL",
        help=f"mqtt://[USER@]HOST[:PORT], mqtts://... for TLS, or HOST[:PORT] (default: {default})",
    )
    group.add_argument("--username", metavar="NAME", help="who we are")
    group.add_argument(
        "--password-file",
        metavar="FILE",
        type=Path,
        help=f"its first line is the password, which may also be in the environment's {PASSWORD}",
    )
    group.add_argument(
        "--ca-file",
        metavar="FILE",
        type=Path,
        help="certificates (PEM) of those who vouch for the broker; implies TLS (default: the "
        "system's)",
    )
    group.add_argument(
        "--certificate", metavar="FILE", type=Path, help="our own certificate (PEM); implies TLS"
    )
    group.add_argument("--key", metavar="FILE", type=Path, help="the certificate's key (PEM)")
    group.add_argument(
        "--mqtt", choices=("3.1.1", "5"), default="3.1.1", help="version of MQTT (default: 3.1.1)"
    )
    group.add_argument(
        "--connect-timeout",
        metavar="SECONDS",
        type=seconds,
        default=CONNECT_SECONDS,
        help=f"how long a broker that is not there is tried (default: {CONNECT_SECONDS:g})",
    )
    parser.set_defaults(parser=parser)


def seconds(text: str) -> float:
    """A number of seconds, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e9:
        raise argparse.ArgumentTypeError(
            f"expected a number of seconds above 0; got {printable(repr(text))}"
        )
    return value


def words_of(options: argparse.Namespace) -> list[str]:
    """The options for another command to reach the same broker."""
    words: list[str] = []
    for name in _SHOWN:
        value = getattr(options, name)
        if value not in (None, options.parser.get_default(name)):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def broker_options(options: argparse.Namespace) -> MqttOptions:
    """Where to connect to, and as whom. Raises OptionsError."""
    url: str = options.broker or os.environ.get(BROKER) or "localhost"
    given: dict[str, object] = {
        # A name of its own, by which the broker's log and our errors tell it from others.
        "client_id": f"fastlib-{secrets.token_hex(4)}",
        "protocol": options.mqtt,
    }
    if options.username is not None:
        given["username"] = options.username
    found = MqttOptions.from_url(url, **given)
    if options.broker and found.password is not None:
        raise OptionsError(
            "a password does not belong on a command line, where others can see it; take "
            f"--password-file or the environment's {PASSWORD}"
        )
    if options.password_file is not None:
        given.update(password_file=options.password_file, password=None)
    elif os.environ.get(PASSWORD) and found.password is None:
        if found.username is None:
            raise OptionsError(f"{PASSWORD} is set, but not whose it is: give --username, too")
        given["password"] = os.environ[PASSWORD]
    if (options.ca_file or options.certificate or options.key) is not None:
        given["tls"] = TlsOptions(
            ca_file=options.ca_file, certificate=options.certificate, key=options.key
        )
    return MqttOptions.from_url(url, **given)


@contextmanager
def opened(options: argparse.Namespace, quiet: str = "") -> "Iterator[MigfraClient]":
    """A client, until the end of the block; then the broker has confirmed all that was sent.

    What the library warns of is printed, but for the logger `quiet`. Raises TransportError.
    """
    from fastlib.client import MigfraClient  # with all that it needs, which takes long

    where = broker_options(options)
    with _log_in_lines(options, quiet):
        try:
            client = MigfraClient.connect(where, connect_timeout=options.connect_timeout)
        except ConnectError as error:
            raise explained(error, where, options) from error
        try:
            yield client
        except BaseException:
            try:
                client.close()
            except UndeliveredError as error:
                complain(options, str(error), "warning")
            raise
        client.close()


def guarded(options: argparse.Namespace, work: Callable[[], int]) -> int:
    """What `work` returns; an error of the network becomes one line and its exit status."""
    try:
        return work()
    except (UndeliveredError, WaitTimeoutError) as error:
        complain(options, str(error))
        return TOO_LATE
    except FastlibError as error:
        complain(options, str(error))
        return UNUSABLE


def complain(options: argparse.Namespace, text: str, severity: str = "error") -> None:
    """Says something on standard error, on one line."""
    print(f"{options.parser.prog}: {severity}: {printable(text)}", file=sys.stderr)


def explained(
    error: ConnectError,
    where: MqttOptions,
    options: argparse.Namespace,
    elsewhere: str = f"--broker or {BROKER}",
) -> ConnectError:
    """The same error with the place and a remedy; `elsewhere` is how to name another broker."""
    if isinstance(error, RefusedError):
        if error.code is None:  # it is we who do not trust the broker
            return ConnectError(f"{error}; --ca-file names those who vouch for it")
        return ConnectError(f"{error}; --username and --password-file say who we are")
    root: BaseException = error
    while (last := getattr(root, "last", None)) is not None:
        root = last
    reason = getattr(root, "strerror", None) or str(root)
    place = f"{where.host}:{where.port or (8883 if where.tls else 1883)}"
    return ConnectError(
        f"no broker at {place} within {options.connect_timeout:g} s: {reason}; start one there, or "
        f"name another one by {elsewhere}"
    )


# --- what the libraries log -----------------------------------------------------------------------


class _Lines(logging.Handler):
    """Warnings on standard error, a line each, with nothing in them that a terminal obeys."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(logging.WARNING)
        self._options = options

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        complain(self._options, text, record.levelname.lower())


@contextmanager
def _log_in_lines(options: argparse.Namespace, quiet: str) -> Iterator[None]:
    logger = logging.getLogger("fastlib")
    handler = _Lines(options)
    handler.addFilter(lambda record: record.name != quiet)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
