"""The package libvirt-python: loaded when it is needed, its event loop started once."""

import threading
import time
from logging import getLogger
from typing import Any

from fastlib.migfra.errors import HypervisorError

log = getLogger("fastlib.migfra.libvirt")
_lock = threading.Lock()
_loaded: Any = None


class MissingLibvirtError(HypervisorError, ImportError):
    """The package libvirt-python is not installed; the text has the line that does it."""


def api() -> Any:
    """The module `libvirt`, with an event loop in a thread. Raises MissingLibvirtError.

    The loop is what answers and sends keep-alive messages and delivers events; libvirt allows one
    for the whole process, and it has to be there before the first connection.
    """
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _load()
    return _loaded


def _load() -> Any:
    try:
        import libvirt
    except ImportError as error:
        raise MissingLibvirtError(
            f"the hypervisor libvirt needs the package libvirt-python ({error}): "
            "pip install 'fastlib[libvirt]', which needs libvirt's headers, as in "
            "apt-get install libvirt-dev pkg-config gcc python3-dev"
        ) from None
    libvirt.registerErrorHandler(lambda *_: None, None)  # otherwise each is printed, too
    libvirt.virEventRegisterDefaultImpl()
    # Without a timer the loop would sleep until something of the first connection happens.
    libvirt.virEventAddTimeout(1000, lambda *_: None, None)
    threading.Thread(
        target=_run_events, args=(libvirt,), name="libvirt-events", daemon=True
    ).start()
    return libvirt


def _run_events(libvirt: Any) -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            # Without this loop every connection would be lost, as no keep-alive is answered.
            log.exception("libvirt's event loop")
            time.sleep(1)  # whatever it is, not a thousand times a second
