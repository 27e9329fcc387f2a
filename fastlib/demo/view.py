"""The interface of views, which show a running demo."""

from typing import Any, Protocol

from fastlib.client import ObservedMessage

from .cluster import DemoCluster
from .observer import Observer
from .summary import Summary


class View(Protocol):
    """Shows a running demo. No method may block."""

    def begin(self, cluster: DemoCluster, observer: Observer) -> None:
        """Called once, before anything happens in the cluster."""

    def step(self, number: int, of: int, title: str) -> None:
        """Called when a step begins."""

    def say(self, text: str) -> None:
        """Called when the scheduler does or finds something that no message shows."""

    def message(self, observed: ObservedMessage[Any]) -> None:
        """Called for each message."""

    def refresh(self) -> None:
        """Called several times a second."""

    def end(self, summary: Summary) -> None:
        """Called when the scenario has ended."""

    def close(self) -> None:
        """Called last, also after an error."""
