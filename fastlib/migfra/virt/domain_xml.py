"""Read a libvirt domain's XML as libvirt does: name, UUID, memory, vCPUs.

The XML comes from the network. The reader refuses a document type declaration. So there are no
entities to expand or to fetch.

The name and the UUID decide which domain a start changes. So the reader accepts only XML that
libvirt cannot read in another way. It refuses ambiguous XML: a repeated element, text that a
comment interrupts, a number with a sign. `tests/hypervisors/libvirt` compares it with libvirt.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import msgspec

from fastlib.migfra.errors import HypervisorError

from .domain_vcpus import read_vcpus
from .names import check_name
from .xml_numbers import read_number

LARGEST_XML: Final = 1 << 20
"""Characters."""
_DEEPEST: Final = 64
_KIB: Final = 1024
_MOST_MEMORY: Final = (1 << 63) - 1
"""The most bytes that libvirt accepts."""
_UNITS: Final = {
    "b": 1, "byte": 1, "bytes": 1,
    "k": 1024, "kib": 1024, "kb": 10**3,
    "m": 1024**2, "mib": 1024**2, "mb": 10**6,
    "g": 1024**3, "gib": 1024**3, "gb": 10**9,
    "t": 1024**4, "tib": 1024**4, "tb": 10**12,
    "p": 1024**5, "pib": 1024**5, "pb": 10**15,
    "e": 1024**6, "eib": 1024**6, "eb": 10**18,
}  # fmt: skip
"""Bytes of libvirt's units. Letter case does not matter."""
_LONGEST_UUID: Final = 200
"""The most characters, with blanks and hyphens."""
_PLAIN: Final = frozenset(
    ("domain", tag) for tag in ("name", "uuid", "memory", "currentMemory", "maxMemory", "vcpu")
)
"""Elements whose text must be one piece. libvirt drops blanks beside a comment."""
_SINGLE: Final = frozenset(
    path
    for path in (
        *_PLAIN,
        *(("domain", tag) for tag in ("vcpus", "cpu", "cputune", "numatune", "os", "devices")),
        ("domain", "cpu", "topology"),
        ("domain", "cpu", "numa"),
    )
)
"""Elements that must not be repeated. libvirt takes the first of some, and refuses others."""
_DECLARATION: Final = re.compile(r"\ufeff?<\?xml[ \t\r\n][^>]*\?>")


class DomainXml(msgspec.Struct, frozen=True, kw_only=True):
    """The values in a domain's XML, as libvirt reads them."""

    name: str
    uuid: str | None = None
    """The UUID in libvirt's spelling: lower case with hyphens. None lets libvirt choose one."""
    memory: int | None = None
    """In KiB, rounded up."""
    vcpus: int | None = None
    """The number of vCPUs that are online at the start."""


def read_domain(xml: str) -> DomainXml:
    """Read a task's XML. Raises HypervisorError for XML that libvirt might read differently."""
    root = parse_domain(xml)
    name = root.findtext("name")
    if not name:
        raise HypervisorError("the domain's XML has no <name>")
    return DomainXml(
        name=check_name(name),
        uuid=read_uuid(root),
        memory=read_memory(root),
        vcpus=None if root.find("vcpu") is None else len(read_vcpus(root).online),
    )


def plain_text(xml: str) -> str:
    """Return the XML without byte order mark and XML declaration.

    The text is decoded already. libvirt gets it in UTF-8, but would follow the declaration.
    """
    found = _DECLARATION.match(xml)
    return (xml if found is None else xml[found.end() :]).removeprefix("\ufeff").lstrip()


def parse_domain(xml: str, is_text: Callable[[tuple[str, ...]], bool] | None = None) -> Element:
    """Parse the XML of a task. Raises HypervisorError if it is hostile or ambiguous.

    `is_text` returns by an element's tags whether it must have only text, in one piece.
    """
    if len(xml) > LARGEST_XML:
        raise HypervisorError(f"the domain's XML has more than {LARGEST_XML} characters")
    builder = _Builder(is_text)
    parser = expat.ParserCreate(encoding="utf-8", namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.CommentHandler = builder.interrupt
    parser.ProcessingInstructionHandler = builder.interrupt
    parser.StartCdataSectionHandler = builder.interrupt
    try:
        parser.Parse(xml.encode(), True)
    except expat.ExpatError as error:
        raise HypervisorError(f"the domain's XML is not well-formed: {error}") from None
    except UnicodeEncodeError:
        raise HypervisorError("the domain's XML has half a surrogate pair") from None
    return builder.close()


class _Builder:
    """Builds the tree of a domain's XML, and refuses ambiguous XML."""

    def __init__(self, is_text: Callable[[tuple[str, ...]], bool] | None) -> None:
        self._is_text = is_text
        self._tree = TreeBuilder()
        self.data: Final = self._tree.data
        self._open: list[str] = []
        self._seen: set[tuple[str, ...]] = set()

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != "domain":
            raise HypervisorError(
                f"the XML describes <{tag}>; it must be a <domain> without a namespace"
            )
        if self._is_plain():
            raise HypervisorError(
                f"the domain's XML has an element in <{self._open[-1]}>; it must have only text"
            )
        self._open.append(tag)
        if len(self._open) > _DEEPEST:
            raise HypervisorError(f"the domain's XML is nested more than {_DEEPEST} deep")
        if len(self._open) <= 3 and (path := tuple(self._open)) in _SINGLE:
            if path in self._seen:
                raise HypervisorError(f"the domain's XML has <{tag}> twice; leave one of them out")
            self._seen.add(path)
        if not attributes:
            self._tree.start(_qualified(tag), {})
            return
        for key in attributes:
            if "}" in key and "}" not in tag:
                # libvirt ignores the namespace of an attribute, so `x:current` counts as `current`.
                raise HypervisorError(
                    f"the domain's XML has the attribute {key.partition('}')[2]} in a namespace at "
                    f"<{tag}>; leave it out"
                )
        named = {_qualified(key): value for key, value in attributes.items()}
        self._tree.start(_qualified(tag), named)

    def end(self, tag: str) -> None:
        self._open.pop()
        self._tree.end(_qualified(tag))

    def interrupt(self, *_: Any) -> None:
        """Handle the beginning of a comment, a processing instruction or a CDATA section."""
        if self._is_plain():
            raise HypervisorError(
                f"the domain's XML has a comment, a processing instruction or CDATA in "
                f"<{self._open[-1]}>; it must have only text"
            )

    def _is_plain(self) -> bool:
        """Return whether the innermost element must have only text."""
        tags = tuple(self._open)
        return tags in _PLAIN or (self._is_text is not None and self._is_text(tags))

    def close(self) -> Element:
        return self._tree.close()


def _qualified(name: str) -> str:
    """Return a name in ElementTree's form. expat puts a `}` between namespace and name."""
    return "{" + name if "}" in name else name


def _refuse(*_: Any) -> NoReturn:
    raise HypervisorError("the domain's XML has a document type declaration, which is not allowed")


# UUID


def read_uuid(root: Element) -> str | None:
    """Read the UUID of a domain. Raises HypervisorError for a malformed one."""
    text = root.findtext("uuid")
    if text:
        return normal_uuid(text, "<uuid>")
    # If the domain has no other UUID, libvirt takes that of the firmware's tables.
    for sysinfo in root.findall("sysinfo"):
        system = sysinfo.find("system")
        if sysinfo.get("type") == "smbios" and system is not None:
            for entry in system.findall("entry"):
                if entry.get("name") == "uuid" and entry.text:
                    return normal_uuid(entry.text, "<sysinfo> <entry name='uuid'>")
    return None


def normal_uuid(text: str, where: str) -> str:
    """Return a UUID in libvirt's spelling.

    libvirt ignores hyphens and blanks between pairs of digits.
    """
    pairs = None
    if len(text) <= _LONGEST_UUID:  # the time of the expression grows with the square of the length
        pairs = re.fullmatch(r"\s*[- ]*((?:[0-9a-fA-F]{2}[- ]*){16})\s*", text, re.ASCII)
    if pairs is None:
        raise HypervisorError(
            f"the domain's XML has {text[:50]!r} as {where}; a UUID has 32 hexadecimal digits"
        )
    digits = re.sub("[- ]", "", pairs[1]).lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


# Memory


def read_memory(root: Element) -> int | None:
    """Read a domain's memory in KiB. Returns None if it has none. Raises HypervisorError."""
    element = root.find("memory")
    memory = None if element is None else read_size(element.text, element.get("unit"), "<memory>")
    cells = [
        read_size(cell.get("memory"), cell.get("unit"), "<cell memory>")
        for cell in root.findall("cpu/numa/cell")
        if cell.get("memory") is not None
    ]
    if sum(cells):
        # The sizes of NUMA cells have priority. Those of memory modules are added to them.
        modules = [
            read_size(size.text, size.get("unit"), "<memory> <target> <size>")
            for size in root.findall("devices/memory/target/size")
        ]
        return sum(cells) + sum(modules)
    return memory


def read_size(text: str | None, unit: str | None, where: str) -> int:
    """Return a size in KiB, rounded up. Raises HypervisorError."""
    factor = _UNITS.get((unit or "KiB").lower())
    if factor is None:
        raise HypervisorError(
            f"the domain's XML has the unit {str(unit)[:20]!r} at {where}; libvirt knows b, KiB, "
            "MiB, GiB, TiB, PiB, EiB, and KB, MB, GB, TB, PB, EB"
        )
    size = read_number(text, where) * factor
    if size > _MOST_MEMORY:
        raise HypervisorError(f"the domain's XML has {size} bytes as {where}, which is too large")
    return -(-size // _KIB)
