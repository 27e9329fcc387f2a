"""The bridge of docs/explanation/scale.md adds the level of a site to the topics of its daemons."""

import re
from pathlib import Path

from benchmarks.mosquitto import running_mosquitto
from benchmarks.raw_mqtt import RawClient, publish_packet
from tests.support.waiting import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "scale.md"
SITE = "fast/site1/migfra/node01"
DAEMON = "fast/migfra/node01"


def received(source: RawClient, topic: str, target: RawClient) -> tuple[str, bytes] | None:
    """Publish a message, and return the message that the target has got, if it has."""
    source.socket.sendall(publish_packet(topic, topic.encode()))
    try:
        return target.read_message()
    except TimeoutError:  # the bridge is not connected yet
        return None


def test_bridge_of_the_page_carries_the_topics_of_a_site_and_no_others() -> None:
    found = re.search(r"```\n(connection centre\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    with running_mosquitto() as centre:
        address = f"address 127.0.0.1:{centre.port}"
        lines = found[1].replace("address centre.example.org:1883", address).splitlines()
        with (
            running_mosquitto(*lines, "notifications false", "try_private false") as site,
            RawClient(site.port, "daemon") as daemon,
            RawClient(centre.port, "scheduler") as scheduler,
        ):
            daemon.subscribe("fast/+/+/+/task", "fast/migfra/+/task")
            scheduler.subscribe("fast/+/migfra/+/result")
            daemon.socket.settimeout(0.1)
            scheduler.socket.settimeout(0.1)
            task = wait_until(lambda: received(scheduler, f"{SITE}/task", daemon))
            assert task == (f"{DAEMON}/task", f"{SITE}/task".encode())
            other = publish_packet("fast/site2/migfra/node02/task", b"")
            scheduler.socket.sendall(other)
            result = wait_until(lambda: received(daemon, f"{DAEMON}/result", scheduler))
            assert result == (f"{SITE}/result", f"{DAEMON}/result".encode())
            assert wait_until(lambda: received(scheduler, f"{SITE}/task", daemon)) == task
