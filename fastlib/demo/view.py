"""Who is told the story while it is played."""

from typing import Any, Protocol

from fastlib.client import ObservedMessage

from .stage import Stage
from .summary import Summary
from .witness import Witness


class View(Protocol):
    """Shows the story. None of the methods waits for anybody."""

    def begin(self, stage: Stage, witness: Witness) -> None:
        """The stage is there, nothing has happened yet."""

    def step(self, number: int, of: int, title: str) -> None:
        """A step begins."""

    def say(self, text: str) -> None:
        """What the scheduler does or sees, beyond messages."""

    def message(self, observed: ObservedMessage[Any]) -> None:
        """A message passed."""

    def refresh(self) -> None:
        """Called several times a second."""

    def end(self, summary: Summary) -> None:
        """The story is over."""

    def close(self) -> None:
        """Called last, whatever happened."""
