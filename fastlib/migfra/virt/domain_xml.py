"""What a libvirt domain's XML says of name, memory and vCPUs.

The XML comes from the network. A document type declaration is refused, so there are no entities to
expand and nothing to fetch.
"""

from typing import Any, Final, NoReturn
from xml.parsers import expat

import msgspec

from fastlib.migfra.errors import HypervisorError

from .names import check_name

LARGEST_XML: Final = 1 << 20
"""Characters."""
_DEEPEST: Final = 64
_KIB: Final = 1024
_UNITS: Final = {
    "b": 1, "bytes": 1,
    "k": 1024, "kib": 1024, "kb": 10**3,
    "m": 1024**2, "mib": 1024**2, "mb": 10**6,
    "g": 1024**3, "gib": 1024**3, "gb": 10**9,
    "t": 1024**4, "tib": 1024**4, "tb": 10**12,
    "p": 1024**5, "pib": 1024**5, "pb": 10**15,
    "e": 1024**6, "eib": 1024**6, "eb": 10**18,
}  # fmt: skip
"""Bytes in libvirt's units; letter case does not matter."""


class DomainXml(msgspec.Struct, frozen=True, kw_only=True):
    """What a domain's XML says."""

    name: str
    memory: int | None = None
    """KiB."""
    vcpus: int | None = None


class _Looker:
    """Follows the elements and keeps the texts of those that matter."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.texts: dict[str, str] = {}
        self.units: dict[str, str] = {}
        self._open: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open:
            self.root = tag
        self._open.append(tag)
        if len(self._open) > _DEEPEST:
            raise HypervisorError(f"the domain's XML is nested more than {_DEEPEST} deep")
        if len(self._open) == 2 and tag in ("name", "memory", "vcpu"):
            if tag in self.texts:
                raise HypervisorError(f"the domain's XML has <{tag}> twice")
            self.texts[tag] = ""
            self.units[tag] = attributes.get("unit", "KiB")

    def end(self, tag: str) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        if len(self._open) == 2 and self._open[1] in self.texts:
            self.texts[self._open[1]] += text


def _refuse(*_: Any) -> NoReturn:
    raise HypervisorError("the domain's XML has a document type declaration, which is not allowed")


def read_domain(xml: str) -> DomainXml:
    """What the XML says. Raises HypervisorError."""
    if len(xml) > LARGEST_XML:
        raise HypervisorError(f"the domain's XML has more than {LARGEST_XML} characters")
    looker = _Looker()
    parser = expat.ParserCreate(encoding="utf-8")
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    parser.StartElementHandler = looker.start
    parser.EndElementHandler = looker.end
    parser.CharacterDataHandler = looker.text
    try:
        parser.Parse(xml.encode(), True)
    except expat.ExpatError as error:
        raise HypervisorError(f"the domain's XML is not well-formed: {error}") from None
    except UnicodeEncodeError:
        raise HypervisorError("the domain's XML has half a surrogate pair") from None
    if looker.root != "domain":
        raise HypervisorError(f"the XML describes <{looker.root}>; a <domain> was expected")
    name = looker.texts.get("name", "").strip()
    if not name:
        raise HypervisorError("the domain's XML has no <name>")
    memory = _number(looker, "memory")
    unit = _UNITS.get(looker.units.get("memory", "KiB").lower())
    if unit is None:
        raise HypervisorError(f"the domain's XML has the unit {looker.units['memory'][:20]!r}")
    return DomainXml(
        name=check_name(name),
        memory=None if memory is None else memory * unit // _KIB,
        vcpus=_number(looker, "vcpu"),
    )


def _number(looker: _Looker, tag: str) -> int | None:
    text = looker.texts.get(tag)
    if text is None:
        return None
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise HypervisorError(f"the domain's XML has {digits[:40]!r} as <{tag}>, not a number")
    return int(digits)
