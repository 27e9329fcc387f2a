"""Decide from both hosts' answers whether a domain finds its files at the destination. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileFacts
from fastlib.migfra.hypervisors.libvirt.domain.files_xml import DomainFile

Sharing = Literal["shared", "separate", "unknown"]
"""Whether both hosts have the same folder at a path."""
_UNASKED: Final = FileFacts(presence="unknown")


class StorageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a domain's files, by their paths."""

    here: Mapping[str, FileFacts] = {}
    """The files on the source."""
    there: Mapping[str, FileFacts] = {}
    """The files on the destination."""
    sharing: Mapping[str, Sharing] = {}
    same_content: Mapping[str, bool] = {}
    """Whether the samples of the content are equal on both hosts."""
    at_rest: bool = True
    """Whether the domain is shut off. Sizes and content then do not change."""


class StorageDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The conclusion."""

    missing: Sequence[str] = ()
    """Paths that the destination lacks, with their roles."""
    other: Sequence[str] = ()
    """Paths that lead to another file at the destination, with their roles."""
    unlike: Sequence[str] = ()
    """Read-only disks whose files have other content at the destination, with their roles."""
    unshown: Sequence[str] = ()
    """Paths that may lead to another file at the destination."""
    unasked: Sequence[str] = ()
    """Paths that the destination's libvirt could not check."""


def decide(files: Sequence[DomainFile], facts: StorageFacts) -> StorageDecision:
    """Decide which files prevent the migration."""
    missing, other, unlike, unshown, unasked = [], [], [], [], []
    for file in files:
        wanted, there = file, facts.there.get(file.path, _UNASKED)
        if file.if_on_source and facts.here.get(file.path, _UNASKED).presence == "absent":
            if file.written and there.presence == "present":
                # The source would make this file. So it is of an earlier run or another domain.
                other.append(f"{file.path} ({file.role})")
                continue
            if file.template is None:
                continue
            wanted = DomainFile(path=file.template, role=f"template of the {file.role}")
            there = facts.there.get(wanted.path, _UNASKED)
        words = f"{wanted.path} ({wanted.role})"
        if there.presence == "absent":
            missing.append(words)
        elif there.presence == "unknown":
            unasked.append(words)
        elif wanted.written:
            match _is_same(wanted, facts):
                case False:
                    other.append(words)
                case None:
                    unshown.append(words)
        elif not facts.at_rest and _is_unlike(wanted, facts):
            unlike.append(words)
    return StorageDecision(
        missing=missing, other=other, unlike=unlike, unshown=unshown, unasked=unasked
    )


def _is_unlike(file: DomainFile, facts: StorageFacts) -> bool:
    """Return whether a file that the domain only reads has other content at the destination."""
    here, there = facts.here.get(file.path, _UNASKED), facts.there.get(file.path, _UNASKED)
    has_other_size = None not in (here.size, there.size) and here.size != there.size
    return has_other_size or not facts.same_content.get(file.path, True)


def _is_same(file: DomainFile, facts: StorageFacts) -> bool | None:
    """Return whether a path leads to the same storage on both hosts. None if not certain."""
    here, there = facts.here.get(file.path, _UNASKED), facts.there.get(file.path, _UNASKED)
    sizes_are_stable = facts.at_rest or file.block
    if sizes_are_stable and None not in (here.size, there.size) and here.size != there.size:
        return False
    sharing = facts.sharing.get(file.path, "unknown")
    if sharing != "unknown":
        return sharing == "shared"
    if not facts.same_content.get(file.path, True):
        return False
    # A device has no shared folder. Equal samples are the best evidence.
    return True if file.block else None
