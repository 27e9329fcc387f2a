"""The story for programs: one JSON object a line."""

from collections.abc import Callable
from typing import Any

import msgspec

from fastlib.client import ObservedMessage

from .stage import Stage
from .summary import Summary
from .witness import Witness


class JsonLines:
    """Says everything. Each object has `event`: begin, step, say, message or end."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """`write` gets each line, without its end."""
        self._write = write

    def _say(self, event: str, **facts: Any) -> None:
        self._write(msgspec.json.encode({"event": event, **facts}).decode())

    def begin(self, stage: Stage, witness: Witness) -> None:
        settings = stage.settings
        self._say(
            "begin",
            hosts=stage.hosts,
            vms=settings.vms,
            speed=settings.speed,
            seed=settings.seed,
        )

    def step(self, number: int, of: int, title: str) -> None:
        self._say("step", number=number, of=of, title=title)

    def say(self, text: str) -> None:
        self._say("say", text=text)

    def message(self, observed: ObservedMessage[Any]) -> None:
        message = observed.message
        self._say(
            "message",
            time=observed.time.isoformat(),
            topic=observed.topic,
            message=None if message is None else message.emit(),
            error=None if observed.error is None else str(observed.error),
        )

    def refresh(self) -> None:
        """Lines stay as they are."""

    def end(self, summary: Summary) -> None:
        self._say("end", **msgspec.to_builtins(summary))

    def close(self) -> None:
        """Nothing to tidy up."""
