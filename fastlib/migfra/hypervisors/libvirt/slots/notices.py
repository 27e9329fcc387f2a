"""Slots for migrations as notices in the libvirt of each host, which all daemons see.

The daemons of different hosts share no memory and no lock. They share libvirt. libvirt has secrets.
The *usage* of a secret is unique on a host: if two daemons define the usage `migfra incoming 1` at
once, one gets an error. So a notice is a secret without a value. It is ephemeral: libvirt keeps it
in memory only. There are three kinds:

- `migfra incoming 1`, `migfra outgoing 2`: a slot that a migration holds. The highest number is the
  host's limit.
- `migfra incoming waiting 17`: a ticket of a daemon that waits for a slot. The lowest is next.
- `migfra limits`: the limits in the configuration of the host's own daemon.

The description has the daemon and the domains, the images that are copied to the host, and a number
that the daemon counts up while it lives. The functions that take a connection block: use
`Connection.call`.
"""

import json
import re
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from typing import Any, Final

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.state import is_arriving, look_up
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.hypervisors.libvirt.errors import is_without_secrets
from fastlib.migfra.virt.migration_queue import Direction

_USAGE: Final = re.compile("migfra (outgoing|incoming)( waiting)? ([0-9]{1,9})")
_LIMITS: Final = "migfra limits"
_TRIES: Final = 3
"""The most tries to define a notice while others define and remove theirs."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a notice's description."""

    by: str
    """The host whose daemon made it."""
    domains: tuple[str, ...] = ()
    """The names of the domains that migrate."""
    beat: int = 0
    """A counter that its daemon increases while it lives."""
    limits: dict[Direction, int] | None = None
    images: tuple[str, ...] = ()
    """The paths of images that the migration copies to the host."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One notice on a host."""

    uuid: str
    usage: str
    note: Note

    @property
    def direction(self) -> str | None:
        """The direction of the slot, `outgoing` or `incoming`. None for the limits."""
        found = _USAGE.fullmatch(self.usage)
        return None if found is None else found[1]

    @property
    def waits(self) -> bool:
        """Whether it is a ticket of a daemon that waits."""
        found = _USAGE.fullmatch(self.usage)
        return found is not None and found[2] is not None

    @property
    def number(self) -> int:
        """The number of the slot or of the ticket. 0 for the limits."""
        found = _USAGE.fullmatch(self.usage)
        return 0 if found is None else int(found[3])


def slot_notice(direction: Direction, number: int, note: Note) -> Notice:
    """Return the notice of a slot."""
    return Notice(uuid=str(uuid.uuid4()), usage=f"migfra {direction} {number}", note=note)


def ticket_notice(direction: Direction, number: int, note: Note) -> Notice:
    """Return the ticket of a daemon that waits for a slot."""
    return Notice(uuid=str(uuid.uuid4()), usage=f"migfra {direction} waiting {number}", note=note)


class HostNotices(msgspec.Struct, frozen=True, kw_only=True):
    """The notices on a host, and the domains there that have a job in libvirt."""

    notices: tuple[Notice, ...] = ()
    without_secrets: str | None = None
    """libvirt's reason why this user has no secrets on the host. None if it has them."""
    busy: frozenset[str] = frozenset()
    """Those domains in the notices that have a job."""
    arriving: frozenset[str] = frozenset()
    """The domains that are migrating to the host."""

    def limit(self, direction: Direction) -> int | None:
        """Return the limit that the host's own daemon has published, or None."""
        for notice in self.notices:
            if notice.note.limits is not None:
                return notice.note.limits.get(direction)
        return None


def images_of_others(found: HostNotices, by: str) -> list[str]:
    """Return the images that migrations of other daemons than that of `by` copy to a host."""
    return [
        path
        for notice in found.notices
        if notice.direction == "incoming" and not notice.waits and notice.note.by != by
        for path in notice.note.images
    ]


def read_notices(connection: Any) -> HostNotices:
    """Read the notices of a host. Raises libvirtError, but not if this user has no secrets."""
    libvirt = api()
    arriving = frozenset(
        domain.name()
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        if is_arriving(connection, domain)
    )
    try:
        found = [_notice(secret) for secret in connection.listAllSecrets()]
    except libvirt.libvirtError as error:
        if not is_without_secrets(error.get_error_code(), str(error)):
            raise
        return HostNotices(without_secrets=" ".join(str(error).split()), arriving=arriving)
    notices = tuple(notice for notice in found if notice is not None)
    names = {name for notice in notices for name in notice.note.domains}
    busy = frozenset(name for name in names if _is_busy(connection, name))
    return HostNotices(notices=notices, busy=busy, arriving=arriving)


def _notice(secret: Any) -> Notice | None:
    libvirt = api()
    usage = secret.usageID()
    if usage != _LIMITS and not _USAGE.fullmatch(usage or ""):
        return None
    try:
        description = parse(secret.XMLDesc()).findtext("description") or ""
        note = msgspec.json.decode(description, type=Note)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return None  # it was removed in the meantime
        raise
    except (msgspec.DecodeError, msgspec.ValidationError):
        note = Note(by="")  # of a later version, or made by hand; its number counts as taken anyway
    return Notice(uuid=secret.UUIDString(), usage=usage, note=note)


def _is_busy(connection: Any, name: str) -> bool:
    observed = look_up(connection, name)
    return observed.migrating and not observed.divided


def define_notice(connection: Any, notice: Notice) -> bool:
    """Define a notice, or change its note. Returns False if another one has its usage.

    Raises libvirtError.
    """
    libvirt = api()
    root = ElementTree.Element("secret", ephemeral="yes", private="no")
    ElementTree.SubElement(root, "uuid").text = notice.uuid
    note = json.dumps(msgspec.to_builtins(notice.note), sort_keys=True)
    ElementTree.SubElement(root, "description").text = note
    usage = ElementTree.SubElement(root, "usage", type="ceph")
    ElementTree.SubElement(usage, "name").text = notice.usage
    xml = ElementTree.tostring(root, encoding="unicode")
    tries = 0
    while True:
        try:
            connection.secretDefineXML(xml)
        except libvirt.libvirtError as error:
            if _has_another(connection, notice):
                return False
            # libvirt has no error code for a usage that is taken. It may have been taken, and the
            # other notice may have been removed in the meantime.
            tries += 1
            if tries == _TRIES or error.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:
                raise
        else:
            return True


def _has_another(connection: Any, notice: Notice) -> bool:
    libvirt = api()
    try:
        found = connection.secretLookupByUsage(libvirt.VIR_SECRET_USAGE_TYPE_CEPH, notice.usage)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
            raise
        return False
    return bool(found.UUIDString() != notice.uuid)


def remove_notices(connection: Any, uuids: Collection[str]) -> None:
    """Remove notices. Ignore those that are gone already."""
    libvirt = api()
    for each in uuids:
        try:
            connection.secretLookupByUUIDString(each).undefine()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
                raise


def publish_limits(connection: Any, host: str, limits: dict[Direction, int]) -> None:
    """Publish the limits of a host in its own libvirt. Raises libvirtError."""
    note = Note(by=host, limits=limits)
    found = None
    for secret in connection.listAllSecrets():
        if secret.usageID() == _LIMITS:
            found = _notice(secret)
    if found is None:
        found = Notice(uuid=str(uuid.uuid4()), usage=_LIMITS, note=Note(by=host))
    if found.note != note:
        define_notice(connection, msgspec.structs.replace(found, note=note))


def free_slot(
    found: HostNotices,
    direction: Direction,
    limit: int,
    *,
    by: str,
    stale: Collection[str],
    ticket: int | None,
    ignore_tickets: bool,
) -> tuple[int | None, bool]:
    """Decide whether a daemon may take a slot of a host now.

    `stale` has the UUIDs of notices that no daemon renews now. `ticket` is the number of this
    daemon's ticket, if there is one. A slot is free for this daemon only if there are more free
    slots than earlier tickets of others. `ignore_tickets` lifts that. Domains that arrive without a
    notice, such as with virsh, count too.

    Returns the number of the slot or None, and whether only tickets prevent it.
    """
    live = [
        notice
        for notice in found.notices
        if notice.direction == direction and notice.uuid not in stale
    ]
    held = [notice for notice in live if not notice.waits]
    count = len(held)
    if direction == "incoming":
        known = {name for notice in held for name in notice.note.domains}
        count += len(found.arriving - known)
    free = limit - count
    if free <= 0:
        return None, False
    ahead = sum(
        notice.waits and notice.note.by != by and (ticket is None or notice.number < ticket)
        for notice in live
    )
    if ahead >= free and not ignore_tickets:
        return None, True
    return lowest_free([notice.number for notice in held]), False


def lowest_free(numbers: Collection[int]) -> int:
    """Return the lowest number from 1 that is not among `numbers`."""
    return next(number for number in range(1, len(numbers) + 2) if number not in numbers)


def next_ticket(found: HostNotices, direction: Direction) -> int:
    """Return the number of a new ticket: one more than the highest."""
    numbers = [n.number for n in found.notices if n.waits and n.direction == direction]
    return max(numbers, default=0) + 1
