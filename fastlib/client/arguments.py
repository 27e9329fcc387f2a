"""Check the arguments of the clients' constructors and methods."""

import math
import threading

import msgspec

from fastlib.argument_checks import check_bool, check_seconds
from fastlib.transport import MemoryBroker, MemoryOptions, MqttOptions
from fastlib.transport.core import CommunicatorBase

CONTENT_TYPE = "application/yaml"
"""The media type of all messages (RFC 9512). MQTT 5 sends it with each message."""


def check_communicator(given: object, kind: type, client: str) -> None:
    """Check the argument of a client's constructor. Raises TypeError with the remedy."""
    if isinstance(given, kind):
        return
    found = type(given).__name__
    if isinstance(given, str | MqttOptions | MemoryOptions):
        remedy = f"for a host, a URL or options, use `{client}.connect(...)`"
    elif isinstance(given, CommunicatorBase):
        other = "MigfraClient" if client.startswith("Async") else "AsyncMigfraClient"
        remedy = f"`{other}` uses this one"
    else:
        remedy = f"`{client}.connect(...)` makes one"
    raise TypeError(f"`communicator` must be an open {kind.__name__}, not {found}: {remedy}")


def check_watched(**options: object) -> None:
    """Check the options of `watch`. Raises TypeError."""
    for name, value in options.items():
        check_bool(name, value)


def options_of(
    broker: str | MqttOptions | MemoryOptions, connect_timeout: float
) -> MqttOptions | MemoryOptions:
    """Check the arguments of `connect`, and return the options. Raises TypeError, OptionsError."""
    check_seconds("connect_timeout", connect_timeout, optional=False)
    if isinstance(broker, str):
        broker = MqttOptions.from_url(broker)
    if isinstance(broker, MqttOptions) and broker.content_type is None:
        return msgspec.structs.replace(broker, content_type=CONTENT_TYPE)
    if isinstance(broker, MqttOptions | MemoryOptions):
        return broker
    remedy = ""
    if isinstance(broker, MemoryBroker):
        remedy = "; write MemoryOptions(broker=...)"
    elif isinstance(broker, CommunicatorBase):
        remedy = "; the constructor of the client takes a communicator"
    raise TypeError(
        "`broker` must be a host, a URL, MqttOptions or MemoryOptions, not "
        f"{type(broker).__name__}{remedy}"
    )


def checked_timeout(timeout: float | None) -> float | None:
    """Return the timeout; None waits without a limit. Raises TypeError and ValueError."""
    if not (isinstance(timeout, float) and math.isnan(timeout)):
        check_seconds("timeout", timeout)
    if timeout is None or timeout > threading.TIMEOUT_MAX:
        return None
    if not timeout >= 0:  # also true for NaN
        raise ValueError(f"a timeout must be a number of seconds from 0, or None; got {timeout!r}")
    return timeout


def checked_tolerance(seconds: float) -> float:
    """Return the tolerance of clocks. Raises TypeError and ValueError."""
    if not (isinstance(seconds, float) and math.isnan(seconds)):
        check_seconds("clock_tolerance", seconds, optional=False)
    if not 0 <= seconds <= threading.TIMEOUT_MAX:  # also true for NaN
        raise ValueError(f"a clock tolerance must be a number of seconds from 0; got {seconds!r}")
    return seconds
