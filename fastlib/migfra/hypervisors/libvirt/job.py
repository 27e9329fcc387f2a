"""One call of libvirt's that moves a domain, and the watch over it.

The call may hang for minutes, for example when the link is cut; so it is not waited for longer than
is sensible. Who gives it up has to establish where the domain is.
"""

import asyncio
from concurrent.futures import Future
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec

from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt import precopy

from . import domains
from .api import api
from .cancel_scope import Stopping
from .connections import Connection
from .errors import LibvirtError, LostError
from .migration_spec import Trip
from .site import LOOK, Site

_LOOK: Final = 0.25
"""Seconds between two looks at a migration."""
_ANSWER: Final = 5.0
_GRACE: Final = 10.0
"""Seconds that the call may take to return after it was aborted, and that a decision may fail."""
_AWAY: Final = 30.0
"""Seconds for which the source of a migration that is followed may be away."""
_MOST_CONNECTIONS: Final = 255
"""QEMU counts them in a byte."""
_IN_POST_COPY: Final = "in post-copy"
"""Our own key beside those of libvirt's statistics."""
COMPRESSIONS: Final = ("mt", "xbzrle", "zlib", "zstd")
_PARALLEL_ONLY: Final = frozenset({"zlib", "zstd"})


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What libvirt is asked for."""

    name: str
    flags: int
    parameters: dict[str, Any]
    destination_uri: str | None
    """Where the source finds the destination; None if we are between them."""


def check_parameter(trip: Trip) -> None:
    """Raises HypervisorError for options that contradict each other."""
    if trip.parameter.on_timeout == "post-copy" and trip.kind != "live":
        raise HypervisorError("post-copy needs migration-type: live, as the domain runs meanwhile")
    count = trip.parameter.parallel_connections
    if count is not None and count > _MOST_CONNECTIONS:
        raise HypervisorError(f"parallel-connections is at most {_MOST_CONNECTIONS}, not {count}")
    method = trip.parameter.compression
    if method is None:
        return
    if method not in COMPRESSIONS:
        raise HypervisorError(
            f"compression is one of {', '.join(COMPRESSIONS)}, not {method[:40]!r}"
        )
    if trip.parameter.parallel_connections and method not in _PARALLEL_ONLY:
        raise HypervisorError(
            f"compression {method} does not go with parallel-connections; take zlib or zstd, or "
            "leave out one of the two"
        )


def order_of(trip: Trip, *, persistent: bool, peer: str | None, migration_uri: str | None) -> Order:
    """The order for a trip; `peer` is the destination's URI for a migration peer to peer."""
    libvirt = api()
    told = trip.parameter
    flags = 0
    parameters: dict[str, Any] = {}
    if peer is not None:
        flags |= libvirt.VIR_MIGRATE_PEER2PEER
    if persistent:
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    if trip.kind == "offline":
        flags |= libvirt.VIR_MIGRATE_OFFLINE
        return Order(name=trip.name, flags=flags, parameters={}, destination_uri=peer)
    if trip.kind == "live":
        flags |= libvirt.VIR_MIGRATE_LIVE
    if trip.vcpu_map is not None:
        flags |= libvirt.VIR_MIGRATE_PAUSED
    if told.auto_converge:
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    if told.on_timeout == "post-copy":
        flags |= libvirt.VIR_MIGRATE_POSTCOPY
    if told.bandwidth_limit:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = told.bandwidth_limit
        if told.on_timeout == "post-copy":
            # It has a limit of its own, which otherwise is none.
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY] = told.bandwidth_limit
    if told.compression is not None:
        flags |= libvirt.VIR_MIGRATE_COMPRESSED
        parameters[libvirt.VIR_MIGRATE_PARAM_COMPRESSION] = told.compression
    if told.parallel_connections or told.compression in _PARALLEL_ONLY:
        flags |= libvirt.VIR_MIGRATE_PARALLEL
        if told.parallel_connections:
            count = told.parallel_connections
            parameters[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = count
    if migration_uri is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = migration_uri
    return Order(name=trip.name, flags=flags, parameters=parameters, destination_uri=peer)


def _perform(connection: Any, name: str, order: Order, destination: Any) -> None:
    """Blocks until the domain has moved, or has not."""
    domain = connection.lookupByName(name)
    if order.destination_uri is not None:
        domain.migrateToURI3(order.destination_uri, order.parameters, order.flags)
    else:
        domain.migrate3(destination, order.parameters, order.flags)


async def run(site: Site, trip: Trip, order: Order, stopping: Stopping, context: Context) -> None:
    """Move a domain and watch that.

    Raises HypervisorError when the call failed or was given up, TaskCancelledError when it was
    stopped: in either case the domain's whereabouts are to be established.
    """
    own = site.connections.own
    async with own(trip.source, trip.driver, trip.transport) as source, AsyncExitStack() as stack:
        raw = None
        if order.destination_uri is None:
            between = own(trip.destination, trip.driver, trip.transport)
            raw = (await stack.enter_async_context(between)).raw
        call = source.submit(_perform, trip.name, order, raw)
        try:
            await await_call(Watch(site, trip, stopping, context), call)
        except LostError as error:
            if not source.alive:
                raise
            raise HypervisorError(
                f"the connection to libvirt on {trip.destination} is lost ({error.said}); look at "
                "that host, its network and its libvirtd"
            ) from error


async def await_call(watch: "Watch", call: "Future[None]") -> None:
    """Wait for a call that moves or saves a domain.

    Raises HypervisorError when it failed or was given up, TaskCancelledError when it was stopped.
    """
    future = asyncio.wrap_future(call)
    try:
        trouble = await watch.until(future)
        if not future.done():
            raise trouble or HypervisorError("libvirt does not come back from it")
        error = future.exception()
        if error is None:
            return  # in time after all
        if trouble is not None:
            raise trouble
        raise error
    finally:
        future.cancel()


async def follow(site: Site, trip: Trip, watch: "Watch") -> HypervisorError | None:
    """Watch a migration that goes on without us, to its end; why it was aborted, if it was."""
    end = asyncio.ensure_future(ended(site, trip))
    try:
        return await watch.until(end)
    finally:
        end.cancel()


async def ended(site: Site, trip: Trip) -> None:
    """Wait until the source has no job with the domain any more, or has been away for long."""
    loop = asyncio.get_running_loop()
    heard = loop.time()
    while loop.time() < heard + _AWAY:
        try:
            source = await site.connections.get(trip.source, trip.driver, trip.transport)
            if not (await source.call(domains.sight, trip.name)).migrating:
                return
            heard = loop.time()
        except HypervisorError as error:
            site.node.log.debug("%s", error)
        await asyncio.sleep(LOOK)


class Watch:
    """Looks at a migration that is under way, tells how far it is, and intervenes."""

    def __init__(
        self,
        site: Site,
        trip: Trip,
        stopping: Stopping,
        context: Context,
        *,
        saving: bool = False,
    ) -> None:
        """`saving`: it goes to storage, which can only be waited for or aborted."""
        self._site = site
        self._trip = trip
        self._stopping = stopping
        self._context = context
        self._saving = saving
        self._options = precopy.Options.of(trip.parameter, stall=site.options.stall_timeout)
        if saving:
            self._options = precopy.Options(
                timeout=self._options.timeout, stall=self._options.stall
            )
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._moved = self._began
        """When something moved the last time."""
        self._last: object = None
        self._downtime = precopy.DEFAULT_DOWNTIME
        self._paused = saving or trip.kind == "warm"
        self._post_copy = False
        self._failing_since: float | None = None
        """Since when what was decided cannot be done."""

    async def until(self, end: "asyncio.Future[None]") -> HypervisorError | None:
        """Wait for the end, and intervene meanwhile.

        Returns why it was aborted, if it was; `end` may be pending then.
        """
        while True:
            await self._stopping.any_of(_LOOK, end)
            if end.done():
                return None
            if self._stopping.stopped and not self._post_copy:
                await self._facts()  # it may be in post-copy since an earlier run of the daemon
                if not self._post_copy:
                    return await self._abort(TaskCancelledError(self._stopping.reason), end)
            if self._stopping.stopped:
                await asyncio.wait({end}, timeout=_LOOK)  # there is no way back any more
            trouble = await self._look(end)
            if trouble is not None and self._post_copy:
                return trouble  # an abort would end the domain
            if trouble is not None:
                return await self._abort(trouble, end)

    async def _abort(self, why: HypervisorError, end: "asyncio.Future[None]") -> HypervisorError:
        name = self._trip.name
        self._context.log.warning("%s: the migration is aborted: %s", name, why)
        self._context.progress("abort", vm_name=name)
        deadline = self._loop.time() + _GRACE
        while not end.done() and self._loop.time() < deadline:
            try:
                await (await self._source()).within(_ANSWER, _abort_job, name)
            except LibvirtError as error:
                # Before it has begun to send there is nothing to abort yet: so once more.
                self._context.log.info("%s", error)
            await asyncio.wait({end}, timeout=1.0)
        return why

    async def _source(self) -> Connection:
        trip = self._trip
        return await self._site.connections.get(trip.source, trip.driver, trip.transport)

    async def _facts(self) -> dict[str, Any]:
        """What libvirt tells of it, and whether it is in post-copy; nothing if it does not tell."""
        try:
            facts = await (await self._source()).within(_ANSWER, _job_statistics, self._trip.name)
        except HypervisorError as error:
            self._context.log.debug("%s", error)
            return {}
        self._post_copy = self._post_copy or bool(facts.get(_IN_POST_COPY))
        return facts

    async def _look(self, end: "asyncio.Future[None]") -> HypervisorError | None:
        """Why it is to be aborted, or None."""
        facts = await self._facts()
        if end.done():
            return None
        statistics = self._statistics(facts)
        if self._post_copy and statistics.stalled >= self._options.stall:
            return HypervisorError(f"nothing has moved for {statistics.stalled:.0f} s in post-copy")
        elapsed = self._loop.time() - self._began
        decision = precopy.decide(statistics, self._options_now, elapsed)
        if decision == precopy.GoOn():
            self._failing_since = None
            return None
        self._context.log.info("%s: %s", self._trip.name, precopy.describe(decision))
        if isinstance(decision, precopy.Abort):
            return HypervisorError(decision.reason)
        try:
            await self._act(decision)
        except LibvirtError as error:
            now = self._loop.time()
            self._failing_since = self._failing_since or now
            self._context.log.warning("%s", error)
            if now - self._failing_since >= _GRACE:
                return HypervisorError(f"could not {precopy.describe(decision)}: {error}")
        else:
            self._failing_since = None
        return None

    @property
    def _options_now(self) -> precopy.Options:
        # The hypervisor throttles the guest by itself, if it was told that it may.
        return msgspec.structs.replace(self._options, auto_converge=False)

    def _statistics(self, facts: dict[str, Any]) -> precopy.MigrationStatistics:
        remaining = float(facts.get("data_remaining", 0))
        processed = int(facts.get("data_processed", 0))
        total = int(facts.get("data_total", 0))
        iteration = int(facts.get("memory_iteration", 0))
        bandwidth = float(facts.get("memory_bps", 0))
        dirty_rate = float(facts.get("memory_dirty_rate", 0) * facts.get("memory_page_size", 4096))
        now = self._loop.time()
        seen = (remaining, processed, iteration) if facts else self._last
        if seen != self._last:
            self._last, self._moved = seen, now
        if facts:
            phase = "migrate"
            if self._saving:
                phase = "save"
            elif self._post_copy:
                phase = "post-copy"
            elif self._paused:
                phase = "downtime"
            self._context.progress(
                phase,
                vm_name=self._trip.name,
                percent=100 * (1 - remaining / total) if total > 0 else None,
                transferred=processed,
                total=total,
                remaining=round(remaining),
                dirty_rate=round(dirty_rate),
                expected=precopy.expected_seconds(remaining, dirty_rate, bandwidth),
            )
        return precopy.MigrationStatistics(
            remaining=remaining,
            bandwidth=bandwidth,
            dirty_rate=0.0 if self._paused else dirty_rate,
            iteration=iteration,
            downtime=self._downtime,
            stalled=now - self._moved,
            paused=self._paused,
            post_copy=self._post_copy,
        )

    async def _act(self, decision: precopy.Decision) -> None:
        source, name = await self._source(), self._trip.name
        match decision:
            case precopy.RaiseDowntime(seconds):
                await source.within(_ANSWER, set_downtime, name, seconds)
                self._downtime = seconds
            case precopy.Pause():
                await source.within(_ANSWER, _pause, name)
                self._paused = True
            case precopy.SwitchToPostCopy():
                await source.within(_ANSWER, _start_post_copy, name)
                self._post_copy = True


def _abort_job(connection: Any, name: str) -> None:
    connection.lookupByName(name).abortJob()


def _job_statistics(connection: Any, name: str) -> dict[str, Any]:
    libvirt = api()
    domain = connection.lookupByName(name)
    found: dict[str, Any] = domain.jobStats()
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED and reason in domains.PAUSED_IN_POST_COPY:
        found[_IN_POST_COPY] = True
    under_way = found.get("type") in (
        libvirt.VIR_DOMAIN_JOB_BOUNDED,
        libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    )
    return found if under_way else {}


def downtime(connection: Any, name: str) -> float | None:
    """How long a domain that has arrived on this host stood still for that, in seconds."""
    found = connection.lookupByName(name).jobStats(api().VIR_DOMAIN_JOB_STATS_COMPLETED)
    milliseconds = found.get("downtime")
    return None if milliseconds is None else milliseconds / 1000


def set_downtime(connection: Any, name: str, seconds: float) -> None:
    """How long the domain may stand still at the end of its migration."""
    connection.lookupByName(name).migrateSetMaxDowntime(max(1, round(seconds * 1000)), 0)


def _pause(connection: Any, name: str) -> None:
    connection.lookupByName(name).suspend()


def _start_post_copy(connection: Any, name: str) -> None:
    connection.lookupByName(name).migrateStartPostCopy(0)
