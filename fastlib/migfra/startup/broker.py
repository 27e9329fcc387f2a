"""The step of the broker: packages, passwords and certificates. It does not connect."""

from collections.abc import Iterator
from typing import Final

from fastlib.codec.errors import MessageError
from fastlib.extras import MissingExtraError, needs_extra
from fastlib.migfra.errors import ConfigurationError
from fastlib.transport import OptionsError
from fastlib.transport.credentials import check_credential, read_password_file
from fastlib.transport.tls_files import tls_problems

from .findings import Finding, Keys, StartUp

_BROKER: Final = ("communicator",)
_TLS: Final = ("communicator", "tls")


def check_broker(start: StartUp) -> Iterator[Finding]:
    """Check that everything exists that a connection to the broker needs."""
    found = [*_missing_package(), *_password_problems(start), *_certificate_problems(start)]
    yield from found
    if not found:
        yield from _other_problems(start)


def _missing_package() -> Iterator[Finding]:
    try:
        with needs_extra("MQTT", "paho"):
            from fastlib.transport.mqtt.link import mqtt_link as mqtt_link
    except MissingExtraError as error:
        yield Finding(_BROKER, error)


def _password_problems(start: StartUp) -> Iterator[Finding]:
    config = start.configuration.communicator
    try:
        if config.password_file is not None:
            check_credential("password", read_password_file(config.password_file))
    except OptionsError as error:
        yield Finding((*_BROKER, "password-file"), error)
    try:
        check_credential("password", start.configuration.password_of_environment())
    except (ConfigurationError, OptionsError) as error:
        yield Finding((*_BROKER, "password-environment"), error)


def _certificate_problems(start: StartUp) -> Iterator[Finding]:
    try:
        options = start.configuration.tls_options()
    except ConfigurationError as error:
        yield Finding((*_TLS, "key-password-file"), error)
        return
    except OptionsError as error:
        yield Finding(_TLS, error)
        return
    if options is None:
        return
    for name, text in tls_problems(options):
        keys: Keys = (*_TLS, name.replace("_", "-"))
        yield Finding(keys, OptionsError(text))


def _other_problems(start: StartUp) -> Iterator[Finding]:
    """Yield the other problems of the options of the connection."""
    try:
        start.configuration.mqtt_options()
    except (MessageError, OptionsError) as error:
        yield Finding(_BROKER, error)
