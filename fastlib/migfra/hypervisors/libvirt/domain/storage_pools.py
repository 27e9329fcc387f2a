"""Read the storage pools of a host. The functions block.

They refresh no pool, because that reads all files of a pool. So the sizes are those of libvirt's
last refresh.
"""

from typing import Any, Final

from fastlib.message.hardware import StoragePoolReport
from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .volumes import PREFIX
from .xml import parse

_MIB: Final = 1 << 20
_STATES: Final = ("inactive", "building", "running", "degraded", "inaccessible")
"""libvirt's states of a pool, by their numbers, in the words of virsh."""
_WITHOUT_SIZE: Final = ("inactive", "building")


def read_names(connection: Any) -> list[str] | None:
    """Return the names of the pools, sorted. None if the driver has no storage pools.

    Transient pools that a daemon makes for one call are left out.
    """
    libvirt = api()
    try:
        names = [pool.name() for pool in connection.listAllStoragePools(0)]
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return None
        raise
    return sorted(name for name in names if not name.startswith(PREFIX))


def read_pool(connection: Any, name: str) -> StoragePoolReport | None:
    """Read one pool. Returns None if it has been removed in the meantime."""
    libvirt = api()
    try:
        pool = connection.storagePoolLookupByName(name)
        number, capacity, _, free = pool.info()
        root = parse(pool.XMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_POOL:
            return None
        raise
    state = _STATES[number] if number < len(_STATES) else str(number)
    has_size = state not in _WITHOUT_SIZE
    return StoragePoolReport(
        name=name,
        type=root.get("type"),
        path=root.findtext("target/path"),
        state=state,
        capacity=capacity // _MIB if has_size else None,
        free=free // _MIB if has_size else None,
    )
