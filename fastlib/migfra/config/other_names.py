"""Words of other programs for sections and keys of the configuration."""

from collections.abc import Container
from typing import Final

_OTHER_NAMES: Final = {
    "": {
        "broker": "communicator",
        "mqtt": "communicator",
        "connection": "communicator",
        "host": "hostname",
        "node": "hostname",
        "name": "hostname",
        "logging": "log",
        "logger": "log",
        "prometheus": "metrics",
        "openmetrics": "metrics",
        "driver": "hypervisor",
        "backend": "hypervisor",
        "database": "journal",
        "state": "journal",
    },
    "communicator": {
        "broker": "host",
        "hosts": "host",
        "server": "host",
        "address": "host",
        "url": "host",
        "client-id": "id",
        "user": "username",
        "keep-alive": "keepalive",
        "ssl": "tls",
    },
    "communicator.tls": {
        "ca": "ca-file",
        "cafile": "ca-file",
        "cert": "certificate",
        "crt": "certificate",
        "certfile": "certificate",
        "keyfile": "key",
        "password-file": "key-password-file",
    },
    "journal": {"file": "path", "location": "path", "directory": "path", "folder": "path"},
    "log": {"style": "format", "severity": "level", "verbosity": "level"},
    "metrics": {"listen": "address", "host": "address", "bind": "address"},
    "hypervisor": {"name": "type", "driver": "type", "kind": "type"},
}
"""For each section the words that other programs use for its keys."""


def meant_by(place: str, key: str, known: Container[str]) -> str | None:
    """Return the key of a section, such as `communicator.tls`, that an unknown key means."""
    word = _OTHER_NAMES.get(place, {}).get(key.lower().replace("_", "-"))
    return word if word in known else None
