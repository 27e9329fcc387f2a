"""The types of values in a domain's XML that `domain_xml_policy` allows. Pure."""

import posixpath
import re
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

Level = Literal["defined-only", "checked", "any"]
ALLOW_ANY: Final = "or let the operator set domain-xml: {allow: any}"
"""The remedy for values that no other key of the configuration allows."""
SourceRole = Literal["file", "firmware", "variables"]

_LONGEST_TEXT: Final = 4096
"""The most characters. Linux accepts 2048 as its command line."""
_LONGEST_PATH: Final = 4096
"""Bytes."""
_FIRMWARE: Final = (
    "/usr/share/OVMF",
    "/usr/share/AAVMF",
    "/usr/share/edk2",
    "/usr/share/edk2-ovmf",
    "/usr/share/ovmf",
    "/usr/share/qemu",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/seabios",
)
"""The folders of distributions with the firmware of domains. Only root writes there."""
_QEMU: Final = (
    *(
        f"/usr/bin/qemu-system-{architecture}"
        for architecture in ("x86_64", "i386", "aarch64", "ppc64", "s390x", "riscv64")
    ),
    "/usr/bin/qemu-kvm",
    "/usr/bin/kvm",
    "/usr/bin/kvm-spice",
    "/usr/libexec/qemu-kvm",
)
"""libvirt's default programs. `virsh dumpxml` always prints one of them."""
VARIABLES_FOLDER: Final = "/var/lib/libvirt/qemu/nvram"
"""The folder of libvirt with the UEFI variables of domains. The user of QEMU may write there."""


class XmlPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The permitted content of a task's XML."""

    allow: Level = "checked"
    directories: Sequence[str] = ("/var/lib/libvirt/images",)
    """Folders with the files and block devices that a domain may use."""
    pools: Sequence[str] = ("default",)
    """Storage pools whose volumes a domain may use."""
    emulators: Sequence[str] = _QEMU
    """Programs that may be named as `<emulator>`."""

    def has(self, path: str) -> bool:
        """Return whether a path is below one of the directories. Compares names only."""
        return any(is_below(path, directory) for directory in self.directories)


class Value:
    """A type of values. `problem` returns what was expected of an invalid value."""

    def problem(self, value: str, policy: XmlPolicy) -> str | None:
        raise NotImplementedError


class Pattern(Value):
    """Text that matches a regular expression as a whole."""

    def __init__(self, pattern: str, expected: str) -> None:
        self._pattern = re.compile(pattern, re.ASCII)
        self._expected = expected

    def problem(self, value: str, policy: XmlPolicy) -> str | None:
        if self._pattern.fullmatch(value):
            return None
        return f"expected {self._expected}; change it, {ALLOW_ANY}"


class OneOf(Value):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words: Final = words

    def problem(self, value: str, policy: XmlPolicy) -> str | None:
        if value in self.words:
            return None
        return f"expected {' or '.join(self.words)}; change it, {ALLOW_ANY}"


class Text(Value):
    """Any text: libvirt neither opens a file with its name, nor gives it another meaning."""

    def problem(self, value: str, policy: XmlPolicy) -> str | None:
        if len(value) <= _LONGEST_TEXT:
            return None
        return f"expected at most {_LONGEST_TEXT} characters"


class Source(Value):
    """The path of a file or block device of the host."""

    def __init__(self, role: SourceRole = "file") -> None:
        self.role: Final = role

    def problem(self, value: str, policy: XmlPolicy) -> str | None:
        places = list(policy.directories)
        if self.role == "firmware":
            places += _FIRMWARE
        if self.role == "variables":
            places.append(VARIABLES_FOLDER)
        if is_sound_path(value) and any(is_below(value, place) for place in places):
            return None
        where = " or ".join(policy.directories) or "a directory of the configuration"
        if self.role == "firmware":
            # These folders are for disks, so the operator must not add one with firmware.
            return (
                f"expected a path below {where}, or a distribution's folder of firmware such as "
                "/usr/share/OVMF; use a copy there, leave it out for libvirt to choose by "
                f"<os firmware='efi'>, {ALLOW_ANY}"
            )
        return (
            f"expected a path below {where}; choose another, or let the operator add its folder "
            "to domain-xml: {directories: …}"
        )


class Pool(Value):
    """The name of a storage pool."""

    def problem(self, value: str, policy: XmlPolicy) -> str | None:
        if value in policy.pools:
            return None
        where = " or ".join(policy.pools) or "a pool of the configuration"
        return (
            f"expected {where}; choose another, or let the operator add the pool to "
            "domain-xml: {pools: …}"
        )


class Emulator(Value):
    """The program that runs a domain."""

    def problem(self, value: str, policy: XmlPolicy) -> str | None:
        if value in policy.emulators:
            return None
        return (
            "libvirt finds the program itself; leave it out, or let the operator add the program "
            "to domain-xml: {emulators: …}"
        )


def is_sound_path(path: str) -> bool:
    """Return whether a path is absolute, printable, and without `..`."""
    return (
        path.startswith("/")
        and len(path.encode(errors="replace")) <= _LONGEST_PATH
        and path.isprintable()
        and ".." not in path.split("/")
    )


def is_below(path: str, directory: str) -> bool:
    """Return whether a path is below a directory. Compares names only."""
    root = posixpath.normpath("/" + directory.lstrip("/"))
    named = posixpath.normpath("/" + path.lstrip("/"))
    return named.startswith("/" if root == "/" else f"{root}/") and named != root


WORD: Final = Pattern(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,199}|-[0-9]{1,20})?", "letters, digits and _ . : + -"
)
NUMBER: Final = Pattern(r"\s*-?(?:0[xX])?[0-9A-Fa-f]{1,20}\s*", "a number")
CPUS: Final = Pattern(r"[0-9,^\s-]{0,4000}", "a list of numbers such as 0-3,8")
LABEL: Final = Pattern(r"[A-Za-z0-9_][A-Za-z0-9 _.:+()-]{0,199}", "letters, digits and blanks")
"""A text that begins with a letter or digit. So it cannot be an option of a command."""
VOLUME: Final = Pattern(r"[^/.\s\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,199}", "the name of a volume")
ADDRESS: Final = Pattern(r"[A-Za-z0-9_.:-]{0,100}", "a name or an address")
TIME_ZONE: Final = Pattern(
    r"[A-Za-z0-9_+-]{1,40}(?:/[A-Za-z0-9_+-]{1,40}){0,3}", "a time zone such as Europe/Berlin"
)
TAP: Final = Pattern(
    r"vnet[0-9]{1,9}|tap[0-9a-f]{8}-[0-9a-f]{2}",
    "a name that libvirt or OpenStack made, such as vnet0 or tap3b8ef2c1-5d",
)
SHARED_MEMORY: Final = Pattern(r"[A-Za-z0-9_:+-][A-Za-z0-9_.:+-]{0,199}", "letters and digits")
TEXT: Final = Text()
FILE: Final = Source()
FIRMWARE: Final = Source("firmware")
VARIABLES: Final = Source("variables")
POOL: Final = Pool()
EMULATOR: Final = Emulator()
