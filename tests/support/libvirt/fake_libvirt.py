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

from .fake_domain import PAUSED, RUNNING, SHUT_OFF, FakeDomain, refusal


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

    def submit_with(
        self, other: "FakeConnection | None", function: Callable[..., Any], *arguments: Any
    ) -> "Future[Any]":
        raw = None if other is None else other.raw
        return self.submit(lambda own, *rest: function(own, raw, *rest), *arguments)

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
