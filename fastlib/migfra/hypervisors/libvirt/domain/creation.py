"""Define and create domains, and compare the domain that libvirt made with the task.

libvirt returns the domain that it made. All later steps find that domain by its UUID, because
another one may have got the name in the meantime. The functions block.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.errors import is_unknown_flag
from fastlib.migfra.virt.domain_vcpus import cpu_set, default_pin, read_pins, read_vcpus
from fastlib.migfra.virt.domain_xml import read_memory, read_uuid

from . import control, saved_state
from .xml import parse

_GRANULE: Final = 2 << 10
"""In KiB. QEMU rounds each part of a domain's memory up to MiB, memory modules to 2 MiB."""
_POWER_GRANULE: Final = 256 << 10
"""In KiB. The same on POWER."""


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """The values of a domain that a task can set."""

    name: str
    uuid: str | None
    """None lets libvirt choose it."""
    memory: int | None
    """In KiB. None lets libvirt choose it."""
    vcpus: tuple[int, ...]
    """The numbers of the vCPUs that are online."""
    pins: Mapping[int, frozenset[int] | None]
    """The CPUs that each vCPU may use; None means all."""
    persistent: bool
    images: Mapping[str, str] = {}
    """The paths of image files, by the disk's name. Only new disks count in a comparison."""
    granule: int = 0
    """In KiB. The memory of a running domain may be larger by less than that."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """The domain that libvirt made."""

    values: Values
    uuid: str
    is_new: bool
    """Whether the host had no domain with this UUID before."""
    run: int = -1
    """libvirt's id of this run of the domain; -1 while it is shut off."""
    problem: str | None = None
    """The reason why its values cannot be read. None if they can."""


def values_of(xml: str, *, persistent: bool, name: str | None = None) -> Values:
    """Read the values of a domain's XML. Raises HypervisorError."""
    root = parse(xml)
    vcpus = read_vcpus(root).online
    pins, default = read_pins(root), default_pin(root)
    return Values(
        name=name or str(root.findtext("name")),
        uuid=read_uuid(root),
        memory=read_memory(root),
        vcpus=vcpus,
        pins={vcpu: pins.get(vcpu, default) for vcpu in vcpus},
        persistent=persistent,
        images=_images(root),
        granule=_granule(root),
    )


def _images(root: Element) -> dict[str, str]:
    found = {}
    for disk in root.iterfind("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        path = None if source is None else source.get("file")
        if target is not None and path is not None:
            found[target.get("dev", "")] = path
    return found


def _granule(root: Element) -> int:
    kind = root.find("os/type")
    of_power = kind is not None and kind.get("arch", "").startswith("ppc64")
    parts = len(root.findall("cpu/numa/cell")) + len(root.findall("devices/memory"))
    return (_POWER_GRANULE if of_power else _GRANULE) * max(1, parts)


def differences(meant: Values, made: Values) -> list[str]:
    """Compare the created domain with the task. Returns the differences, in words."""
    found = []
    if made.name != meant.name:
        found.append(f"the name is {made.name!r} instead of {meant.name!r}")
    if meant.uuid is not None and made.uuid != meant.uuid:
        found.append(f"the UUID is {made.uuid} instead of {meant.uuid}")
    if meant.memory is not None and not _is_memory(meant.memory, made):
        found.append(f"the memory is {made.memory} KiB instead of {meant.memory} KiB")
    if made.vcpus != meant.vcpus:
        found.append(f"the vCPUs online are {made.vcpus} instead of {meant.vcpus}")
    for vcpu, cpus in meant.pins.items():
        got = made.pins.get(vcpu)
        if cpus is not None and got != cpus:
            found.append(
                f"vCPU {vcpu} may use the CPUs {'all' if got is None else cpu_set(got)} instead of "
                f"{cpu_set(cpus)}"
            )
    for target, path in meant.images.items():
        if made.images.get(target) != path:
            has = made.images.get(target, "no file")
            found.append(f"disk {target} is {has} instead of {path}")
    if made.persistent != meant.persistent:
        words = ("transient", "persistent")
        found.append(f"it is {words[made.persistent]} instead of {words[meant.persistent]}")
    return found


def _is_memory(meant: int, made: Values) -> bool:
    return made.memory is not None and meant <= made.memory <= meant + max(0, made.granule - 1)


def check_made(meant: Values, made: Made) -> None:
    """Raise HypervisorError if the domain that libvirt made differs from the task."""
    if made.problem is not None:
        raise HypervisorError(
            f"libvirt's description of {meant.name} cannot be compared with the task: "
            f"{made.problem}; it was not started"
        )
    found = differences(meant, made.values)
    if found:
        raise HypervisorError(
            f"libvirt read the XML of {meant.name} differently: {'; '.join(found)}; it was not "
            "started; write that part of the XML in the usual form"
        )


def define(connection: Any, name: str, xml: str, validate: bool) -> Made:
    """Define a domain. With `validate` the XML must follow libvirt's schema."""
    known = _known_uuids(connection)
    if validate:
        domain = _validated(connection.defineXMLFlags, xml, api().VIR_DOMAIN_DEFINE_VALIDATE)
    else:
        domain = connection.defineXML(xml)
    return _made(domain, known)


def create_transient(connection: Any, name: str, xml: str) -> Made:
    """Create a transient domain, paused if the driver can do that.

    The XML must follow libvirt's schema.
    """
    libvirt = api()
    known = _known_uuids(connection)

    def create(description: str, flags: int) -> Any:
        try:
            return connection.createXML(description, flags | libvirt.VIR_DOMAIN_START_PAUSED)
        except libvirt.libvirtError as error:
            if not is_unknown_flag(error, libvirt.VIR_DOMAIN_START_PAUSED):
                raise
            return connection.createXML(description, flags)

    return _made(_validated(create, xml, libvirt.VIR_DOMAIN_START_VALIDATE), known)


def create_defined(connection: Any, name: str, uuid: str, paused: bool) -> int:
    """Start a defined domain, with `paused` in the state paused if the driver can do that.

    Returns libvirt's id of this run of the domain.
    """
    libvirt = api()
    domain = connection.lookupByUUIDString(uuid)
    _check_name(domain, name)
    flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
    try:
        domain.createWithFlags(flags)
    except libvirt.libvirtError as error:
        if not (flags and is_unknown_flag(error, flags)):
            raise
        domain.createWithFlags(0)
    return int(domain.ID())


def run_on(connection: Any, name: str, uuid: str) -> bool:
    """Resume a domain that was created paused. Returns False if it has ended in the meantime.

    A domain that runs already is left as it is.
    """
    libvirt = api()
    domain = _find(connection, uuid)
    if domain is None or not domain.isActive():
        return False
    if domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        domain.resume()
    return True


def end(connection: Any, name: str, uuid: str, run: int) -> None:
    """End a domain at once, but only in the run with that id."""
    domain = _find(connection, uuid)
    if domain is not None and domain.isActive() and domain.ID() == run:
        domain.destroy()


def forget(connection: Any, name: str, uuid: str) -> None:
    """Undefine a domain that `define` made.

    Raises HypervisorError if it was saved in the meantime: its image would be deleted together with
    its definition.
    """
    domain = _find(connection, uuid)
    if domain is None:
        return
    if saved_state.image_of(domain) is not None:
        raise HypervisorError(
            f"{domain.name()} has a saved image with its newest memory; delete it with virsh "
            f"undefine {domain.name()} --managed-save if it is not needed"
        )
    control.undefine(connection, domain.name())


def restore_definition(connection: Any, name: str, xml: str) -> None:
    """Define a domain as it was before, whether or not its XML follows libvirt's schema."""
    connection.defineXML(xml)


def _find(connection: Any, uuid: str) -> Any:
    libvirt = api()
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _check_name(domain: Any, name: str) -> None:
    if domain.name() != name:
        raise HypervisorError(f"{name} was renamed to {domain.name()} in the meantime; try again")


def _known_uuids(connection: Any) -> frozenset[str]:
    return frozenset(domain.UUIDString() for domain in connection.listAllDomains())


def _made(domain: Any, known: frozenset[str]) -> Made:
    libvirt = api()
    active = bool(domain.isActive())
    flags = 0 if active else libvirt.VIR_DOMAIN_XML_INACTIVE
    uuid, persistent = str(domain.UUIDString()), bool(domain.isPersistent())
    problem = None
    try:
        values = values_of(domain.XMLDesc(flags), persistent=persistent, name=domain.name())
        granule = values.granule if active else 0
        values = msgspec.structs.replace(values, uuid=uuid, granule=granule)
    except HypervisorError as error:  # the caller must undo the creation also after this error
        problem = str(error)
        values = Values(
            name=domain.name(), uuid=uuid, memory=None, vcpus=(), pins={}, persistent=persistent
        )
    return Made(
        values=values,
        uuid=uuid,
        is_new=uuid not in known,
        run=int(domain.ID()) if active else -1,
        problem=problem,
    )


def _validated(call: Callable[[str, int], Any], xml: str, flag: int) -> Any:
    """Call libvirt with validation. Repeat the call without it if the host cannot validate."""
    libvirt = api()
    try:
        return call(xml, flag)
    except libvirt.libvirtError as error:
        has_no_schema = "Unable to parse RNG" in str(error)
        if not (has_no_schema or is_unknown_flag(error, flag)):
            raise
        return call(xml, 0)
