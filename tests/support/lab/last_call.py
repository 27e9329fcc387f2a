"""The last call of a migration: the one in which libvirt of the destination starts the domain."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from .errors import LabError
from .host import Host
from .local_disks import outside
from .priority import hurry

_PHASE = b"phase='finish3'"
"""libvirt writes the phase of a migration into the status of the domain."""
_POLL_SECONDS = 0.0002
"""The call takes some milliseconds."""
_PATIENCE_SECONDS = 180.0


def act_in_last_call(destination: Host, name: str, action: Callable[[], object]) -> None:
    """Wait until a domain arrives in its last call, and then act at once.

    The action must be quick: the call is not longer on a slow machine.
    """
    status = outside(destination, Path(f"/run/libvirt/qemu/{name}.xml"))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with hurry():
        while _PHASE not in _read(status):
            if time.monotonic() > deadline:
                raise LabError("the migration has not reached its last call")
            time.sleep(_POLL_SECONDS)
        action()


def _read(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):  # libvirt replaces it
        return path.read_bytes()
    return b""
