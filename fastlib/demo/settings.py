"""The settings of the demo."""

from collections.abc import Sequence
from typing import Final

import msgspec

from fastlib.migfra.hypervisors.simulated import Fault
from fastlib.transport import MqttOptions

from .errors import SettingsError

MIN_HOSTS: Final = 3
MAX_HOSTS: Final = 1000
MIN_VMS_PER_HOST: Final = 2
"""Steps migrate VMs away from hosts that later steps need VMs of."""
MAX_VMS: Final = 20_000
MAX_SPEED: Final = 1000.0
"""Seconds of the cluster in a real second."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the demo. Raises SettingsError for values out of range."""

    hosts: int = 3
    vms: int = 8
    speed: float = 30.0
    """Seconds of the cluster in a real second."""
    pause: float = 0.0
    """Real seconds between the steps."""
    seed: int = 1
    """Determines the sizes of VMs, and which of them migrate."""
    broker: MqttOptions | None = None
    """The MQTT broker; None is a broker in this process."""
    faults: Sequence[Fault] = ()
    """Faults that the simulated cluster injects."""
    connect_timeout: float = 5.0
    """Real seconds until connecting to the broker fails."""
    timeout: float = 120.0
    """Real seconds until waiting for a result or a state fails."""

    def __post_init__(self) -> None:
        if not MIN_HOSTS <= self.hosts <= MAX_HOSTS:
            raise SettingsError(
                f"the demo needs {MIN_HOSTS} to {MAX_HOSTS} hosts, not {self.hosts}"
            )
        least = MIN_VMS_PER_HOST * self.hosts
        if not least <= self.vms <= MAX_VMS:
            raise SettingsError(
                f"the demo needs {least} to {MAX_VMS} VMs on {self.hosts} hosts, not {self.vms}"
            )
        if not 0 < self.speed <= MAX_SPEED:
            raise SettingsError(f"a speed is above 0 and at most {MAX_SPEED:g}, not {self.speed}")
        if not 0 <= self.seed < 1 << 64:
            raise SettingsError(f"a seed is a number of 64 bits, not {self.seed}")
        if self.pause < 0 or self.timeout <= 0 or self.connect_timeout <= 0:
            raise SettingsError("pauses are not negative, and timeouts are above 0 seconds")

    @property
    def parallel(self) -> int:
        """VMs or hosts that a step migrates, swaps, suspends and so on: one for ten hosts."""
        return max(1, self.hosts // 10)

    @property
    def kills(self) -> int:
        """Daemons that are killed: one for fifty hosts, at least one."""
        return max(1, self.hosts // 50)
