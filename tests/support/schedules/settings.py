"""How the programs of a cluster are configured."""

from typing import Final, Literal

from fastlib.migfra import read_configuration
from fastlib.migfra.config.file import Configuration
from fastlib.transport import MqttOptions

RETRY_SECONDS: Final = 5.0
"""The longest pause between two tries to connect."""

PRESENCE_SECONDS: Final = 300.0
"""How often the daemons publish their presence. It is long, since most schedules are short."""

Protocol = Literal["3.1.1", "5"]

_configurations: dict[str, Configuration] = {}


def connection(client_id: str, protocol: Protocol) -> MqttOptions:
    """Return the options of a client with a session that the broker keeps."""
    return MqttOptions(
        client_id=client_id,
        persistent=True,
        protocol=protocol,
        retry_min=0.1,
        retry_max=RETRY_SECONDS,
    )


def daemon_configuration(host: str) -> Configuration:
    """Return the configuration of a host's daemon."""
    if host not in _configurations:
        _configurations[host] = read_configuration(
            f"hostname: {host}\nhypervisor: {{type: dummy}}\nretry: {{first: 1, longest: 4}}\n"
            f"presence-interval: {PRESENCE_SECONDS:g}\n"
        )
    return _configurations[host]
