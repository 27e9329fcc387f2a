"""Wait until the clock of a broker has passed the expiry of a message."""

from typing import Any
from uuid import uuid4

from tests.support.waiting import wait_until


def wait_until_expired(sender: Any, seconds: int = 1) -> None:
    """Wait until the broker drops what was sent before with an expiry of up to `seconds`.

    A retained message shows the broker's clock; `sender` speaks MQTT 5. Mosquitto drops it with the
    beginning of the second in which it expires, and a queued message only after that second.
    """
    topic = f"clock/{uuid4().hex}"
    sender.send(b"retained", topic, 1, retain=True, expiry=seconds + 1).wait(20)
    wait_until(lambda: not is_retained(sender, topic), "the expiry")


def is_retained(communicator: Any, topic: str) -> bool:
    """Return whether the broker has a retained message of the topic."""
    communicator.subscribe(topic)
    communicator.send(b"now", topic, 1)  # comes after a retained message
    try:
        retained: bool = communicator.receive(topic, timeout=20).retain
    finally:
        communicator.unsubscribe(topic)
    return retained
