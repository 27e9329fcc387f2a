"""Take the slots of a migration on both hosts, keep them, and release them.

`notices.py` has the notices that hold a slot. A daemon renews its notices. Any other daemon that
waits removes a notice that was not renewed for `STALE_SECONDS` and whose domains have no job on
that host. So a daemon that died keeps no slot, and a migration that continues without its daemon
keeps its slots.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.errors import (
    LibvirtError,
    LostError,
    is_without_secrets,
)
from fastlib.migfra.hypervisors.libvirt.options import LibvirtOptions
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.migration_queue import Direction, Slot

from .notices import (
    HostNotices,
    Note,
    Notice,
    define_notice,
    free_slot,
    lowest_free,
    next_ticket,
    publish_limits,
    read_notices,
    remove_notices,
    slot_notice,
    ticket_notice,
)

Connect = Callable[[str, str | None, str | None], Awaitable[Connection]]
RENEW_SECONDS: Final = 5.0
"""Seconds between two renewals of a notice."""
STALE_SECONDS: Final = 20.0
"""Seconds without a renewal after which a notice may be removed."""
TICKET_SECONDS: Final = 3.0
"""Seconds that a free slot is reserved for a daemon with an earlier ticket."""
AWAY_SECONDS: Final = 30.0
"""Seconds that a migration in the queue waits for a host whose libvirt is unreachable."""
_ANSWER_SECONDS: Final = 5.0
_TRIES: Final = 3
"""The most tries without a pause if others take the same slot in the same moment."""


def limits_of(options: LibvirtOptions) -> dict[Direction, int]:
    """Return the limits of this host."""
    return {"outgoing": options.outgoing_migrations, "incoming": options.incoming_migrations}


class SlotNotices:
    """The notices of this daemon on all hosts, and its observations of others' notices."""

    def __init__(self, node: NodeContext, options: LibvirtOptions, connect: Connect) -> None:
        """Take a function `connect` that opens the connection to a host by driver and transport."""
        self.host: Final = node.host
        self.log: Final = node.log
        self.connect: Final = connect
        self.limits: Final = limits_of(options)
        self.own: Final[set[str]] = set()
        """The UUIDs of the notices that this daemon keeps, shared or not."""
        self.tickets: Final[dict[Slot, tuple[MigrationSlots, Notice]]] = {}
        """The tickets of this daemon, at most one for a slot, each with its keeper."""
        self.keepers: Final[set[MigrationSlots]] = set()
        """The slots of the migrations that run."""
        self.unshared: Final[dict[Slot, dict[int, Notice]]] = {}
        """The slots that this daemon holds on hosts where it cannot define secrets, by number."""
        self._seen: dict[str, dict[str, tuple[int, float]]] = {}
        """The beat of each notice of others on each host, and the time since it is the same."""
        self._away: dict[str, tuple[float, float]] = {}
        """The times of the first and the last failed call to each unreachable host."""
        self._free_since: dict[Slot, float] = {}
        """The time since a slot is free that others with earlier tickets have not taken."""
        self._warned: set[str] = set()

    async def publish(self, connection: Connection) -> None:
        """Publish the limits of this host. Logs if it has no secrets. Raises LibvirtError."""
        try:
            await connection.within(_ANSWER_SECONDS, publish_limits, self.host, self.limits)
        except LibvirtError as error:
            self.check_without_secrets(self.host, error)

    def check_without_secrets(self, host: str, error: LibvirtError) -> None:
        """Log that a host has no secrets for this user. Raises any other error."""
        if not is_without_secrets(error.code, error.said):
            raise error
        self.warn_once(host, str(error))

    def warn_once(self, host: str, why: str) -> None:
        """Log once for each host that its limits are not shared."""
        if host not in self._warned:
            self._warned.add(host)
            self.log.warning(
                "the migrations of other hosts are not counted exactly on %s: %s", host, why
            )

    def limit(self, slot: Slot, found: HostNotices) -> int:
        """Return the limit of a slot: this host's, the published one, or by default this host's."""
        published = None if slot.host == self.host else found.limit(slot.direction)
        return self.limits[slot.direction] if published is None else published

    def stale(self, host: str, found: HostNotices) -> set[str]:
        """Return the UUIDs of the notices on a host that no daemon renews now."""
        now = asyncio.get_running_loop().time()
        before = self._seen.get(host, {})
        seen = self._seen[host] = {}
        stale = set()
        for notice in found.notices:
            if notice.uuid in self.own or notice.direction is None:
                continue
            beat, since = before.get(notice.uuid, (-1, now))
            if beat != notice.note.beat:
                since = now
            seen[notice.uuid] = (notice.note.beat, since)
            # Notices of this host that this daemon does not keep are of an earlier run of it.
            left = notice.note.by == self.host or now - since >= STALE_SECONDS
            if left and found.busy.isdisjoint(notice.note.domains):
                stale.add(notice.uuid)
        return stale

    async def announce_images(self, host: str, name: str, images: Sequence[str]) -> None:
        """Let other daemons see which images a domain's migration copies to a host."""
        for keeper in self.keepers:
            if name in keeper.domains:
                await keeper.announce_images(Slot(host, "incoming"), images)

    def is_there(self, host: str) -> None:
        """Note that a host has answered."""
        self._away.pop(host, None)

    def seconds_away(self, host: str) -> float:
        """Return the seconds since the first failed call to an unreachable host.

        All migrations in the queue share this time: each queries the host in turn.
        """
        now = asyncio.get_running_loop().time()
        since, last = self._away.get(host, (now, now))
        if now - last >= AWAY_SECONDS:
            since = now  # it was reachable in the meantime, or was not queried
        self._away[host] = (since, now)
        return now - since

    def may_ignore_tickets(self, slot: Slot, tickets_ahead: bool) -> bool:
        """Return whether a free slot was reserved long enough for daemons with earlier tickets."""
        now = asyncio.get_running_loop().time()
        if not tickets_ahead:
            self._free_since.pop(slot, None)
            return False
        if now - self._free_since.setdefault(slot, now) < TICKET_SECONDS:
            return False
        del self._free_since[slot]
        return True

    def ticket_number(self, slot: Slot) -> int | None:
        """Return the number of this daemon's ticket for a slot. None without one."""
        found = self.tickets.get(slot)
        return None if found is None else found[1].number


class MigrationSlots:
    """The slots of one migration or swap: a `SlotKeeper`."""

    def __init__(
        self,
        notices: SlotNotices,
        slots: frozenset[Slot],
        domains: Sequence[str],
        driver: str | None,
        transport: str | None,
    ) -> None:
        """Take the names of the domains that migrate as `domains`."""
        self._notices = notices
        # The order is always the same. So of two migrations that need the same slots one gets all.
        self._slots = sorted(slots)
        self._driver = driver
        self._transport = transport
        self._note = Note(by=notices.host, domains=tuple(domains))
        self._held: dict[Slot, Notice] = {}
        self._tickets: dict[Slot, Notice] = {}
        self._unshared: dict[Slot, Notice] = {}
        """Slots of hosts on which this daemon cannot define secrets."""
        self._to_adopt: set[Slot] = set()
        """Slots of a migration that runs already, on hosts that could not be queried yet."""
        self._renewing: asyncio.Task[None] | None = None
        self._calling: Final = asyncio.Lock()
        """A lock that is held while the notices are renewed."""
        self.is_patient = False
        """Whether it waits for a host whose libvirt is unreachable, for example restarting."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of the domains that migrate."""
        return self._note.domains

    async def announce_images(self, slot: Slot, images: Sequence[str]) -> None:
        """Add images to the notice of a slot. Logs a failure: then others do not count them."""
        async with self._calling:
            notice = self._held.get(slot)
            if notice is None:
                return
            note = msgspec.structs.replace(notice.note, images=(*notice.note.images, *images))
            changed = msgspec.structs.replace(notice, note=note)
            try:
                connection = await self._connection(slot)
                if await connection.within(_ANSWER_SECONDS, define_notice, changed):
                    self._held[slot] = changed
            except HypervisorError as error:
                self._notices.log.info("%s does not show its images: %s", notice.usage, error)

    async def take(self) -> bool:
        """Take all slots or none.

        Raises HypervisorError if a host cannot be queried, or libvirt fails. With `is_patient` it
        does so only after `AWAY_SECONDS`.
        """
        for slot in self._slots:
            try:
                taken = await self._take(slot)
            except BaseException as error:
                await self._remove(self._held)
                self._forget_unshared()
                if isinstance(error, LibvirtError) and self._may_come_back(slot.host):
                    self._notices.log.info("%s", error)
                    return False
                if isinstance(error, LibvirtError) and not isinstance(error, LostError):
                    raise self._not_counted(slot, error) from error
                raise
            if not taken:
                await self._remove(self._held)
                self._forget_unshared()
                self._renew()
                return False
        for slot in self._slots:
            # The next migration of this daemon waits behind the tickets of other daemons.
            if (ticket := self._notices.tickets.get(slot)) is not None:
                await ticket[0].remove_ticket(slot)
        await self._remove(self._tickets)
        self._renew()
        self._notices.keepers.add(self)
        return True

    def _not_counted(self, slot: Slot, error: LibvirtError) -> HypervisorError:
        names = " and ".join(self._note.domains)
        return HypervisorError(
            f"{names} did not migrate: the migrations of {slot.host} cannot be counted ({error}); "
            "read the log of libvirt there"
        )

    def _may_come_back(self, host: str) -> bool:
        """Return whether to query an unreachable host again."""
        return self._notices.seconds_away(host) < AWAY_SECONDS and self.is_patient

    async def adopt(self) -> None:
        """Hold the slots of a migration that runs already, whether or not they are free.

        Hosts that cannot be queried now are queried again while it runs.
        """
        self._to_adopt.update(self._slots)
        self._notices.keepers.add(self)
        await self._adopt_rest()
        self._renew()

    async def _adopt_rest(self) -> None:
        for slot in sorted(self._to_adopt):
            try:
                await self._adopt(slot)
            except HypervisorError as error:
                self._notices.log.info("%s", error)
            else:
                self._to_adopt.discard(slot)

    async def give_back(self) -> None:
        """Release all slots. Do not wait long for a host that does not answer."""
        self._notices.keepers.discard(self)
        if self._renewing is not None:
            # A late renewal would define the notice again.
            with suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS), self._calling:
                    self._renewing.cancel()
            self._renewing.cancel()
            self._renewing = None
        await self._remove(self._held)
        await self._remove(self._tickets)
        self._forget_unshared()

    def _forget_unshared(self) -> None:
        for slot, notice in self._unshared.items():
            self._notices.own.discard(notice.uuid)
            self._notices.unshared[slot].pop(notice.number, None)
        self._unshared.clear()

    def _hold_unshared(self, slot: Slot, number: int) -> None:
        """Hold a slot that only this daemon knows."""
        notice = slot_notice(slot.direction, number, self._note)
        self._notices.own.add(notice.uuid)
        self._unshared[slot] = notice
        self._notices.unshared.setdefault(slot, {})[number] = notice

    async def _connection(self, slot: Slot) -> Connection:
        return await self._notices.connect(slot.host, self._driver, self._transport)

    async def remove_ticket(self, slot: Slot) -> None:
        """Remove the ticket for a slot."""
        if slot in self._tickets:
            await self._remove({slot: self._tickets.pop(slot)})

    async def _take(self, slot: Slot) -> bool:
        connection = await self._connection(slot)
        if slot.host == self._notices.host:
            await self._notices.publish(connection)
        for _ in range(_TRIES):
            taken = await self._try_to_take(slot, connection)
            self._notices.is_there(slot.host)
            if taken is not None:
                return taken
        return False

    async def _try_to_take(self, slot: Slot, connection: Connection) -> bool | None:
        """Return whether the slot was taken. None if another daemon took it in this moment."""
        notices = self._notices
        found = await self._read(slot, connection)
        stale = notices.stale(slot.host, found)
        ask = partial(
            free_slot,
            found,
            slot.direction,
            notices.limit(slot, found),
            by=notices.host,
            stale=stale,
            ticket=notices.ticket_number(slot),
        )
        number, tickets_ahead = ask(ignore_tickets=False)
        if notices.may_ignore_tickets(slot, tickets_ahead):
            number, _ = ask(ignore_tickets=True)
        try:
            if stale:
                notices.log.info("removing %d notices left behind on %s", len(stale), slot.host)
                await connection.call(remove_notices, stale)
            if number is None:
                if found.without_secrets is None and slot not in notices.tickets:
                    await self._queue(slot, connection, found)
                return False
            if found.without_secrets is None:
                return True if await self._define(connection, slot, number) else None
        except LibvirtError as error:  # it may be permitted to read secrets alone
            notices.check_without_secrets(slot.host, error)
        if number is None:
            return False
        self._hold_unshared(slot, number)
        return True

    async def _read(self, slot: Slot, connection: Connection) -> HostNotices:
        """Read the notices of a host, and add those that only this daemon knows."""
        found = await connection.call(read_notices)
        if found.without_secrets is not None:
            why = f"libvirt there has no secrets for this user: {found.without_secrets}"
            self._notices.warn_once(slot.host, why)
        unshared = self._notices.unshared.get(slot, {})
        return msgspec.structs.replace(found, notices=(*found.notices, *unshared.values()))

    async def _define(self, connection: Connection, slot: Slot, number: int) -> bool:
        notice = slot_notice(slot.direction, number, self._note)
        defined = await self._define_own(connection, notice)
        if defined:
            self._held[slot] = notice
        return defined

    async def _define_own(self, connection: Connection, notice: Notice) -> bool:
        self._notices.own.add(notice.uuid)
        defined = False
        try:
            defined = await connection.call(define_notice, notice)
        finally:
            if not defined:
                # If libvirt defines it later anyway, it becomes stale.
                self._notices.own.discard(notice.uuid)
        return defined

    async def _queue(self, slot: Slot, connection: Connection, found: HostNotices) -> None:
        """Take a ticket for this daemon's next migration that needs the slot."""
        ticket = ticket_notice(slot.direction, next_ticket(found, slot.direction), self._note)
        self._tickets[slot] = ticket
        self._notices.tickets[slot] = (self, ticket)
        defined = False
        try:
            defined = await self._define_own(connection, ticket)
        finally:
            if not defined:  # such as when another daemon took the number: the next poll retries
                self._forget(slot, self._tickets)

    async def _adopt(self, slot: Slot) -> None:
        connection = await self._connection(slot)
        found = await self._read(slot, connection)
        held = [n for n in found.notices if n.direction == slot.direction and not n.waits]
        if found.without_secrets is not None:
            self._hold_unshared(slot, lowest_free([notice.number for notice in held]))
            return
        for notice in held:
            ours = not set(self._note.domains).isdisjoint(notice.note.domains)
            if ours and notice.note.by == self._note.by:
                self._notices.own.add(notice.uuid)
                self._held[slot] = notice
                return
        try:
            for number in range(1, len(held) + 2):
                if await self._define(connection, slot, number):
                    return
        except LibvirtError as error:  # it may be permitted to read secrets alone
            self._notices.check_without_secrets(slot.host, error)
            self._hold_unshared(slot, lowest_free([notice.number for notice in held]))
            return
        raise HypervisorError(f"other daemons take all slots on {slot.host}; trying again")

    def _renew(self) -> None:
        if self._renewing is None:
            self._renewing = asyncio.ensure_future(self._keep_renewing())

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            async with self._calling:
                await self._adopt_rest()
                for notices in (self._held, self._tickets):
                    for slot, notice in tuple(notices.items()):
                        await self._renew_one(slot, notice, notices)

    async def _renew_one(self, slot: Slot, notice: Notice, notices: dict[Slot, Notice]) -> None:
        note = msgspec.structs.replace(notice.note, beat=notice.note.beat + 1)
        renewed = msgspec.structs.replace(notice, note=note)
        try:
            connection = await self._connection(slot)
            kept = await connection.within(_ANSWER_SECONDS, define_notice, renewed)
        except LostError as error:
            self._notices.log.debug("%s", error)  # the next renewal follows soon
            return
        except HypervisorError as error:
            self._notices.warn_once(slot.host, f"its notices cannot be renewed: {error}")
            return
        if notices.get(slot) is not notice:  # it was removed in the meantime
            await self._remove({slot: renewed})
            return
        if kept:
            notices[slot] = renewed
        else:
            self._notices.log.warning("another daemon has taken the slot %s", notice.usage)
            self._forget(slot, notices)

    def _forget(self, slot: Slot, notices: dict[Slot, Notice]) -> None:
        notice = notices.pop(slot)
        self._notices.own.discard(notice.uuid)
        ticket = self._notices.tickets.get(slot)
        if ticket is not None and ticket[1].uuid == notice.uuid:
            del self._notices.tickets[slot]

    async def _remove(self, notices: dict[Slot, Notice]) -> None:
        """Remove notices. A notice that cannot be removed becomes stale."""
        for slot, notice in tuple(notices.items()):
            self._forget(slot, notices)
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    connection = await self._connection(slot)
                    await connection.within(_ANSWER_SECONDS, remove_notices, [notice.uuid])
            except (HypervisorError, TimeoutError) as error:
                self._notices.log.info("the notice %s is left behind: %s", notice.usage, error)
