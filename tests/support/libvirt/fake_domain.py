"""A fake `virDomain`: its state, devices, snapshots, saved image and job. See fake_libvirt.py."""

import errno
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_DNS, uuid5

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import is_probe

from .errors import error_of

RUNNING, PAUSED, SHUT_OFF = 1, 3, 5
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def refusal(code: str, text: str, number: int = -1) -> Exception:
    """A `libvirt.libvirtError` with the code `VIR_ERR_…`, and the number of a system error."""
    error = error_of(getattr(api(), f"VIR_ERR_{code}"), text, number)
    assert isinstance(error, Exception)
    return error


def uuid_of(name: str) -> str:
    """The UUID of a fake domain."""
    return UUID if name == "vm1" else str(uuid5(NAMESPACE_DNS, name))


class HostOfDomains(Protocol):
    """The parts of a fake host that its domains need."""

    domains: dict[str, "FakeDomain"]
    files: dict[str, bytes | int]

    def log(self, what: str) -> None:
        """Note a call."""


class FakeSnapshot:
    """The record of an internal snapshot."""

    def __init__(self, domain: "FakeDomain", name: str, current: bool = False) -> None:
        self._domain = domain
        self._name = name
        self._current = current

    def getName(self) -> str:
        return self._name

    def getXMLDesc(self, flags: int) -> str:
        return f"<domainsnapshot><name>{self._name}</name></domainsnapshot>"

    def isCurrent(self) -> int:
        return int(self._current)

    def delete(self, flags: int) -> None:
        assert flags == api().VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
        self._domain.snapshots.remove(self)


class FakeDomain:
    """A fake `virDomain`."""

    def __init__(self, name: str = "vm1", state: int = RUNNING, reason: int = 1) -> None:
        self.host: HostOfDomains
        self._name = name
        self.uuid = uuid_of(name)
        self.state_now = [state, reason]
        self.persistent = True
        self.starts_with_host = False
        self.memory = 1024
        self.vcpu_count = 2
        self.vcpu_ns = 1_000_000_000
        """What each virtual CPU has used in this process, in nanoseconds."""
        self.job: dict[str, Any] | None = None
        """What `jobStats` gives while a job is under way."""
        self.refuses: dict[str, Exception] = {}
        """What a call raises, by its name."""
        self.on: dict[str, Callable[[], object]] = {}
        """What a call does besides, by its name."""
        self.devices: list[str] = []
        self.disks: dict[str, str] = {}
        """The file of each disk of a temporary domain."""
        self.above_devices = ""
        """XML that stands before the devices."""
        self.letting_go: dict[str, int | None] = {}
        """How many looks at its XML a device still takes to go; None is for ever."""
        self.looks_to_let_go: int | None = 0
        self.saved_image: str | None = None
        """The XML in its saved image."""
        self.snapshots: list[FakeSnapshot] = []
        self.checkpoints = 0
        self.given: list[str] = []
        """The XML of the devices that were attached, as it was asked for."""

    def _called(self, what: str, *arguments: Any) -> None:
        self.host.log(" ".join([what, *map(str, arguments)]))
        if what in self.refuses:
            raise self.refuses[what]
        if what in self.on:
            self.on[what]()

    # What it is

    def name(self) -> str:
        return self._name

    def ID(self) -> int:
        return 1

    def UUIDString(self) -> str:
        return self.uuid

    def info(self) -> list[int]:
        return [self.state_now[0], self.memory, self.memory, self.vcpu_count, 0]

    def vcpus(self) -> tuple[list[tuple[int, int, int, int]], list[tuple[bool, ...]]]:
        numbers = range(self.vcpu_count)
        return [(number, 1, self.vcpu_ns, 0) for number in numbers], [(True,) for _ in numbers]

    def state(self) -> list[int]:
        return list(self.state_now)

    def isActive(self) -> bool:
        return self.state_now[0] != SHUT_OFF

    def isPersistent(self) -> bool:
        return self.persistent

    def autostart(self) -> bool:
        return self.starts_with_host

    # What is done to it

    def suspend(self) -> None:
        self._called("suspend")
        self.state_now = [PAUSED, 1]

    def resume(self) -> None:
        self._called("resume")
        self.state_now = [RUNNING, 5]

    def shutdown(self) -> None:
        self._called("shutdown")

    def setAutostart(self, on: int) -> None:
        self._called("autostart", on)
        self.starts_with_host = bool(on)

    def pinVcpuFlags(self, vcpu: int, allowed: tuple[bool, ...], flags: int) -> None:
        cpus = ",".join(str(cpu) for cpu, may in enumerate(allowed) if may)
        self._called("pin", f"{vcpu}:{cpus}")

    def destroy(self) -> None:
        self._called("destroy")
        self._end()

    def _end(self) -> None:
        self.state_now = [SHUT_OFF, 1]
        if not self.persistent:
            del self.host.domains[self._name]

    def createWithFlags(self, flags: int) -> None:
        self.state_now = [PAUSED, 1] if flags & api().VIR_DOMAIN_START_PAUSED else [RUNNING, 1]
        try:
            self._called("create")
        except Exception:
            self.state_now = [SHUT_OFF, 6]
            raise

    def undefineFlags(self, flags: int) -> None:
        if not is_probe(self._name):
            self._called("undefine")
        self.persistent = False
        if not self.isActive():
            del self.host.domains[self._name]

    def undefine(self) -> None:
        self.undefineFlags(0)

    def blockInfo(self, disk: str) -> list[int]:
        """Hosts have the files of `files`; the tests of storage use other hosts."""
        size = len(self._content(disk))
        return [size, size, size]

    def blockPeek(self, disk: str, offset: int, size: int, flags: int) -> bytes:
        return self._content(disk)[offset : offset + size]

    def _content(self, disk: str) -> bytes:
        found = self.host.files.get(self.disks.get(disk, ""))
        if isinstance(found, bytes):
            return found
        if found is None:
            raise refusal("SYSTEM_ERROR", f"Failed to open the file of {disk}", errno.ENOENT)
        raise refusal("SYSTEM_ERROR", f"Failed to open the file of {disk}: {found}", found)

    def saveFlags(self, path: str, xml: None, flags: int) -> None:
        self._called("save")
        Path(path).write_text(f"{self._name}\n{self.XMLDesc()}")
        self._end()

    def managedSaveGetXMLDesc(self, flags: int) -> str:
        if "managedSaveGetXMLDesc" in self.refuses:
            raise self.refuses["managedSaveGetXMLDesc"]
        if self.saved_image is None:
            text = "domain does not have managed save image"
            raise refusal("OPERATION_INVALID", f"Requested operation is not valid: {text}")
        return self.saved_image

    def managedSaveRemove(self, flags: int) -> None:
        self._called("managedsave-remove")
        self.saved_image = None

    def managedSave(self, flags: int) -> None:
        self._called("managedsave")
        self.saved_image = self.XMLDesc()
        self._end()

    def listAllSnapshots(self, flags: int) -> "list[FakeSnapshot]":
        return list(self.snapshots)

    def snapshotCreateXML(self, xml: str, flags: int) -> None:
        name = xml.partition("<name>")[2].partition("</name>")[0]
        self._called("snapshot", name)
        current = bool(flags & api().VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT)
        self.snapshots.append(FakeSnapshot(self, name, current))

    def listAllCheckpoints(self) -> list[None]:
        return [None] * self.checkpoints

    # Jobs

    def jobInfo(self) -> list[int]:
        if not self.isActive():
            raise refusal("OPERATION_INVALID", "domain is not running")
        return [api().VIR_DOMAIN_JOB_NONE if self.job is None else api().VIR_DOMAIN_JOB_UNBOUNDED]

    def jobStats(self, flags: int = 0) -> dict[str, Any]:
        if "jobStats" in self.on:
            self.on["jobStats"]()
        if "jobStats" in self.refuses:
            raise self.refuses["jobStats"]
        if self.job is None:
            return {"type": api().VIR_DOMAIN_JOB_NONE}
        return {"type": api().VIR_DOMAIN_JOB_UNBOUNDED, **self.job}

    def abortJob(self) -> None:
        self._called("abort")

    def migrateSetMaxDowntime(self, milliseconds: int, flags: int) -> None:
        self._called("downtime", milliseconds)

    def migrateStartPostCopy(self, flags: int) -> None:
        self._called("post-copy")
        self.state_now = [PAUSED, 12]

    # Devices

    def XMLDesc(self, flags: int = 0) -> str:
        for device, looks in list(self.letting_go.items()):
            if looks == 0:
                self.devices.remove(device)
                del self.letting_go[device]
            elif looks is not None:
                self.letting_go[device] = looks - 1
        devices = "".join(self.devices)
        return (
            f"<domain type='kvm'><name>{self._name}</name><uuid>{self.uuid}</uuid>"
            f"<memory unit='KiB'>{self.memory}</memory><vcpu>{self.vcpu_count}</vcpu>"
            f"{self.above_devices}<devices>{devices}</devices></domain>"
        )

    def detachDeviceFlags(self, xml: str, flags: int) -> None:
        assert flags == api().VIR_DOMAIN_AFFECT_LIVE
        for device in self.devices:
            if _what(device) == _what(xml):
                self.letting_go[device] = self.looks_to_let_go
                return
        raise refusal("DEVICE_MISSING", "device not found: no matching device was found")

    def attachDeviceFlags(self, xml: str, flags: int) -> None:
        assert flags == api().VIR_DOMAIN_AFFECT_LIVE
        self._called("attach", _what(xml))
        for domain in self.host.domains.values():
            if domain.isActive() and _what(xml) in map(_what, domain.devices):
                raise refusal(
                    "OPERATION_INVALID",
                    f"Requested operation is not valid: PCI device {_what(xml)} is in use by "
                    f"driver QEMU, domain {domain.name()}",
                )
        self.given.append(xml)
        self.devices.append(self._placed(xml))

    def _placed(self, xml: str) -> str:
        """Return a device's XML with libvirt's additions: an alias, and a place in the guest."""
        element = ElementTree.fromstring(xml)
        if element.find("alias") is not None or element.find("address") is not None:
            raise refusal("XML_ERROR", "XML error: Attempted double use of PCI Address")
        number = len(self.given)
        ElementTree.SubElement(element, "alias", name=f"dev{number}")
        ElementTree.SubElement(element, "address", type="pci", bus=f"0x{number:02x}")
        return ElementTree.tostring(element, encoding="unicode")


def _what(xml: str) -> str:
    """Return the identity of a device: its place on the host, or its name."""
    element = ElementTree.fromstring(xml)
    address = element.find("source/address")
    if address is None:
        return str(element.get("name"))
    parts = [int(str(address.get(key)), 0) for key in ("domain", "bus", "slot", "function")]
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*parts)
