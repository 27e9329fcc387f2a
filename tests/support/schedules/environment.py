"""The environment that all programs of a cluster share."""

from dataclasses import dataclass
from pathlib import Path

from .broker import Network
from .hypervisor import Domains
from .loop import ScheduleLoop
from .record import Observer, Record
from .settings import Protocol


@dataclass(frozen=True)
class Environment:
    """The surroundings of the programs."""

    loop: ScheduleLoop
    network: Network
    domains: Domains
    protocol: Protocol
    folder: Path
    """Of the journals."""
    observer: Observer

    @property
    def record(self) -> Record:
        """The record of the present schedule."""
        return self.observer.record


def memory_folder() -> str | None:
    """Return a folder in memory if there is one: its files cost no time."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
