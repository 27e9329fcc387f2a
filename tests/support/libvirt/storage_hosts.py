"""Two fake hosts for the checks of files: one sees the files of this machine, one only a part."""

import errno
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.message import MigrationType
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.migration.storage_checks import StorageCheck, check_storage
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .fake_domain import SHUT_OFF, refusal
from .fake_libvirt import FakeConnectionPool, FakeHost, FakeHosts

NO_VOLUMES: Final = MappingProxyType[str, str]({})


def _attribute(disk: ElementTree.Element, element: str, name: str) -> str:
    found = disk.find(element)
    assert found is not None
    return found.attrib[name]


class ProbeDomain:
    """The temporary domain that checks files."""

    def __init__(self, host: "StorageHost", xml: str) -> None:
        self.host = host
        root = ElementTree.fromstring(xml)
        self.name = root.findtext("name", "")
        assert root.find("devices/disk/readonly") is not None
        self.paths = {
            _attribute(disk, "target", "dev"): _attribute(disk, "source", "file")
            for disk in root.iterfind("devices/disk")
        }

    def blockInfo(self, disk: str) -> list[int]:
        content = self.host.content(self.paths[disk])
        return [len(content), len(content), len(content)]

    def blockPeek(self, disk: str, offset: int, size: int, flags: int) -> Any:
        return self.host.content(self.paths[disk])[offset : offset + size]

    def undefine(self) -> None:
        self.host.log("undefine")
        self.host.probes.remove(self.name)


class StorageHost(FakeHost):
    """A host with files."""

    def __init__(self, name: str, log: Callable[[str], object]) -> None:
        super().__init__(name, log)
        self.probes: list[str] = []
        self.hidden: list[Path] = []
        """Folders of this machine that the host does not see."""
        self.own: dict[str, Any] = {}
        """Content of its own files, or the error of reading one."""
        self.pools: dict[str, Pool] | None = {}
        """None if its libvirt has no storage driver."""

    def content(self, path: str) -> Any:
        if path in self.own:
            found = self.own[path]
            if isinstance(found, Exception):
                raise found
            return found
        if any(Path(path).is_relative_to(folder) for folder in self.hidden):
            raise system_error(errno.ENOENT)
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise system_error(error.errno or -1) from None

    def defineXML(self, xml: str) -> Any:
        self._called("define")
        domain = ProbeDomain(self, xml)
        self.probes.append(domain.name)
        return domain

    def storagePoolLookupByName(self, name: str) -> "Pool":
        if self.pools is None:
            raise refusal("NO_SUPPORT", "this function is not supported by the connection driver")
        if name not in self.pools:
            raise refusal("NO_STORAGE_POOL", f"Storage pool not found: {name}")
        return self.pools[name]


class Pool:
    """A storage pool: the path of each volume, also of those that a refresh finds."""

    def __init__(
        self,
        volumes: Mapping[str, str],
        *,
        active: bool = True,
        appears_by_refresh: Mapping[str, str] = NO_VOLUMES,
    ) -> None:
        self.volumes, self.active, self.later = dict(volumes), active, dict(appears_by_refresh)

    def isActive(self) -> bool:
        return self.active

    def refresh(self, flags: int) -> None:
        self.volumes.update(self.later)

    def storageVolLookupByName(self, name: str) -> "Volume":
        if name not in self.volumes:
            raise refusal("NO_STORAGE_VOL", "Storage volume not found")
        return Volume(self.volumes[name])


class Volume:
    """A volume of a storage pool."""

    def __init__(self, path: str) -> None:
        self._path = path

    def path(self) -> str:
        return self._path

    def info(self) -> list[int]:
        return [0, 1 << 20, 1 << 20]


def system_error(number: int) -> Exception:
    """Return the error of libvirt about a file that it could not open."""
    return refusal("SYSTEM_ERROR", "Failed to open file", number)


class Storage(FakeHosts):
    """Two hosts with files; vm1 on the first one is shut off."""

    source: StorageHost
    destination: StorageHost

    def __init__(self, *files: str, **options: Any) -> None:
        super().__init__(**options)
        self.source = self._with_files(self.source)
        self.destination = self._with_files(self.destination)
        connections = self.runtime.connections
        assert isinstance(connections, FakeConnectionPool)
        connections.hosts.update(node01=self.source, node02=self.destination)
        self.domain.state_now = [SHUT_OFF, 1]
        self.domain.devices = list(files)

    def _with_files(self, host: FakeHost) -> StorageHost:
        other = StorageHost(host.getHostname(), self.calls.append)
        for domain in host.domains.values():
            other.add(domain)
        return other

    def check(
        self, kind: MigrationType = "offline", source: str = "node01", **parameter: Any
    ) -> Sequence[str]:
        return self.run_check(kind, source, **parameter).notes

    def run_check(
        self, kind: MigrationType = "offline", source: str = "node01", **parameter: Any
    ) -> StorageCheck:
        destination = "node02" if source == "node01" else "node01"
        task = Migrate(
            vm_name="vm1",
            destination=destination,
            parameter=MigrateParameter(migration_type=kind, **parameter),
        )
        spec = MigrationSpec.from_task(task, source)
        try:
            return run_virtual(check_storage(self.runtime, spec, self.context))
        finally:
            assert self.source.probes == self.destination.probes == []

    def refusal(self, **options: Any) -> str:
        with pytest.raises(HypervisorError) as caught:
            self.check(**options)
        return str(caught.value)


class WrittenDevice:
    """A device that the domain writes all the time, so each read has other content."""

    def __init__(self, size: int) -> None:
        self.size, self.reads = size, 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> bytes:
        self.reads += 1
        return self.reads.to_bytes(4, "little")


def disk(
    path: object,
    target: str = "vda",
    format: str = "raw",
    kind: str = "file",
    attribute: str = "file",
    cache: str = "none",
) -> str:
    """Return the XML of a disk."""
    return (
        f"<disk type='{kind}' device='disk'><driver type='{format}' cache='{cache}'/>"
        f"<source {attribute}='{path}'/><target dev='{target}'/></disk>"
    )


def image(folder: Path, name: str = "disk.img", content: bytes = b"data" * 300) -> Path:
    """Write an image, and return its path."""
    path = folder / name
    path.write_bytes(content)
    return path
