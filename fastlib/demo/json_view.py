"""Show the demo to programs: one JSON object a line."""

from collections.abc import Callable
from typing import Any

import msgspec

from fastlib.client import ObservedMessage
from fastlib.display.json_lines import encode_json

from .cluster import DemoCluster
from .observer import Observer
from .summary import Summary


class JsonView:
    """Writes every event. Each object has `event`: begin, step, say, message or end."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` gets each line, without its end."""
        self._write_line = write

    def _write(self, event: str, **facts: Any) -> None:
        self._write_line(encode_json({"event": event, **facts}).decode())

    def begin(self, cluster: DemoCluster, observer: Observer) -> None:
        settings = cluster.settings
        self._write(
            "begin",
            hosts=cluster.hosts,
            vms=settings.vms,
            speed=settings.speed,
            seed=settings.seed,
        )

    def step(self, number: int, of: int, title: str) -> None:
        self._write("step", number=number, of=of, title=title)

    def say(self, text: str) -> None:
        self._write("say", text=text)

    def message(self, observed: ObservedMessage[Any]) -> None:
        message = observed.message
        self._write(
            "message",
            time=observed.time.isoformat(),
            topic=observed.topic,
            message=None if message is None else message.emit(),
            error=None if observed.error is None else str(observed.error),
        )

    def refresh(self) -> None:
        """Written lines need no refresh."""

    def end(self, summary: Summary) -> None:
        self._write("end", **msgspec.to_builtins(summary))

    def close(self) -> None:
        """Nothing is open."""
