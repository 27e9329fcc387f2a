"""How the story is to be played."""

from collections.abc import Sequence
from typing import Final

import msgspec

from fastlib.migfra.hypervisors.simulated import Fault
from fastlib.transport import MqttOptions

from .errors import SettingsError

LEAST_HOSTS: Final = 3
MOST_HOSTS: Final = 1000
VMS_PER_HOST: Final = 2
"""So many at least, as some are moved away before others are needed."""
MOST_VMS: Final = 20_000
MOST_SPEED: Final = 1000.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the story is to be played. Raises SettingsError for what cannot be."""

    hosts: int = 3
    vms: int = 8
    speed: float = 30.0
    """Seconds of the cluster in one of ours."""
    pause: float = 0.0
    """Seconds of ours between the steps, for a person who looks."""
    seed: int = 1
    """Of the VMs' sizes, and of which of them is moved."""
    broker: MqttOptions | None = None
    """A broker to play it over; None is one within this process."""
    faults: Sequence[Fault] = ()
    """What goes wrong in the cluster although the story does not tell it."""
    connect_timeout: float = 5.0
    """Seconds for which a broker that is not there is tried."""
    patience: float = 120.0
    """Seconds of ours until something that must come is given up."""

    def __post_init__(self) -> None:
        if not LEAST_HOSTS <= self.hosts <= MOST_HOSTS:
            raise SettingsError(
                f"the story needs {LEAST_HOSTS} to {MOST_HOSTS} hosts, not {self.hosts}"
            )
        least = VMS_PER_HOST * self.hosts
        if not least <= self.vms <= MOST_VMS:
            raise SettingsError(
                f"the story needs {least} to {MOST_VMS} VMs on {self.hosts} hosts, not {self.vms}"
            )
        if not 0 < self.speed <= MOST_SPEED:
            raise SettingsError(f"a speed is above 0 and at most {MOST_SPEED:g}, not {self.speed}")
        if not 0 <= self.seed < 1 << 64:
            raise SettingsError(f"a seed is a number of 64 bits, not {self.seed}")
        if self.pause < 0 or self.patience <= 0 or self.connect_timeout <= 0:
            raise SettingsError("pauses are not negative, and timeouts are above 0 seconds")

    @property
    def many(self) -> int:
        """How many migrate, are swapped, suspended and so on: one, or one for ten hosts."""
        return max(1, self.hosts // 10)

    @property
    def killed(self) -> int:
        """How many daemons are killed: one, or one for fifty hosts."""
        return max(1, self.hosts // 50)
