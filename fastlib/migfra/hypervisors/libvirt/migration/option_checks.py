"""Check before a migration that both hosts support its options, by the table of combinations."""

import asyncio
from typing import Any, Final
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.errors import FinalError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.emulator import (
    Emulator,
    emulator_of,
    installed_version,
    machine_version,
    process_version,
)
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError, LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt import combination_checks, combinations
from fastlib.migfra.virt.combinations import Choice
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.program_versions import HostVersions, Version, version_of


async def check_options(runtime: LibvirtRuntime, spec: MigrationSpec, context: Context) -> None:
    """Raise FinalError for options that the domain or one of the hosts does not support.

    The domain must be active, unless it migrates offline.
    """
    chosen = combination_checks.choices_of(spec)
    if spec.kind == "offline" or not any(choice.only_qemu for choice in chosen):
        return
    connect = runtime.connections.get
    source = await connect(spec.source, spec.driver, spec.transport)
    destination = await connect(spec.destination, spec.driver, spec.transport)
    xml, is_paused = await source.call(_read_domain, spec.name)
    conditions = domain_choices(xml, is_paused=is_paused)
    combination_checks.check_order(spec, *conditions)
    chosen = (*chosen, *conditions)
    bounds = list(combination_checks.bounds_of(chosen))
    # libvirt may have to start an emulator to read its version.
    emulator = emulator_of(xml) if any(bound.program == "QEMU" for bound in bounds) else None
    here, there = await asyncio.gather(
        read_versions(source, emulator, context), read_versions(destination, emulator, context)
    )
    problem = combination_checks.problem_of_hosts(chosen, (here, there))
    if problem is None and emulator and any(bound.process_counts for bound in bounds):
        problem = await _problem_of_process(spec, chosen, source, (here, there), emulator)
    resumes = runtime.options.post_copy_without_recovery or combinations.POST_COPY not in chosen
    if problem is None and not resumes:
        problem = combination_checks.problem_of_resume((here, there))
    if problem is not None:
        raise FinalError(problem)


_FILE_MODELS: Final = frozenset({"nvdimm", "virtio-pmem"})
"""Models of memory modules that are always files or devices."""
_SMALL_PAGE_KIB: Final = "4"
"""The size of a normal page, as libvirt writes it."""


def _read_domain(connection: Any, name: str) -> tuple[str, bool]:
    domain = connection.lookupByName(name)
    return str(domain.XMLDesc(0)), domain.state()[0] == api().VIR_DOMAIN_PAUSED


def domain_choices(xml: str, *, is_paused: bool) -> tuple[Choice, ...]:
    """Return the properties of an active domain that restrict its options of migration."""
    root = parse(xml)
    found = [combinations.PAUSED] if is_paused else []
    if _has_memory_in_files(root):
        found.append(combinations.FILE_MEMORY)
    if root.find("memtune/hard_limit") is None:
        found.append(combinations.NO_MEMORY_LIMIT)
    return tuple(found)


def _has_memory_in_files(root: Element) -> bool:
    """Return whether libvirt gives a domain memory in files other than huge pages.

    It also uses files for each kind of access, unless the source is memfd. Huge pages are files of
    hugetlbfs; post-copy can fill those.
    """
    if {module.get("model") for module in root.iterfind("devices/memory")} & _FILE_MODELS:
        return True
    source = root.find("memoryBacking/source")
    kind = None if source is None else source.get("type")
    if kind == "memfd" or _has_only_huge_pages(root):
        return False
    cells = root.iterfind("cpu/numa/cell")
    has_access = root.find("memoryBacking/access") is not None
    return kind == "file" or has_access or any(cell.get("memAccess") for cell in cells)


def _has_only_huge_pages(root: Element) -> bool:
    pages = root.findall("memoryBacking/hugepages/page")
    return root.find("memoryBacking/hugepages") is not None and not any(
        page.get("nodeset") or page.get("size") == _SMALL_PAGE_KIB for page in pages
    )


async def read_versions(
    connection: Connection, emulator: Emulator | None, context: Context
) -> HostVersions:
    """Read the versions of libvirt and of the installed emulator on a host.

    Without an emulator its version is unknown.
    """
    kind, libvirt = await connection.call(_read_kind)
    hypervisor: Version | None = None
    if kind == "QEMU" and emulator is not None:
        try:
            hypervisor = await connection.call(installed_version, emulator)
        except LostError:
            raise
        except LibvirtError as error:
            context.log.warning("the version of %s is not known: %s", emulator.path, error)
    return HostVersions(
        host=connection.host, kind=kind, hypervisor=hypervisor, libvirt=version_of(libvirt)
    )


def _read_kind(connection: Any) -> tuple[str, int]:
    return str(connection.getType()), int(connection.getLibVersion())


async def _problem_of_process(
    spec: MigrationSpec,
    chosen: tuple[Choice, ...],
    source: Connection,
    hosts: tuple[HostVersions, HostVersions],
    emulator: Emulator,
) -> str | None:
    """Return what the running process lacks. It may be older than the installed emulator."""
    here, there = hosts
    at_least = msgspec.structs.replace(here, hypervisor=machine_version(emulator.machine))
    if combination_checks.problem_of_hosts(chosen, (at_least, there)) is None:
        return None
    exact = await source.call(process_version, spec.name)
    running = msgspec.structs.replace(
        here, host=f"the running process of {spec.name} on {here.host}", hypervisor=exact
    )
    return combination_checks.problem_of_hosts(chosen, (running, there))
