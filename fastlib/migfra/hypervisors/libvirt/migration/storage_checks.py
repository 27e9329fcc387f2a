"""Check that a domain finds its disks, kernel, firmware and other files at the destination.

All queries go through libvirt: the daemon may have no other way to the other host. A disk must
not only exist there. It must be the same storage, because a copy may be older than the disk.
"""

import asyncio
import posixpath
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import Disk, disks_of
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import (
    FileFacts,
    Prober,
    VolumeFacts,
    probe_files,
    probe_volume,
    remove_left_definitions,
)
from fastlib.migfra.hypervisors.libvirt.domain.files_xml import (
    DomainFile,
    DomainFiles,
    PoolVolume,
    files_of,
)
from fastlib.migfra.hypervisors.libvirt.domain.image_chain import read_chain
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError, LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from . import disks_decision
from .content_checks import compare_content, find_other_devices, sizes_to_compare
from .disks_check import CopyPlan, PlannedCopy, plan_copies
from .disks_decision import DiskFacts
from .shared_folders import (
    Marker,
    folders_of,
    is_network_file_system,
    make_markers,
    remove_markers,
)
from .storage_decision import Sharing, StorageDecision, StorageFacts, decide

_UNCHECKED: Final = "could not be checked"


class _Needs(msgspec.Struct, frozen=True, kw_only=True):
    """The needs of a domain, as the source's libvirt reports them."""

    prober: Prober
    files: DomainFiles
    disks: Sequence[Disk] = ()
    """The disks of an active domain that it writes."""


def _read_needs(connection: Any, name: str, own_host: str, is_offline: bool) -> _Needs:
    libvirt = api()
    domain = connection.lookupByName(name)
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE if is_offline else 0)
    kind = parse(xml).find("os/type")
    architecture = None if kind is None else kind.get("arch")
    prober = Prober(
        host=own_host, domain_uuid=domain.UUIDString(), architecture=architecture or "x86_64"
    )
    if is_offline:
        return _Needs(prober=prober, files=files_of(xml))
    sent = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)
    return _Needs(prober=prober, files=files_of(xml, moves=True), disks=disks_of(sent))


class StorageCheck(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the check of a domain's storage."""

    notes: Sequence[str] = ()
    """The checks that were not possible, in words."""
    plan: CopyPlan = CopyPlan()


async def check_storage(
    runtime: LibvirtRuntime, spec: MigrationSpec, context: Context
) -> StorageCheck:
    """Check a domain's files, and plan the copies of its disks.

    Raises HypervisorError with the paths that the destination lacks, or that lead to other files
    there, and with the disks that cannot be copied.
    """
    check = _StorageCheck(runtime, spec, context)
    return await check.run()


async def check_shared_file(
    runtime: LibvirtRuntime, spec: MigrationSpec, context: Context, path: str
) -> None:
    """Check that a file that the source will write is the same file on the destination.

    Raises HypervisorError if the path leads to another folder there, or if the file exists already.
    """
    check = _StorageCheck(runtime, spec, context)
    await check.check_shared_file(path)


async def remove_left_definitions_on(
    runtime: LibvirtRuntime, host: str, driver: str | None, transport: str | None = None
) -> None:
    """Remove definitions that a check left on a host when the daemon was killed. Logs a failure."""
    try:
        connection = await runtime.connections.get(host, driver, transport)
        await connection.call(remove_left_definitions, runtime.host)
    except HypervisorError as error:
        runtime.node.log.warning("definitions of checks may be left on %s: %s", host, error)


class _StorageCheck:
    """The check of one domain's storage."""

    def __init__(self, runtime: LibvirtRuntime, spec: MigrationSpec, context: Context) -> None:
        self._runtime = runtime
        self._spec = spec
        self._context = context
        self._offline = spec.kind == "offline"
        self._notes: list[str] = []
        self._problems: list[str] = []
        self._volume_paths: dict[str, str] = {}
        """The paths of the volumes of pools on the source, by the disks that name them."""

    async def run(self) -> StorageCheck:
        spec = self._spec
        self._needs = needs = await self._read_needs()
        for words in needs.files.unknown:
            self._context.log.info(
                "%s: %s is not checked on %s", spec.name, words, spec.destination
            )
        files = await self._all_files(needs.files)
        plan = CopyPlan()
        if files or needs.disks or spec.parameter.copy_storage is not None:
            facts = await self._find_out(files)
            if not self._offline:
                plan, decided = await self._plan_copies(facts)
                files = [file for file in files if file.path not in decided]
            self._report(decide(files, facts))
        if self._problems:
            raise HypervisorError("; ".join(self._problems))
        for note in self._notes:
            self._context.log.warning("%s: %s", spec.name, note)
        return StorageCheck(notes=self._notes, plan=plan)

    async def _plan_copies(self, facts: StorageFacts) -> tuple[CopyPlan, Collection[str]]:
        """Plan the copies of the disks. Returns also the paths that need no other check."""
        spec = self._spec
        disks = [
            msgspec.structs.replace(disk, path=self._volume_paths.get(disk.target, disk.path))
            for disk in self._needs.disks
        ]
        paths = [disk.path for disk in disks if disk.is_file]
        on_network = [
            path for path in paths if await asyncio.to_thread(is_network_file_system, path)
        ]
        decision = disks_decision.decide(
            spec,
            disks,
            DiskFacts(sharing=facts.sharing, there=facts.there, on_network=on_network),
        )
        self._problems += decision.problems
        copies: Sequence[PlannedCopy] = ()
        if decision.copied and not self._problems:
            copies = await plan_copies(
                spec, decision.copied, self._needs.files.files, self._needs.prober, self._connect
            )
        others = [
            disk
            for disk in disks
            if disk not in decision.copied and not disk.libvirt_takes_as_shared
        ]
        plan = CopyPlan(
            copies=copies,
            is_incremental=spec.parameter.copy_storage == "incremental",
            shows_shared=bool(decision.shared) and list(decision.shared) == others,
            has_unlocked=not all(disk.is_locked for disk in disks),
        )
        # The destination needs no backing file of a disk that is copied whole. `plan_copies` checks
        # those of the others.
        targets = {disk.target for disk in disks if disk in decision.copied or disk.is_transient}
        all_files = self._needs.files.files
        behind = [file.path for file in all_files if file.is_behind and file.disk in targets]
        return plan, {*decision.decided, *behind}

    async def check_shared_file(self, path: str) -> None:
        """See the function."""
        spec = self._spec
        self._needs = await self._read_needs()
        folder = posixpath.dirname(path)
        if (await self._find_sharing([path])).get(path) == "separate":
            raise HypervisorError(
                f"{spec.destination} and {spec.source} must share the folder {folder}, but each "
                "has its own; set snapshot-directory to a folder that all hosts share"
            )
        for host in (spec.source, spec.destination):
            if (await self._probe(host, [path]))[path].presence == "present":
                raise HypervisorError(
                    f"{host} already has a file {path}, which may be the memory of a domain that "
                    "was not restored; move it away"
                )

    async def _read_needs(self) -> _Needs:
        source = await self._connect(self._spec.source)
        return await source.call(_read_needs, self._spec.name, self._runtime.host, self._offline)

    async def _connect(self, host: str) -> Connection:
        return await self._runtime.connections.get(host, self._spec.driver, self._spec.transport)

    async def _all_files(self, needed: DomainFiles) -> list[DomainFile]:
        """Return the files to check: those in the XML, in pools, and behind images."""
        files = list(needed.files)
        for volume in needed.volumes:
            files += await self._of_volume(volume)
        if not self._offline:
            # libvirt checks the others.
            return [file for file in files if not file.sent and (file.written or file.disk)]
        for file in list(files):
            if file.format is None or file.chain_known:
                continue
            # An offline migration starts on the daemon's own host, so it can read the images.
            chain = await asyncio.to_thread(read_chain, file.path, file.format)
            role = file.role
            for path in chain.backing:
                files.append(DomainFile(path=path, role=f"backing file of {role}"))
            for path in chain.data:
                files.append(DomainFile(path=path, role=f"data file of {role}", written=True))
            for words in chain.unknown:
                self._notes.append(f"{words} {_UNCHECKED}")
        return list({file.path: file for file in reversed(files)}.values())[::-1]

    async def _of_volume(self, volume: PoolVolume) -> list[DomainFile]:
        """Return the file of a volume if it has the same path on both hosts."""
        spec = self._spec
        here, there = [
            await self._ask(host, probe_volume, volume.pool, volume.volume)
            for host in (spec.source, spec.destination)
        ]
        words = f"the volume {volume.volume} ({volume.role})"
        if not isinstance(there, VolumeFacts):
            self._notes.append(f"whether {spec.destination} has {words} {_UNCHECKED}: {there}")
            return []
        if there.problem is not None:
            self._problems.append(
                f"{spec.destination} lacks {words} of {spec.name}: {there.problem} there"
            )
            return []
        if isinstance(here, VolumeFacts) and here.path is not None:
            if volume.disk is not None and volume.is_top:
                self._volume_paths[volume.disk] = here.path
            if here.path == there.path and here.path.startswith("/"):
                return [
                    DomainFile(
                        path=here.path,
                        role=volume.role,
                        written=volume.written,
                        block=here.path.startswith("/dev/"),
                        disk=volume.disk,
                        is_behind=volume.is_behind,
                    )
                ]
            if here.path == there.path:
                return []  # a name in the network, which is the same for all hosts
        if volume.written:
            self._notes.append(f"whether {words} is the same on both hosts {_UNCHECKED}")
        return []

    async def _ask(self, host: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on a host. Returns the error if that libvirt cannot do it."""
        connection = await self._connect(host)
        try:
            return await connection.call(function, *arguments)
        except LostError:
            raise
        except LibvirtError as error:
            return error

    async def _probe(self, host: str, paths: Sequence[str]) -> dict[str, FileFacts]:
        """Find out which files are on a host."""
        if not paths:
            return {}
        answer = await self._ask(host, probe_files, self._needs.prober, paths)
        if isinstance(answer, LibvirtError):
            unknown = FileFacts(presence="unknown", error=str(answer))
            return dict.fromkeys(paths, unknown)
        found: dict[str, FileFacts] = answer
        return found

    async def _find_out(self, files: Sequence[DomainFile]) -> StorageFacts:
        """Query both hosts for all facts that the decision needs."""
        spec, needs = self._spec, self._needs
        templates = [file.template for file in files if file.template is not None]
        paths = list(dict.fromkeys([*(file.path for file in files), *templates]))
        read = [] if self._offline else [file.path for file in files if _is_only_read(file)]
        compared = [file.path for file in files if file.written or file.if_on_source] + read
        there, here = await asyncio.gather(
            self._probe(spec.destination, paths), self._probe(spec.source, compared)
        )
        written = [file for file in files if file.written]
        sharing = await self._find_sharing([file.path for file in written if not file.block])
        facts = StorageFacts(here=here, there=there, sharing=sharing, at_rest=self._offline)
        if not self._offline:
            content = await self._compare_content(read, facts)
            devices = [file.path for file in written if file.block]
            sizes = sizes_to_compare(devices, facts)
            others = await find_other_devices(self._ask, spec, needs.prober, sizes)
            content |= dict.fromkeys(others, False)
            return msgspec.structs.replace(facts, same_content=content)
        unclear = [file.path for file in written if sharing.get(file.path, "unknown") == "unknown"]
        content = await self._compare_content(unclear, facts)
        return msgspec.structs.replace(facts, same_content=content)

    async def _find_sharing(self, paths: Sequence[str]) -> dict[str, Sharing]:
        """Find out with temporary files of each path whether both hosts share its folder."""
        if not paths:
            return {}
        spec, own = self._spec, self._runtime.connections.is_own
        other = spec.destination if own(spec.source) else spec.source
        folders = {path: await asyncio.to_thread(folders_of, path) for path in paths}
        wanted = {folder for each in folders.values() for folder in each}
        made = await asyncio.to_thread(make_markers, self._runtime.host, sorted(wanted))
        try:
            markers = [marker.path for marker in made.values()]
            # libvirt on this host must also see them: the daemon may have its own /tmp.
            here, there = await asyncio.gather(
                self._probe(self._runtime.host, markers), self._probe(other, markers)
            )
        finally:
            for problem in await asyncio.to_thread(remove_markers, made.values()):
                self._context.log.warning("%s", problem)
        by_folder = {
            folder: _sharing_of(marker, here[marker.path], there[marker.path])
            for folder, marker in made.items()
        }
        found: dict[str, Sharing] = {}
        for path, its_folders in folders.items():
            answers = {by_folder.get(folder, "unknown") for folder in its_folders}
            if answers == {"shared"} or "separate" in answers:
                found[path] = "separate" if "separate" in answers else "shared"
            elif await asyncio.to_thread(is_network_file_system, path):
                found[path] = "shared"
        return found

    async def _compare_content(self, paths: Sequence[str], facts: StorageFacts) -> dict[str, bool]:
        spec, prober = self._spec, self._needs.prober
        return await compare_content(self._ask, spec, prober, sizes_to_compare(paths, facts))

    def _report(self, decision: StorageDecision) -> None:
        """Raise HypervisorError for the decision, or note the checks that were not possible."""
        spec = self._spec
        if decision.missing:
            self._problems.append(
                f"{spec.destination} lacks files of {spec.name}: {', '.join(decision.missing)}; "
                "put them there, best on storage that both hosts share, or take them out of the "
                + (
                    "domain's definition"
                    if self._offline
                    else "domain, such as a CD-ROM by virsh change-media --eject"
                )
            )
        if decision.other:
            self._problems.append(
                f"{', '.join(decision.other)} of {spec.name} is another file on "
                f"{spec.destination} than on {spec.source}, such as an older copy; put it on "
                "storage that both hosts share at that path"
                + (
                    f", or copy it and move the definition with virsh define on {spec.destination} "
                    f"and virsh undefine on {spec.source}"
                    if self._offline
                    else ""
                )
            )
        if decision.unlike:
            self._problems.append(
                f"{', '.join(decision.unlike)} of {spec.name} has other content on "
                f"{spec.destination} than on {spec.source}, and the domain may have read it; copy "
                "it there, or take it out of the domain, such as a CD-ROM by virsh change-media "
                "--eject"
            )
        if decision.unasked:
            paths = ", ".join(decision.unasked)
            self._notes.append(f"whether {spec.destination} has {paths} {_UNCHECKED}")
        if decision.unshown:
            paths = ", ".join(decision.unshown)
            self._notes.append(f"whether {paths} is the same file on both hosts {_UNCHECKED}")


def _is_only_read(file: DomainFile) -> bool:
    """Return whether a file is the medium of a disk that the domain does not write."""
    return file.disk is not None and not (file.written or file.is_behind or file.block)


def _sharing_of(marker: Marker, here: FileFacts, there: FileFacts) -> Sharing:
    if here.presence != "present" or here.size != marker.size:
        return "unknown"
    if there.presence == "present" and there.size == marker.size:
        return "shared"
    return "separate" if there.presence == "absent" else "unknown"
