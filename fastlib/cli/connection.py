"""Connect a command to the broker, and turn network errors into messages and exit statuses."""

import argparse
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from logging import LogRecord
from typing import TYPE_CHECKING, Final

from fastlib.cli.arguments.broker import BROKER_VARIABLE, mqtt_options
from fastlib.cli.output.logs import logs_on_stderr
from fastlib.codec.errors import FastlibError
from fastlib.transport.broker_url import address_text
from fastlib.transport.errors import (
    USER_MISSING,
    ConnectError,
    RefusedError,
    UndeliveredError,
    WaitTimeoutError,
)
from fastlib.transport.options import MqttOptions
from fastlib.transport.tls_files import CA_FILE_HINT

from .errors import TIMED_OUT, UNUSABLE, print_error

if TYPE_CHECKING:
    from fastlib.client import MigfraClient


_CA_FILE_OPTION: Final = "--ca-file names the authorities that sign it"
_USER_OPTIONS: Final = "; give --username and --password-file"
_ANSWERED: Final = ("; its port may ", "; its port is ", "; it may require a certificate")
"""Parts of the errors of a port whose broker expects another protocol."""
_IN_COMMANDS: Final = {
    "use mqtts:// or the option `tls`": "use --broker mqtts://HOST:PORT",
    "use wss:// or the option `tls`": "use --broker wss://HOST:PORT",
    "(wss://, option `tls`)": "(--broker wss://HOST:PORT)",
    "set the option `certificate` of `tls`": "give --certificate and --key",
    ", or leave out the option `tls`": " in --broker, and leave out --ca-file and --certificate",
}
"""The remedies of such errors for Python, and for the commands."""


@contextmanager
def open_client(options: argparse.Namespace, silent_logger: str = "") -> "Iterator[MigfraClient]":
    """Connect a client for the block. At its end the broker has confirmed all messages.

    Prints the warnings of the library, except those of `silent_logger` and those of the clocks of
    hosts that the command is not about. Raises TransportError.
    """
    from fastlib.client import MigfraClient  # here, because its import is slow

    mqtt = mqtt_options(options)
    hosts = _hosts_of(options)

    def accept(record: LogRecord) -> bool:
        host = getattr(record, "clock_of", None)
        return record.name != silent_logger and (host is None or hosts is None or host in hosts)

    with logs_on_stderr(options, accept):
        try:
            client = MigfraClient.connect(mqtt, connect_timeout=options.connect_timeout)
        except ConnectError as error:
            raise with_remedy(error, mqtt, options) from error
        try:
            yield client
        except BaseException:
            try:
                client.close()
            except UndeliveredError as error:
                print_error(options, str(error), "warning")
            raise
        client.close()


def _hosts_of(options: argparse.Namespace) -> Collection[str] | None:
    """Return the hosts that a command is about, None for all."""
    if "host" in options:
        return (options.host,)
    hosts: Collection[str] | None = getattr(options, "hosts", None)
    return hosts


def exit_status_of(options: argparse.Namespace, work: Callable[[], int]) -> int:
    """Return the exit status of `work`; print an error of fastlib and return its exit status."""
    try:
        return work()
    except (UndeliveredError, WaitTimeoutError) as error:
        print_error(options, str(error))
        return TIMED_OUT
    except FastlibError as error:
        print_error(options, str(error))
        return UNUSABLE


def with_remedy(
    error: ConnectError,
    mqtt: MqttOptions,
    options: argparse.Namespace,
    broker_option: str = f"--broker or {BROKER_VARIABLE}",
) -> ConnectError:
    """Return the same error with the broker's address and a remedy, such as `broker_option`."""
    if isinstance(error, RefusedError):
        if error.code is None:  # the client refused the broker's certificate
            return ConnectError(str(error).replace(CA_FILE_HINT, _CA_FILE_OPTION))
        return ConnectError(str(error).replace(USER_MISSING, _USER_OPTIONS))
    root: BaseException = error
    while (last := getattr(root, "last", None)) is not None:
        root = last
    reason = getattr(root, "strerror", None) or str(root)
    reason = reason.rpartition(f": no connection within {options.connect_timeout:g} s: ")[2]
    place = " or ".join(address_text(*broker) for broker in mqtt.brokers)
    if any(part in reason for part in _ANSWERED):
        for text, words in _IN_COMMANDS.items():
            reason = reason.replace(text, words)
        return ConnectError(f"the broker at {place} cannot be used: {reason}")
    return ConnectError(
        f"no broker at {place} within {options.connect_timeout:g} s: {reason}; start one there, or "
        f"name another one by {broker_option}"
    )
