"""Decide whether the XML of a task is allowed. Pure.

libvirtd runs as root and does what a domain's XML says. So at the level `checked`, a task's XML may
have only the elements and attributes of `xml_allow_list`, each with a value of its type. The checks
return the files and volumes that it names. `hypervisors/libvirt/domain/source_checks.py` then
checks links and backing files on the host.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal
from xml.etree.ElementTree import Element

import msgspec

from fastlib.migfra.errors import HypervisorError

from .domain_xml import parse_domain
from .xml_allow_list import ALLOWED, FREE, path_of
from .xml_values import ALLOW_ANY, TEXT, VARIABLES_FOLDER, Source, Value, XmlPolicy

_NAMESPACE: Final = re.compile(r"\{http://libvirt\.org/schemas/domain/([a-z]+)/[0-9.]+")


class NamedSource(msgspec.Struct, frozen=True, kw_only=True):
    """A file or a block device that a task's XML names."""

    path: str
    where: str
    """The element and attribute, such as `<devices> <disk> <source file>`."""
    format: Literal["raw", "qcow2"] = "raw"
    is_variables: bool = False
    """Whether it has UEFI variables. Those may also be in libvirt's own folder."""


class NamedVolume(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of a storage pool that a task's XML names."""

    pool: str
    volume: str
    where: str
    format: Literal["raw", "qcow2"] = "raw"


class NamedSources(msgspec.Struct, frozen=True, kw_only=True):
    """All files and volumes of the host that a task's XML names."""

    files: tuple[NamedSource, ...] = ()
    volumes: tuple[NamedVolume, ...] = ()


def check_domain_xml(xml: str, policy: XmlPolicy) -> NamedSources:
    """Return the files and volumes in a task's XML. Raises HypervisorError if it is refused.

    The result is empty at the level `any`.
    """
    if policy.allow == "any":
        return NamedSources()
    if policy.allow == "defined-only":
        raise HypervisorError(
            "the configuration lets tasks start only domains that are defined; leave out xml, or "
            "let the operator set domain-xml: {allow: checked}"
        )
    root = parse_domain(xml, is_text=_is_text)
    try:
        return _sources(root, policy)
    except HypervisorError as error:
        if root.get("id") is None:
            raise
        raise HypervisorError(
            f"{error}. The id at <domain> shows that this describes a running domain, which has "
            "more elements: use the output of virsh dumpxml --inactive"
        ) from None


def _sources(root: Element, policy: XmlPolicy) -> NamedSources:
    """Return the sources of a domain at the level `checked`. Raises HypervisorError."""
    files: list[NamedSource] = []
    volumes: list[NamedVolume] = []
    for tags, element in _elements(root, ()):
        allowed = ALLOWED.get(path_of(tags))
        where = _shown(tags)
        if allowed is None:
            raise HypervisorError(
                f"the domain's XML has {where}, which tasks must not use; leave it out, {ALLOW_ANY}"
            )
        values = dict(element.attrib)
        if _has_text(element.text):
            values[""] = element.text or ""
            if "" not in allowed:
                raise HypervisorError(f"the domain's XML has text in {where}; leave it out")
        if any(_has_text(child.tail) for child in element):
            raise HypervisorError(f"the domain's XML has text beside elements in {where}")
        for name, value in values.items():
            kind = allowed.get(name)
            _check_value(kind, name, value, tags, policy)
            if not isinstance(kind, Source):
                continue
            is_variables = kind.role == "variables"
            if is_variables or policy.has(value):  # only root writes in all other folders
                where = _shown(tags, name)
                files.append(NamedSource(path=value, where=where, is_variables=is_variables))
    files += _own_variables(root)
    _check_loader(root)
    _check_interfaces(root)
    for disk in root.iterfind("devices/disk"):
        _collect(disk, files, volumes)
    return NamedSources(files=tuple(dict.fromkeys(files)), volumes=tuple(volumes))


def _elements(element: Element, tags: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Element]]:
    """Yield the elements that libvirt reads, each with the tags below `<domain>`."""
    yield tags, element
    if tags == (FREE,):
        return
    for child in element:
        yield from _elements(child, (*tags, child.tag))


def _check_value(
    kind: Value | None, name: str, value: str, tags: tuple[str, ...], policy: XmlPolicy
) -> None:
    if kind is None:
        raise HypervisorError(
            f"the domain's XML has the attribute {name[:60]} at {_shown(tags)}, which tasks must "
            f"not use; leave it out, {ALLOW_ANY}"
        )
    problem = kind.problem(value, policy)
    if problem is not None:
        raise HypervisorError(
            f"the domain's XML has {value[:200]!r} as {_shown(tags, name)}, which tasks must not "
            f"use: {problem}"
        )


def _own_variables(root: Element) -> Iterator[NamedSource]:
    """Yield the files that libvirt may choose for UEFI variables, unless the XML names one."""
    os = root.find("os")
    if os is None or _has_text(os.findtext("nvram")):
        return
    if os.get("firmware") == "efi" or os.find("loader") is not None or os.find("nvram") is not None:
        name = root.findtext("name", "").strip()
        for ending in ("fd", "qcow2", "json"):
            path = f"{VARIABLES_FOLDER}/{name}_VARS.{ending}"
            yield NamedSource(path=path, where="<os> <nvram>", is_variables=True)


def _check_loader(root: Element) -> None:
    """Raise HypervisorError for writable flash memory: QEMU would open the file for writing."""
    for loader in root.iterfind("os/loader"):
        if loader.get("type") == "pflash" and loader.get("readonly") != "yes":
            raise HypervisorError(
                "the domain's XML has <os> <loader type='pflash'> without readonly='yes'; add it"
            )


def _check_interfaces(root: Element) -> None:
    """Raise HypervisorError for an interface without a type.

    libvirt takes its type as `user`, and that reaches the host's loopback.
    """
    for interface in root.iterfind("devices/interface"):
        if interface.get("type") is None:
            raise HypervisorError(
                "the domain's XML has <devices> <interface> without a type, and libvirt takes "
                "type='user' then; write type='network' or type='bridge'"
            )


def _collect(layer: Element, files: list[NamedSource], volumes: list[NamedVolume]) -> None:
    """Add the images of a disk that may name further files, and the volumes."""
    format: Literal["raw", "qcow2"] = "raw"
    for tag in ("driver", "format"):
        if any(each.get("type") == "qcow2" for each in layer.findall(tag)):
            format = "qcow2"
    for source in layer.findall("source"):
        pool, volume = source.get("pool"), source.get("volume")
        if pool is not None and volume is not None:
            where = f"the volume {volume!r} of the pool {pool}"
            volumes.append(NamedVolume(pool=pool, volume=volume, where=where, format=format))
        for name in ("file", "dev"):
            if format == "qcow2" and (path := source.get(name)) is not None:
                where = f"<devices> <disk> <source {name}>"
                files.append(NamedSource(path=path, where=where, format=format))
    for deeper in layer.findall("backingStore"):
        _collect(deeper, files, volumes)


def _has_text(text: str | None) -> bool:
    return bool(text and text.strip(" \t\r\n"))


def _is_text(tags: tuple[str, ...]) -> bool:
    """Return whether an element has a checked text. Comments must not interrupt that."""
    return ALLOWED.get(path_of(tags[1:]), {}).get("", TEXT) is not TEXT


def _shown(tags: tuple[str, ...], attribute: str = "") -> str:
    """Return an element's path for errors, such as `<devices> <disk> <source file>`."""
    names = [_named(tag) for tag in tags] or ["domain"]
    if attribute:
        names[-1] += f" {attribute}"
    return " ".join(f"<{name}>" for name in names)


def _named(tag: str) -> str:
    """Return the name of an element, with the usual prefix for its namespace."""
    namespace, _, name = tag.rpartition("}")
    if not namespace:
        return name[:60]
    hypervisor = _NAMESPACE.fullmatch(namespace)
    return f"{hypervisor[1] if hypervisor else namespace[1:60]}:{name[:60]}"
