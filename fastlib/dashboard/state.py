"""The state of the cluster that the page shows. It is bounded, and readers request its changes.

No I/O. Each part has the number of its last change. So a slow or new reader gets the newest state
of the changed parts, and no queue grows for it.
"""

from collections import deque
from itertools import islice
from typing import Any, Final

import msgspec

from fastlib.client import ObservedMessage
from fastlib.display.message_text import domain_names, domain_of
from fastlib.display.text import natural_key
from fastlib.message import (
    Evacuate,
    Migrate,
    Query,
    QueryHistory,
    Result,
    ResultContainer,
    TaskContainer,
)
from fastlib.message.node import NodeReport, Presence, Progress
from fastlib.message.task import declaration_of_result

from .hardware import Hardware, hardware_of
from .texts import MAX_NAME, cut, short, short_or_none

MAX_HOSTS: Final = 2000
"""Maximum hosts; further ones are counted and not shown."""
MAX_DOMAINS: Final = 50_000
"""Maximum domains on all hosts; those of further reports are counted and not shown."""
MAX_WORK: Final = 2000
"""Maximum running and queued tasks, with their domains; one more drops the oldest."""
MAX_RESULTS: Final = 200
"""Maximum results; one more drops the oldest."""
MAX_RESULTS_OF_TASK: Final = 50
"""Maximum results that one container adds."""

QUERIES: Final = (Query.declaration, QueryHistory.declaration)
"""Tasks that change nothing, and that the page does not show."""
_QUERY_TITLES: Final = frozenset(declared.task for declared in QUERIES)
_QUERY_RESULTS: Final = frozenset(declared.result for declared in QUERIES)


class Domain(msgspec.Struct, frozen=True, omit_defaults=True):
    """One domain of a host."""

    name: str
    state: str
    vcpus: int | None = None
    memory: int | None = None
    """KiB."""


class HostView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The facts about a host that the page shows. An absent value is not known."""

    name: str
    status: str = "unknown"
    """online, offline, degraded, or unknown: C++ daemons do not report it."""
    degraded: str | None = None
    """The reason why it accepts no tasks."""
    since: float | None = None
    """The Unix time of the last change of its status; None if the dashboard does not know it."""
    hypervisor: str | None = None
    version: str | None = None
    cpus: int | None = None
    memory: int | None = None
    """KiB."""
    free_memory: int | None = None
    """KiB."""
    hardware: Hardware | None = None
    domains: tuple[Domain, ...] = ()
    domains_left_out: int = 0
    silent: str | None = None
    """The reason why the last query has no answer; the domains are then older."""


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """A domain on which a task acts, or the whole task."""

    host: str
    task: str
    state: str
    """sent, queued, running and so on, or the phase of the last report of progress."""
    id: str | None = None
    domain: str | None = None
    domains: int = 0
    """Number of domains that the task names, if the row is about the whole task."""
    destination: str | None = None
    percent: float | None = None
    transferred: int | None = None
    total: int | None = None
    dirty_rate: float | None = None
    expected: float | None = None
    position: int | None = None
    since: float | None = None
    """The Unix time when the daemon accepted it, or when it was first seen."""


class Ended(msgspec.Struct, frozen=True, omit_defaults=True):
    """A result, or a message that cannot be read."""

    number: int
    time: float
    """The Unix time of its arrival."""
    host: str
    title: str
    failed: bool
    id: str | None = None
    domain: str | None = None
    details: str | None = None
    again: bool = False
    """True for the answer to a repeated order, from the journal."""


_Key = tuple[str, str, str]
"""Host, id and domain of work."""


class State:
    """Hosts, running and queued tasks, and last results. All its parts have bounds."""

    def __init__(self) -> None:
        self.version = 1
        """The number of the last change."""
        self._hosts: dict[str, HostView] = {}
        self._host_versions: dict[str, int] = {}
        self._removed = 0
        """The number of the last change that removed a host."""
        self._hosts_left_out: set[int] = set()
        self._domains = 0
        self._work: dict[_Key, Work] = {}
        self._updated: dict[_Key, float] = {}
        """Monotonic time of the last message about each task."""
        self._destinations: dict[tuple[str, str], str] = {}
        self._work_version = 1
        self._ended: deque[Ended] = deque(maxlen=MAX_RESULTS)
        self._ended_number = 0
        self._results_version = 1
        self._broker: tuple[bool, float] = (True, 0.0)
        self._broker_version = 1

    # --- reading

    @property
    def hosts(self) -> list[str]:
        """The names of all hosts."""
        return list(self._hosts)

    def host(self, name: str) -> HostView | None:
        """Return a host, if it is known."""
        return self._hosts.get(name)

    @property
    def work(self) -> list[Work]:
        """Return the running and queued tasks, the oldest first."""
        return list(self._work.values())

    @property
    def results(self) -> list[Ended]:
        """The last results, the newest first."""
        return list(self._ended)

    def destinations(self, host: str, id: str | None) -> list[str]:
        """Return the destination of a task, if its message was seen and named one."""
        found = self._destinations.get((host, short(id or "")))
        return [] if found is None else [found]

    def changes(self, since: int = 0) -> dict[str, Any]:
        """Return the changes after the change number `since`; 0 means everything.

        With `full`, the hosts that are missing in `hosts` are gone.
        """
        full = since == 0 or self._removed > since
        since = 0 if full else since
        found: dict[str, Any] = {"version": self.version, "full": full}
        hosts = [
            self._hosts[name] for name, version in self._host_versions.items() if version > since
        ]
        if hosts or full:
            found["hosts"] = hosts
            found["hostsLeftOut"] = len(self._hosts_left_out)
        if self._work_version > since:
            found["work"] = list(self._work.values())
        if self._results_version > since:
            found["results"] = list(self._ended)
        if self._broker_version > since:
            connected, time = self._broker
            found["broker"] = {"connected": connected, "since": time}
        return found

    # --- changes

    def set_broker(self, *, connected: bool, time: float) -> None:
        """Note whether there is a connection to the broker, and since when (Unix time)."""
        if connected != self._broker[0] or not self._broker[1]:
            self._broker = connected, time
            self._broker_version = self._next()

    def add(self, observed: ObservedMessage[Any], now: float) -> None:
        """Update the state from one message; `now` is a monotonic time in seconds."""
        message = observed.message
        name = observed.host
        if observed.is_forgotten:
            self.remove(name)
            return
        if isinstance(message, Presence) and message.is_claim:
            return
        if isinstance(message, ResultContainer) and message.result in _QUERY_RESULTS:
            return  # it may be the last of a host that is forgotten
        if isinstance(message, TaskContainer) and message.task in _QUERY_TITLES:
            return
        if self._known(name) is None:
            return
        if isinstance(message, Presence):
            self._on_presence(name, message, observed.time.timestamp())
        elif isinstance(message, Progress):
            self._on_progress(name, message, observed.time.timestamp(), now)
        elif isinstance(message, ResultContainer):
            self._on_result(name, message, observed.time.timestamp())
        elif isinstance(message, TaskContainer):
            self._on_task(name, message, observed.time.timestamp(), now)
        elif message is None:
            kind = observed.topic.rpartition("/")[2]
            self._end(
                time=observed.time.timestamp(),
                host=name,
                title=f"unreadable {kind}",
                failed=True,
                details=cut(str(observed.error)),
            )

    def report(self, name: str, report: NodeReport, asked: float) -> None:
        """Note the answer to a query; `asked` is the monotonic time when it was sent."""
        known = self._hosts.get(name)
        if known is None:
            return
        others = self._domains - len(known.domains)
        room = max(0, MAX_DOMAINS - others)
        domains = tuple(
            Domain(short(domain.name), short(domain.state), domain.vcpus, domain.memory)
            for domain in islice(report.domains, room)
        )
        self._domains = others + len(domains)
        self._set_host(
            msgspec.structs.replace(
                known,
                hypervisor=short(report.hypervisor),
                cpus=report.cpus,
                memory=report.memory,
                free_memory=report.free_memory,
                hardware=hardware_of(report),
                domains=tuple(sorted(domains, key=lambda domain: natural_key(domain.name))),
                domains_left_out=len(report.domains) - len(domains),
                silent=None,
            )
        )
        self._reconcile(name, report, asked)

    def report_silence(self, name: str, reason: str) -> None:
        """Note that a query has no answer."""
        known = self._hosts.get(name)
        if known is not None:
            self._set_host(msgspec.structs.replace(known, silent=cut(reason)))

    def remove(self, name: str) -> None:
        """Forget a host whose presence the broker has deleted."""
        known = self._hosts.pop(name, None)
        if known is None:
            return
        self._domains -= len(known.domains)
        del self._host_versions[name]
        self._drop_work([key for key in self._work if key[0] == name])
        self._removed = self._next()

    # --- single messages

    def _known(self, name: str) -> HostView | None:
        """Return a host, a new one if it is not known; None if there are too many."""
        known = self._hosts.get(name)
        if known is None:
            if len(self._hosts) >= MAX_HOSTS or len(name) > MAX_NAME:
                if len(self._hosts_left_out) < MAX_HOSTS:
                    self._hosts_left_out.add(hash(name))
                return None
            known = HostView(name)
            self._set_host(known)
        return known

    def _on_presence(self, name: str, presence: Presence, time: float) -> None:
        known = self._hosts[name]
        degraded = presence.degraded if presence.status == "online" else None
        status = "degraded" if degraded else presence.status
        since = time if known.status not in (status, "unknown") else known.since
        if status == "offline" and presence.time is not None:
            since = presence.time.timestamp()
        self._set_host(
            msgspec.structs.replace(
                known,
                status=status,
                degraded=None if degraded is None else cut(degraded),
                since=since,
                hypervisor=short_or_none(presence.hypervisor) or known.hypervisor,
                version=short_or_none(presence.version) or known.version,
                silent=None if presence.status == "offline" else known.silent,
            )
        )

    def _on_task(self, name: str, container: TaskContainer, time: float, now: float) -> None:
        id = short(container.id or "")
        first = next(iter(container.tasks), None)
        destination = None
        if isinstance(first, Migrate):
            destination = short(first.destination)
        elif isinstance(first, Evacuate) and len(first.destinations) == 1:
            destination = short(first.destinations[0])
        if destination is not None and id:
            self._destinations[name, id] = destination
            while len(self._destinations) > MAX_WORK:
                del self._destinations[next(iter(self._destinations))]
        if self._hosts[name].status == "offline":
            return
        names = domain_names(container)
        work = Work(
            host=name,
            task=short(container.task),
            state="sent",
            id=id or None,
            domain=short(names[0]) if len(names) == 1 else None,
            domains=len(names),
            destination=destination,
            since=time,
        )
        self._set_work(work, now, only_new=True)

    def _on_progress(self, name: str, progress: Progress, time: float, now: float) -> None:
        id = short(progress.id or "")
        domain = short_or_none(domain_of(progress))
        whole = self._work.get((name, id, ""))
        before = self._work.get((name, id, domain or "")) or whole
        if domain is not None:  # the whole task has begun with its domains
            self._drop_work([(name, id, "")])
        self._set_work(
            Work(
                host=name,
                task=short(progress.task or (before.task if before else "")),
                state=short(progress.phase),
                id=id or None,
                domain=domain,
                domains=before.domains if before and not domain else 0,
                destination=self._destinations.get((name, id)),
                percent=progress.percent,
                transferred=progress.transferred,
                total=progress.total,
                dirty_rate=progress.dirty_rate,
                expected=progress.expected,
                position=progress.position,
                since=before.since if before and before.since else time,
            ),
            now,
        )

    def _on_result(self, name: str, results: ResultContainer, time: float) -> None:
        id = short(results.id or "")
        self._destinations.pop((name, id), None)
        if id:
            self._drop_work([key for key in self._work if key[:2] == (name, id)])
        else:
            self._drop_oldest_without_id(name, results.result)
        listed = results.results[:MAX_RESULTS_OF_TASK]
        for result in listed:
            self._end_of(name, results, result, time)
        if len(listed) < len(results.results):
            more = len(results.results) - len(listed)
            bad = sum(r.status != "success" for r in results.results[MAX_RESULTS_OF_TASK:])
            self._end(
                time=time,
                host=name,
                title=short(results.result),
                failed=bad > 0,
                id=id or None,
                details=f"{more} more results, {bad} of them errors",
            )

    def _end_of(self, name: str, results: ResultContainer, result: Result, time: float) -> None:
        self._end(
            time=time,
            host=name,
            title=short(results.result),
            failed=result.status != "success",
            id=short_or_none(results.id),
            domain=None if result.vm_name in ("", "n/a") else short(result.vm_name),
            details=None if not result.details else cut(result.details),
            again=results.executed is not None,
        )

    def _drop_oldest_without_id(self, name: str, title: str) -> None:
        """Drop the oldest work without an id that a result without an id can answer."""
        declared = declaration_of_result(title)
        for key, work in self._work.items():
            if key[:2] == (name, "") and declared is not None and declared.task == work.task:
                self._drop_work([key])
                return

    def _reconcile(self, name: str, report: NodeReport, asked: float) -> None:
        """Update the tasks on a host by the report of its daemon."""
        told: dict[_Key, Work] = {}
        for task in report.tasks:
            if task.task in _QUERY_TITLES:
                continue
            domain = None if task.vm_name in (None, "", "n/a") else short_or_none(task.vm_name)
            id = short(task.id or "")
            told[name, id, domain or ""] = Work(
                host=name,
                task=short(task.task),
                state=short(task.state),
                id=id or None,
                domain=domain,
                destination=self._destinations.get((name, id)),
                since=task.since,
            )
        begun = {key[:2] for key in self._work if key[2]}
        for key, work in told.items():
            before = self._work.get(key)
            if before is not None:
                # The progress has a better state; the report has the time of acceptance.
                fresh = before.state if before.state != "sent" else work.state
                work = msgspec.structs.replace(before, state=fresh, since=work.since)
            elif not key[2] and key[:2] in begun:
                continue  # an evacuation, whose domains have rows
            self._set_work(work, max(asked, self._updated.get(key, asked)))
        ids = {key[:2] for key in told}
        self._drop_work(
            [
                key
                for key in self._work
                if key[0] == name
                and key not in told
                and (key[:2] not in ids or not key[2])
                and self._updated[key] < asked
            ]
        )

    # --- the parts

    def _next(self) -> int:
        self.version += 1
        return self.version

    def _set_host(self, host: HostView) -> None:
        if self._hosts.get(host.name) != host:
            self._hosts[host.name] = host
            self._host_versions[host.name] = self._next()

    def _set_work(self, work: Work, now: float, *, only_new: bool = False) -> None:
        key = (work.host, work.id or "", work.domain or "")
        if only_new and key in self._work:
            return
        self._updated[key] = now
        if self._work.get(key) == work:
            return
        self._work[key] = work
        self._work_version = self._next()
        if len(self._work) > MAX_WORK:
            self._drop_work([next(iter(self._work))])

    def _drop_work(self, keys: list[_Key]) -> None:
        for key in keys:
            if self._work.pop(key, None) is not None:
                del self._updated[key]
                self._work_version = self._next()

    def _end(self, **facts: Any) -> None:
        self._ended_number += 1
        self._ended.appendleft(Ended(number=self._ended_number, **facts))
        self._results_version = self._next()
