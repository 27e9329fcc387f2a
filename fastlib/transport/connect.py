"""Connect: make a communicator from options."""

from fastlib.argument_checks import check_seconds, checks_names
from fastlib.extras import needs_extra

from .aio import AsyncCommunicator
from .communicator import Communicator
from .core import CONNECT_SECONDS
from .link import Link
from .memory.link import MemoryLink
from .opening import Opening
from .options import MemoryOptions, MqttOptions


def _link(options: MqttOptions | MemoryOptions) -> Link:
    if isinstance(options, MemoryOptions):
        return MemoryLink(options)
    if not isinstance(options, MqttOptions):
        remedy = "; for a host or a URL, pass MqttOptions.from_url(...)"
        raise TypeError(
            f"`options` must be MqttOptions or MemoryOptions, not {type(options).__name__}{remedy}"
        )
    with needs_extra("MQTT", "paho"):
        from .mqtt.link import mqtt_link
    return mqtt_link(options)


def _max_queued(options: MqttOptions | MemoryOptions) -> int | None:
    return options.max_queued if isinstance(options, MqttOptions) else None


@checks_names
def connect(
    options: MqttOptions | MemoryOptions, *, timeout: float = CONNECT_SECONDS
) -> Communicator:
    """Return a connected communicator. Retries while the broker is unreachable.

    Raises ConnectError after `timeout` seconds, RefusedError at once if a retry would not help
    (for example with a wrong password), OptionsError, TypeError and MissingExtraError.
    """
    check_seconds("timeout", timeout, optional=False)
    return Communicator(
        _link(options),
        publish_topic=options.publish_topic,
        subscribe_topic=options.subscribe_topic,
        max_queued=_max_queued(options),
        timeout=timeout,
    )


@checks_names
def connect_async(
    options: MqttOptions | MemoryOptions, *, timeout: float = CONNECT_SECONDS
) -> Opening[AsyncCommunicator]:
    """Connect a communicator for coroutines. See `connect` for the errors.

    `async with connect_async(options) as communicator` closes it at the end of the block. `await
    connect_async(options)` returns one that the caller closes.
    """
    return Opening(_connect_async(options, timeout))


async def _connect_async(options: MqttOptions | MemoryOptions, timeout: float) -> AsyncCommunicator:
    check_seconds("timeout", timeout, optional=False)
    communicator = AsyncCommunicator(
        _link(options),
        publish_topic=options.publish_topic,
        subscribe_topic=options.subscribe_topic,
        max_queued=_max_queued(options),
    )
    return await communicator.open(timeout)
