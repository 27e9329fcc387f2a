"""The versions of QEMU and libvirt on the two hosts of a migration, and bounds of them."""

from typing import Literal

import msgspec

Program = Literal["QEMU", "libvirt"]
Version = tuple[int, int]
"""Major and minor."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of a program that support something."""

    program: Program
    since: Version
    before: Version | None = None
    """The first version that no longer supports it."""
    where: Literal["both", "destination"] = "both"
    process_counts: bool = False
    """Whether the version of a running domain's process counts, because no other check covers it.

    The process is older than the installed emulator if the host was upgraded after its start.
    """

    def __str__(self) -> str:
        text = f"{self.program} {version_text(self.since)} or newer"
        if self.before is not None:
            text += f", but older than {version_text(self.before)},"
        return text + (" on both hosts" if self.where == "both" else " on the destination")

    def allows(self, version: Version) -> bool:
        """Return whether a version supports it."""
        return self.since <= version and (self.before is None or version < self.before)


class HostVersions(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of one of the two hosts."""

    host: str
    kind: str
    """Type of the hypervisor as libvirt calls it, such as QEMU."""
    hypervisor: Version | None
    """Version of the emulator that runs the domain here, or will run it. None if not known."""
    libvirt: Version

    def version(self, program: Program) -> Version | None:
        """Return the version of a program. None if it is not known."""
        return self.hypervisor if program == "QEMU" else self.libvirt


def version_of(number: int) -> Version:
    """Return major and minor of libvirt's number for a version."""
    return number // 1_000_000, number // 1000 % 1000


def version_text(version: Version) -> str:
    """Return a version in the usual form, such as 9.0."""
    return f"{version[0]}.{version[1]}"
