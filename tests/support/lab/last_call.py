"""The last call of a migration: the one in which libvirt of the destination starts the domain."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import LabError
from .host import Host
from .local_disks import outside

_PHASE = b"phase='finish3'"
"""libvirt writes the phase of a migration into the status of the domain."""
_POLL_SECONDS = 0.0002
"""The call takes some milliseconds."""
_PATIENCE_SECONDS = 60.0


def act_in_last_call(destination: Host, name: str, action: Callable[[], object]) -> None:
    """Wait until a domain arrives in its last call, and then act at once."""
    status = outside(destination, Path(f"/run/libvirt/qemu/{name}.xml"))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with _hurry():
        while _PHASE not in _read(status):
            if time.monotonic() > deadline:
                raise LabError("the migration has not reached its last call")
            time.sleep(_POLL_SECONDS)
        action()


@contextlib.contextmanager
def _hurry() -> Iterator[None]:
    """Let this thread go before all others, if the machine allows that."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def _read(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):  # libvirt replaces it
        return path.read_bytes()
    return b""
