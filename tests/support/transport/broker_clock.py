"""Wait until the clock of a broker has passed the expiry of a message."""

import time
from typing import Any
from uuid import uuid4

from tests.support.waiting import wait_until


def wait_until_expired(sender: Any, seconds: int = 1) -> None:
    """Wait until the broker drops what was sent before with an expiry of up to `seconds`.

    A retained message shows the broker's clock; `sender` speaks MQTT 5. Mosquitto drops it with the
    beginning of the second in which it expires, and a queued message only after that second.
    """
    while True:
        topic = f"clock/{uuid4().hex}"
        begin = time.monotonic()
        sender.send(b"retained", topic, 1, retain=True, expiry=seconds + 1).wait(20)
        if time.monotonic() - begin < 1:  # else it may have been sent with less
            break
    wait_until(lambda: not is_retained(sender, topic), "the expiry")


def is_retained(communicator: Any, topic: str) -> bool:
    """Return whether the broker has a retained message of the topic."""
    last = uuid4().bytes
    retained = False
    communicator.subscribe(topic)
    communicator.send(last, topic, 1)  # comes after a retained message
    while (message := communicator.receive(topic, timeout=20)).payload != last:
        retained = retained or message.retain
    communicator.unsubscribe(topic)
    return retained
