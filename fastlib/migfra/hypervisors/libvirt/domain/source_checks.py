"""Check on this host the files that a task's XML names: targets of links, files behind images.

A guest can write anything into its disk. If a task then says that the disk is a qcow2 image, QEMU
opens every file that the guest has named in it.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.virt.domain_xml_policy import NamedSource, NamedSources
from fastlib.migfra.virt.xml_values import (
    VARIABLES_FOLDER,
    XmlPolicy,
    is_below,
    is_sound_path,
)

from .backing_names import local_path
from .file_probe import probe_volume
from .image_chain import HEAD_BYTES, LONGEST_CHAIN, parse_head

_DEVICES: Final = "/dev"
"""A folder in which only root and udev make links. So those may lead anywhere."""


async def check_sources(local: Connection, sources: NamedSources, policy: XmlPolicy) -> None:
    """Raise HypervisorError if a source is, or names, a file that the policy does not allow."""
    files = list(sources.files)
    for named in sources.volumes:
        facts = await local.call(probe_volume, named.pool, named.volume)
        if facts.path is None:
            raise HypervisorError(f"{named.where} cannot be used: {facts.problem}")
        if named.format == "qcow2":
            # The operator chose the place of a pool's volume. Its writer chose the files behind it.
            await asyncio.to_thread(_check_backing, facts.path, named.where, policy)
    if files:
        await asyncio.to_thread(check_files, files, policy)


def check_files(files: Sequence[NamedSource], policy: XmlPolicy) -> None:
    """Raise HypervisorError for a file that leads out of the directories. Blocks."""
    for named in files:
        if not _is_inside(named.path, policy, named.is_variables):
            raise HypervisorError(
                f"{named.path} ({named.where}) is a link to {os.path.realpath(named.path)}, which "
                f"tasks must not use; {_remedy(policy)}"
            )
        if named.format == "qcow2":
            _check_backing(named.path, named.where, policy)


def _check_backing(path: str, where: str, policy: XmlPolicy) -> None:
    """Follow the images behind an image that a task declares to be qcow2."""
    image = path
    for _ in range(LONGEST_CHAIN):
        try:
            with open(os.open(image, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as error:
            raise HypervisorError(
                f"the backing files of {path} ({where}) cannot be checked: {image}: "
                f"{error.strerror}; let the daemon read it, or let the operator set "
                "domain-xml: {allow: any}"
            ) from None
        found = parse_head(head)
        if found is None:
            raise HypervisorError(
                f"{image} ({where}) is not a valid qcow2 image; correct its format in the XML, or "
                "check it with qemu-img info"
            )
        if found.data is not None:
            _check_named(found.data, found.data, image, where, policy)
        if found.backing is None:
            return
        backing = local_path(found.backing, image)
        _check_named(found.backing, backing, image, where, policy)
        if found.format == "raw":
            return
        if found.format != "qcow2":
            raise HypervisorError(
                f"{image} ({where}) names a backing file of the format "
                f"{(found.format or 'unknown')[:20]!r}, but tasks may use raw and qcow2; write its "
                "format into the image with qemu-img rebase -u -F"
            )
        image = str(backing)
    raise HypervisorError(f"{path} ({where}) has more than {LONGEST_CHAIN} backing files")


def _check_named(name: str, path: str | None, image: str, where: str, policy: XmlPolicy) -> None:
    """Check a file that an image names. `path` is its place on this host."""
    sound = path is not None and path.startswith("/") and path.isprintable()
    if not sound or not _is_inside(str(path), policy):
        raise HypervisorError(
            f"{image} ({where}) names the file {name[:200]!r}, which tasks must not use; "
            f"{_remedy(policy)}"
        )


def _is_inside(path: str, policy: XmlPolicy, is_variables: bool = False) -> bool:
    """Return whether a path with all links resolved is below one of the directories."""
    directories = [*policy.directories, *([VARIABLES_FOLDER] if is_variables else [])]
    for directory in directories:
        if is_below(os.path.realpath(path), os.path.realpath(directory)):
            return True
        if is_below(directory, _DEVICES) and is_sound_path(path) and is_below(path, directory):
            return True
    return False


def _remedy(policy: XmlPolicy) -> str:
    where = " or ".join(policy.directories) or "a directory of the configuration"
    return (
        f"choose one below {where}, or let the operator add its folder to "
        "domain-xml: {directories: …}"
    )
