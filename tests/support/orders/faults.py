"""The faults that hit an order while it is executed. Each returns how it is repaired."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.support.lab.errors import LabError
from tests.support.lab.fleet import Fleet

from .scenario import Fault, FaultKind

Repair = Callable[[], None]


def inject(fleet: Fleet, fault: Fault, handle: Any) -> Repair | None:
    """Let a fault happen. Returns its repair, or None if there was nothing that it could hit."""
    try:
        return _FAULTS[fault.kind](fleet, fault, handle)
    except LabError:
        return None  # such as a QEMU that is not there at this moment


def _nothing() -> None:
    pass


def _cancel(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    handle.cancel()
    return _nothing


def _kill_daemon(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    daemon = fleet.daemons[fault.host]
    daemon.kill()
    return daemon.start


def _kill_libvirtd(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    libvirtd = fleet.lab.host(fault.host).libvirtd
    libvirtd.kill()
    return libvirtd.start


def _freeze_libvirtd(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    libvirtd = fleet.lab.host(fault.host).libvirtd
    libvirtd.freeze()
    return libvirtd.thaw


def _freeze_host(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    host = fleet.lab.host(fault.host)
    host.freeze()
    return host.thaw


def _disconnect(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    host = fleet.lab.host(fault.host)
    host.disconnect()
    return host.reconnect


def _kill_broker(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    fleet.kill_broker()
    return fleet.lab.broker.mosquitto.start


def _kill_qemu(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    fleet.lab.host(fault.host).qemu(fault.domain).kill()
    return _nothing


def _freeze_qemu(fleet: Fleet, fault: Fault, handle: Any) -> Repair:
    qemu = fleet.lab.host(fault.host).qemu(fault.domain)
    qemu.freeze()
    return qemu.thaw


_FAULTS: Final[Mapping[FaultKind, Callable[[Fleet, Fault, Any], Repair]]] = {
    "cancel": _cancel,
    "kill daemon": _kill_daemon,
    "kill libvirtd": _kill_libvirtd,
    "freeze libvirtd": _freeze_libvirtd,
    "freeze host": _freeze_host,
    "disconnect": _disconnect,
    "kill broker": _kill_broker,
    "kill QEMU": _kill_qemu,
    "freeze QEMU": _freeze_qemu,
}
