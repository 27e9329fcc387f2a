"""A fake libvirt: hosts and domains in the test, for cases that no test machine can show.

No test machine has PCI devices to pass through, and no test can stall a real migration at a given
moment. So these classes stand in for `virConnect` and `virDomain`, as faithfully as the tests need
it: calls change state and XML, or raise a `libvirt.libvirtError`. The code above, from the
connections' calls to a whole migration, is the real one, in virtual time.
"""

import errno
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from fastlib.migfra import Context, DaemonServices
from fastlib.migfra.hypervisors.libvirt import LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import DomainChanges, End
from fastlib.migfra.hypervisors.libvirt.connection.pool import ConnectionPool
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import is_probe
from fastlib.migfra.hypervisors.libvirt.errors import LostError, translated
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.memory_needs import HostNode
from tests.support.certificates import Authority

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
        self.host: FakeHost
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


class FakeDevice:
    """A fake `virNodeDevice`."""

    def __init__(self, address: str, vendor: int | None, model: int | None) -> None:
        self.address = address
        self._kind = (vendor, model)

    def XMLDesc(self, flags: int = 0) -> str:
        domain, bus, rest = self.address.split(":")
        slot, function = rest.split(".")
        vendor, model = self._kind
        known = "<product/><vendor/>"
        if vendor is not None:
            known = f"<product id='{model:#06x}'>x</product><vendor id='{vendor:#06x}'>y</vendor>"
        numbers = zip(
            ("domain", "bus", "slot", "function"), (domain, bus, slot, function), strict=True
        )
        places = "".join(f"<{tag}>{int(number, 16)}</{tag}>" for tag, number in numbers)
        return f"<device><capability type='pci'>{places}{known}</capability></device>"


def _cell(number: int, node: HostNode) -> str:
    counts = {4: 1, **(node.pages or {})}
    pages = "".join(f"<pages size='{size}'>{count}</pages>" for size, count in counts.items())
    return f"<cell id='{number}'><memory unit='KiB'>{node.total}</memory>{pages}</cell>"


class FakeSecret:
    """A fake `virSecret`."""

    def __init__(self, host: "FakeHost", xml: str) -> None:
        self.host = host
        self.xml = xml
        self._root = ElementTree.fromstring(xml)

    def UUIDString(self) -> str:
        return str(self._root.findtext("uuid"))

    def usageID(self) -> str:
        return str(self._root.findtext("usage/name"))

    def XMLDesc(self, flags: int = 0) -> str:
        return self.xml

    def undefine(self) -> None:
        self.host.secretLookupByUUIDString(self.UUIDString())
        del self.host.secrets[self.UUIDString()]


class FakeHost:
    """A fake host, and the `virConnect` to it."""

    def __init__(self, name: str, log: Callable[[str], object]) -> None:
        self._hostname = name
        self._log = log
        self.domains: dict[str, FakeDomain] = {}
        self.images_left_behind: dict[str, str] = {}
        """The XML in saved images of domains that the host does not know."""
        self.secrets: dict[str, FakeSecret] = {}
        self.node_devices: list[FakeDevice] = []
        self.knows_devices = True
        self.is_there = True
        self.files: dict[str, bytes | int] = {}
        """The content of files, or the number of the error on opening them."""
        self.kind = "QEMU"
        self.version = 7_002_000
        self.libvirt_version = 9_000_000
        self.emulators = {"/usr/bin/qemu": "pc-i440fx-7.2"}
        """The newest machine type of each emulator; the first one is the usual emulator."""
        self.free = 1 << 20
        self.cpus = 4
        self.offline_cpus: set[int] = set()
        self.refuses: dict[str, Exception] = {}
        self.on: dict[str, Callable[[], object]] = {}
        self.ends: dict[str, End] = {}
        """How domains end, as events tell it."""
        self.compared: list[tuple[str, ...]] = []
        self.cpu_fits = True
        self.capabilities = "<capabilities><host/></capabilities>"
        self.nodes: dict[int, HostNode] = {}
        """The memory nodes, by their numbers."""

    def log(self, what: str) -> None:
        self._log(f"{self._hostname}: {what}")

    def set_host_uuid(self, uuid: str) -> None:
        self.capabilities = f"<capabilities><host><uuid>{uuid}</uuid></host></capabilities>"

    def add(self, domain: FakeDomain) -> FakeDomain:
        domain.host = self
        self.domains[domain.name()] = domain
        return domain

    def _called(self, what: str) -> None:
        self.log(what)
        if what in self.on:
            self.on[what]()
        if what in self.refuses:
            raise self.refuses[what]

    def lookupByName(self, name: str) -> FakeDomain:
        if name not in self.domains:
            raise refusal("NO_DOMAIN", f"Domain not found: no domain with matching name '{name}'")
        return self.domains[name]

    def lookupByUUIDString(self, uuid: str) -> FakeDomain:
        for domain in self.domains.values():
            if domain.uuid == uuid:
                return domain
        raise refusal("NO_DOMAIN", f"Domain not found: no domain with matching uuid '{uuid}'")

    def listAllDomains(self, flags: int = 0) -> list[FakeDomain]:
        assert flags in (0, api().VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return [domain for domain in self.domains.values() if not flags or domain.isActive()]

    def listAllSecrets(self, flags: int = 0) -> list[FakeSecret]:
        if "secrets" in self.refuses:
            raise self.refuses["secrets"]
        return list(self.secrets.values())

    def secretDefineXML(self, xml: str, flags: int = 0) -> FakeSecret:
        for what in ("secrets", "define secret"):
            if what in self.refuses:
                raise self.refuses[what]
        secret = FakeSecret(self, xml)
        for other in self.secrets.values():
            if (other.UUIDString() == secret.UUIDString()) != (other.usageID() == secret.usageID()):
                raise refusal("INTERNAL_ERROR", "a secret is already defined for that")
        self.secrets[secret.UUIDString()] = secret
        return secret

    def secretLookupByUUIDString(self, uuid: str) -> FakeSecret:
        if uuid not in self.secrets:
            raise refusal("NO_SECRET", f"no secret with matching uuid '{uuid}'")
        return self.secrets[uuid]

    def secretLookupByUsage(self, kind: int, usage: str) -> FakeSecret:
        for secret in self.secrets.values():
            if secret.usageID() == usage:
                return secret
        raise refusal("NO_SECRET", f"no secret with matching usage '{usage}'")

    def listAllDevices(self, flags: int) -> list[FakeDevice]:
        assert flags == api().VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV
        if not self.knows_devices:
            raise refusal(
                "NO_SUPPORT",
                "this function is not supported by the connection driver: "
                "virConnectListAllNodeDevices",
            )
        return self.node_devices

    def getHostname(self) -> str:
        return self._hostname

    def getInfo(self) -> list[Any]:
        return ["x86_64", 4096, self.cpus, 2000, 1, 1, self.cpus, 1]

    def getCPUMap(self) -> tuple[int, list[bool], int]:
        online = [cpu not in self.offline_cpus for cpu in range(self.cpus)]
        return self.cpus, online, sum(online)

    def getType(self) -> str:
        return self.kind

    def getVersion(self) -> int:
        return self.version

    def getLibVersion(self) -> int:
        return self.libvirt_version

    def getDomainCapabilities(self, path: str | None, *described: object) -> str:
        if "capabilities" in self.refuses:
            raise self.refuses["capabilities"]
        path = path or next(iter(self.emulators))
        if path not in self.emulators:
            raise refusal("INVALID_ARG", f"cannot find {path}")
        return (
            f"<domainCapabilities><path>{path}</path><machine>{self.emulators[path]}</machine>"
            "</domainCapabilities>"
        )

    def getMemoryStats(self, cell: int) -> dict[str, int]:
        if cell in self.nodes:
            return {"total": self.nodes[cell].total or 0, "free": self.nodes[cell].free or 0}
        return {"total": 2 * self.free, "free": self.free}

    def set_nodes(self, *nodes: HostNode) -> None:
        """Give the host memory nodes, with the numbers 0, 1 and so on."""
        self.nodes = dict(enumerate(nodes))
        cells = "".join(_cell(number, node) for number, node in self.nodes.items())
        self.capabilities = (
            f"<capabilities><host><topology><cells>{cells}</cells></topology></host></capabilities>"
        )

    def getFreePages(self, sizes: list[int], start: int, count: int) -> dict[int, dict[int, int]]:
        assert count == 1
        free = self.nodes[start].free_pages or {}
        return {start: {size: free[size] for size in sizes}}

    def getCapabilities(self) -> str:
        return self.capabilities

    def compareCPU(self, xml: str, flags: int) -> int:
        self.compared.append((xml,))
        return self._comparison()

    def compareHypervisorCPU(self, emulator: None, *asked: str) -> int:
        *described, _flags = asked
        self.compared.append(tuple(described))
        return self._comparison()

    def _comparison(self) -> int:
        if "compare" in self.refuses:
            raise self.refuses["compare"]
        libvirt = api()
        fits, lacks = libvirt.VIR_CPU_COMPARE_SUPERSET, libvirt.VIR_CPU_COMPARE_INCOMPATIBLE
        return int(fits if self.cpu_fits else lacks)

    def defineXML(self, xml: str) -> FakeDomain:
        if not is_probe(str(ElementTree.fromstring(xml).findtext("name"))):
            self._called("define")
        domain = self._described(xml, SHUT_OFF)
        domain.persistent = True
        return domain

    def defineXMLFlags(self, xml: str, flags: int) -> FakeDomain:
        return self.defineXML(xml)

    def createXML(self, xml: str, flags: int) -> FakeDomain:
        self._called("createXML")
        known = set(self.domains)
        domain = self._described(xml, SHUT_OFF)
        domain.persistent = domain.name() in known
        domain.createWithFlags(flags & ~api().VIR_DOMAIN_START_VALIDATE)
        return domain

    def _set_tuning(self, domain: FakeDomain, xml: str | None) -> None:
        """Give a domain the pinning and the memory nodes of its XML."""
        root = None if xml is None else ElementTree.fromstring(xml)
        found = [] if root is None else [root.find("cputune"), root.find("numatune")]
        domain.above_devices = "".join(
            ElementTree.tostring(each, encoding="unicode") for each in found if each is not None
        )

    def _described(self, xml: str, state: int) -> FakeDomain:
        """The domain of a description, with its memory and vCPUs."""
        element = ElementTree.fromstring(xml)
        name = str(element.findtext("name"))
        if name not in self.domains:
            left_behind = self.images_left_behind.pop(name, None)
            self.add(FakeDomain(name, state, 0)).saved_image = left_behind
        domain = self.domains[name]
        domain.memory = int(element.findtext("memory") or domain.memory)
        domain.vcpu_count = int(element.findtext("vcpu") or 1)
        for disk in element.iterfind("devices/disk"):
            source, target = disk.find("source"), disk.find("target")
            if source is not None and target is not None:
                domain.disks[str(target.get("dev"))] = str(source.get("file"))
        return domain

    def saveImageGetXMLDesc(self, path: str, flags: int) -> str:
        if Path(path).exists():
            return Path(path).read_text().partition("\n")[2]
        name = Path(path).stem
        if name not in self.images_left_behind:
            raise refusal("SYSTEM_ERROR", f"Failed to open file '{path}'", errno.ENOENT)
        return self.images_left_behind[name]

    def restoreFlags(self, path: str, xml: str | None, flags: int) -> None:
        self._called("restore")
        name = Path(path).read_text().partition("\n")[0]
        domain = self.domains.get(name) or self.add(FakeDomain(name))
        self._set_tuning(domain, xml)
        if flags & api().VIR_DOMAIN_SAVE_PAUSED:
            domain.state_now = [PAUSED, 1]
        else:
            domain.state_now = [RUNNING, 3]


class FakeConnection:
    """A `Connection` without threads."""

    def __init__(self, host: FakeHost, name: str) -> None:
        self.raw = host
        self.host = name

    @property
    def alive(self) -> bool:
        return self.raw.is_there

    async def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return self._done(function, *arguments, **named)

    async def within(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._done(function, *arguments)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(self._done(function, *arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    @asynccontextmanager
    async def changes(self, name: str) -> AsyncIterator[DomainChanges]:
        """The end of the domain as the host tells it by an event, from the begin."""
        changed = DomainChanges()
        changed.end = self.raw.ends.get(name)
        yield changed

    def _done(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if not self.raw.is_there:
            raise LostError(f"libvirt on {self.host} is away")
        try:
            return function(self.raw, *arguments, **named)
        except api().libvirtError as error:
            name = arguments[0] if arguments and isinstance(arguments[0], str) else None
            raise translated(error, self.host, name) from error


class FakeConnectionPool(ConnectionPool):
    """Connections to the fake hosts. The URIs are the real ones."""

    hosts: dict[str, FakeHost]

    async def get(
        self,
        host: str,
        driver: str | None = None,
        transport: str | None = None,
        *,
        use: str = "",
    ) -> Any:
        self.uri(host, driver, transport)
        if not self.hosts[host].is_there:
            raise LostError(f"libvirt on {host} is away")
        return FakeConnection(self.hosts[host], host)

    @asynccontextmanager
    async def own(self, host: str, driver: str | None = None, transport: str | None = None) -> Any:
        yield await self.get(host, driver, transport)


class FakeHosts:
    """Two fake hosts, node01 with the domain vm1 and node02, and the runtime of the first."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[str] = []
        """The calls that the hosts got, in order."""
        self.source = FakeHost("node01", self.calls.append)
        self.destination = FakeHost("node02", self.calls.append)
        self.domain = self.source.add(FakeDomain())
        options = {
            "transports": ["ssh", "tcp", "tls"],
            "probe_hosts": ["127.0.0.1"],
            **options,
        }
        self.runtime = LibvirtRuntime(LibvirtOptions(**options), NodeContext("node01"))
        connections = FakeConnectionPool("node01", self.runtime.options, self.runtime.node.log)
        connections.hosts = {"node01": self.source, "node02": self.destination}
        self.runtime.connections = connections  # type: ignore[misc]
        self.cancellation = Cancellation()
        self.progress: list[Any] = []
        """What was reported."""
        self.context = Context(
            "node01",
            cancellation=self.cancellation,
            services=DaemonServices(report=self.progress.append),
        )

    def give_certificates(self, folder: str = "/etc/pki/qemu") -> Authority:
        """Give both hosts certificates of one authority. Returns it.

        The domain's machine type shows that its process can encrypt several connections.
        """
        machine = "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
        self.domain.above_devices = machine
        authority = Authority()
        for host, name in ((self.source, "node01"), (self.destination, "node02")):
            files = authority.qemu_files(name)
            host.files.update({f"{folder}/{file}": data for file, data in files.items()})
        return authority

    @property
    def phases(self) -> list[str]:
        """The phases that were reported, each once in a row."""
        found: list[str] = []
        for facts in self.progress:
            if not found or found[-1] != facts.phase:
                found.append(facts.phase)
        return found
