"""Load the package libvirt-python on demand, and start its event loop once."""

import threading
import time
from logging import getLogger
from typing import Any

from fastlib.extras import MissingExtraError, needs_extra
from fastlib.migfra.errors import HypervisorError

log = getLogger("fastlib.migfra.libvirt")
_lock = threading.Lock()
_loaded: Any = None


def api() -> Any:
    """Return the module `libvirt` with a running event loop. Raises HypervisorError without it.

    The loop sends and answers keep-alive messages, and delivers events. libvirt allows one loop
    in a process, and it must run before the first connection.
    """
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _load()
    return _loaded


def _load() -> Any:
    try:
        with needs_extra("the hypervisor libvirt", "libvirt"):
            import libvirt
    except MissingExtraError as error:
        raise HypervisorError(
            f"{error}, which needs libvirt's headers, as in "
            "apt-get install libvirt-dev pkg-config gcc python3-dev"
        ) from error
    libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt also prints each error
    libvirt.virEventRegisterDefaultImpl()
    # Without a timer the loop would sleep until the first connection has an event.
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
            # Without this loop every connection would be lost: no keep-alive would be answered.
            log.exception("libvirt's event loop")
            time.sleep(1)  # a lasting error must not fill the log
