"""Two mosquittos that pass on each other's messages by a bridge."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mosquitto import Mosquitto

# With `autosave_on_changes true` mosquitto writes all that waits for the other one at each change.
SETTINGS = ("max_queued_messages 0", "autosave_on_changes false", "autosave_interval 2")


@contextmanager
def bridged_brokers(directory: Path) -> Iterator[tuple[Mosquitto, Mosquitto]]:
    """Start both; the second one connects to the first one, again and again if that is away."""
    first = Mosquitto(directory / "first", persistence=True, settings=SETTINGS)
    bridge = (
        *SETTINGS,
        "connection first",
        f"address 127.0.0.1:{first.port}",
        "topic # both 2",
        "cleansession false",
        "notifications false",
        "restart_timeout 1",
    )
    second = Mosquitto(directory / "second", persistence=True, settings=bridge)
    with first, second:
        yield first, second
