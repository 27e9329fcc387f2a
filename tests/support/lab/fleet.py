"""A laboratory with a daemon on each host, and a scheduler's client outside."""

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import msgspec

from fastlib import Result
from fastlib.client import MigfraClient
from fastlib.migfra.hypervisors.libvirt.domain.state import MOST_UNUSED_NS
from fastlib.transport import WaitTimeoutError
from tests.support.waiting import wait_until

from .guest import Guest, GuestOptions
from .host_daemon import HostDaemon
from .laboratory import Lab
from .layout import address
from .libvirt_access import end_domains
from .priority import prefer
from .result_observer import ResultObserver
from .saved_guests import BOOT_PATIENCE, SavedGuests

PATIENCE = 180.0
"""Seconds until a result that does not come fails the test."""
OBSERVER_SECONDS = 5.0
"""How long an answer takes at most to an observer that is connected."""
COMPARE_PATIENCE = 300.0
"""Seconds. An emulated guest compares slowly right after post-copy. Its comparison comes after its
beats, for which it needs all of its CPU time on a busy machine, unless its QEMU is preferred.
"""
SHORT_WAITS: Mapping[str, object] = {
    "keep-alive": 1,
    "connect-timeout": 6,
    "stall-timeout": 60,
    "pscom-timeout": 60,
    "stop-timeout": 60,
}
"""Options of a daemon that notices failures soon, in seconds.

A busy machine needs long to start QEMU at a destination, to encrypt, and to shut a guest down. QEMU
copies 16 MiB of a disk at once, and then pauses for as long as the limit demands.
"""
NOWHERE = "nowhere"
"""A destination that is allowed, but does not exist."""
QUERIED = ("node queried", "history queried")
"""The titles of answers that no journal keeps."""
_INACTIVE = ("shut off", "crashed")


class Fleet:
    """Hosts with daemons, guests, a client, and an observer of all results; a context manager."""

    def __init__(
        self, directory: Path, hosts: int = 2, options: Mapping[str, object] | None = None
    ) -> None:
        """The options are those of each daemon's section `hypervisor`."""
        self._directory = directory
        self.lab = Lab(hosts)
        self._common = _common_options([host.name for host in self.lab.hosts])
        self._options = {**self._common, **(options or {})}
        self.guests: dict[str, Guest] = {}
        self.daemons: dict[str, HostDaemon] = {}
        self.client: MigfraClient
        self.observer: ResultObserver
        self.saved_guests = SavedGuests(self.lab)
        self._broker_was_killed = False
        self._is_reset = False
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.lab)
            for host in self.lab.hosts:
                directory = self._directory / host.name
                self.daemons[host.name] = HostDaemon(self.lab, host.name, directory, self._options)
                self._stack.callback(self.daemons[host.name].kill)
            self._start_daemons()
            self.client = self._stack.enter_context(
                MigfraClient.connect(f"mqtt://{self.lab.broker}", timeout=900.0)
            )
            self.client.listen_to_progress()
            self.observer = self._stack.enter_context(ResultObserver(self.lab.broker))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def configure(self, options: Mapping[str, object]) -> None:
        """Restart all daemons with other options, unless they have these already."""
        wanted = {**self._common, **options}
        if wanted == self._options:
            return
        self._options = wanted
        for daemon in self.daemons.values():
            daemon.terminate()
            daemon.configure(wanted)
        self._start_daemons()

    def _start_daemons(self) -> None:
        """Start those that do not run, all at the same time."""
        launched = [daemon for daemon in self.daemons.values() if not daemon.is_running]
        for daemon in launched:
            daemon.launch()
        for daemon in launched:
            daemon.wait_until_ready()

    def run_guest(self, host: str, name: str, **options: Unpack[GuestOptions]) -> Guest:
        """Let a guest with Linux run on a host, restored from its state after boot.

        The options are those of `Lab.define_guest`, on top of a light load.
        """
        return self.run_guests(host, [name], **options)[0]

    def run_guests(
        self, host: str, names: Sequence[str], **options: Unpack[GuestOptions]
    ) -> list[Guest]:
        """Let several guests run on a host."""
        self._is_reset = False
        guests = self.saved_guests.restore(self.lab.host(host), names, **_with_load(options))
        self.guests.update({guest.name: guest for guest in guests})
        return guests

    def boot_guest(self, host: str, name: str, **options: Unpack[GuestOptions]) -> Guest:
        """Let the daemon of a host start a new guest with Linux, and wait until it has booted."""
        guest = self.lab.define_guest(name, **_with_load(options))
        self.guests[name] = guest
        started = self.client.start(host, xml=guest.xml, probe_with_ssh=False)
        assert_success(started.result(PATIENCE))
        guest.wait_for_heartbeat(patience=BOOT_PATIENCE)
        return guest

    def assert_one_answer_each(self) -> None:
        """Check that each task has exactly one answer, and that none is still on its way.

        The same answer may come again after the broker was killed, as nobody knows whether it had
        come. It may come once more for each kill of a daemon, which notes the broker's confirmation
        up to 0.1 s late, and once for each time that the client has asked again, as it does when a
        daemon comes back. The daemon's log has a line for each of these. A query that is asked
        again is executed again, and its answer shows the later state.
        """
        for host in self.daemons:
            self._wait_for_answers(host)
        kills = sum(daemon.kills for daemon in self.daemons.values())
        for id, answers in self.observer.take().items():
            if not self._broker_was_killed and answers[0].result in QUERIED:
                assert len(answers) <= self.observer.requests(id), answers
                continue
            allowed = (
                len(answers) if self._broker_was_killed else 1 + kills + self._answers_again(id)
            )
            # An answer from the journal says when the order was executed.
            plain = [msgspec.structs.replace(each, executed=None) for each in answers]
            is_same = all(each == plain[0] for each in plain)
            assert is_same, answers
            assert len(answers) <= allowed, answers
        self._broker_was_killed = False
        for daemon in self.daemons.values():
            daemon.kills = 0

    def _answers_again(self, id: str) -> int:
        """Count how often the daemons have answered a repeated request from their journals."""
        lines = [line for daemon in self.daemons.values() for line in daemon.log]
        return sum(
            f" {id} " in line and "answered earlier; the stored answer is sent again" in line
            for line in lines
        )

    def _wait_for_answers(self, host: str) -> None:
        """Wait for the answer to a query: it follows all earlier answers of the daemon.

        An observer that connects again after the broker was killed does not see earlier messages.
        """

        def sees_an_answer() -> bool:
            handle = self.client.query(host)
            handle.result(PATIENCE)
            return self.observer.has_seen(handle.id, OBSERVER_SECONDS)

        wait_until(sees_an_answer, f"the observer sees an answer of {host}", PATIENCE)

    def kill_broker(self) -> None:
        """End the broker with SIGKILL; it loses all messages."""
        self._broker_was_killed = True
        self.lab.broker.mosquitto.kill()

    def reset(self) -> None:
        """Repair the faults of a test, end all domains, and check that none is left."""
        if not self.lab.broker.mosquitto.is_running:
            self.lab.broker.mosquitto.start()
        for host in self.lab.hosts:
            host.thaw()
            if not host.is_connected:
                host.reconnect()
            if not host.libvirtd.is_running:
                host.libvirtd.start()
        self._end_domains()
        self._start_daemons()
        self.wait_until_settled()
        self.guests.clear()
        self._is_reset = True

    def unsettled(self, host: str) -> list[tuple[str, str]]:
        """The domain and the destination of each unsettled migration that a daemon reports."""
        report = self.client.query(host).result(PATIENCE).node
        assert report is not None
        return [(each.vm_name, each.destination) for each in report.unsettled or ()]

    def wait_until_settled(self) -> None:
        """Wait until no daemon has to decide again about a migration, after all faults ended."""

        def left() -> dict[str, list[tuple[str, str]]]:
            found = {host: self.unsettled(host) for host in self.daemons}
            return {host: migrations for host, migrations in found.items() if migrations}

        wait_until(lambda: not left(), lambda: f"all is settled: {left()}", 2 * PATIENCE)

    def reset_if_needed(self) -> None:
        """Reset unless that was the last thing that was done."""
        if not self._is_reset:
            self.reset()
        self._is_reset = False

    def _end_domains(self) -> None:
        """End all domains. The half of a post-copy on one host may keep the other one."""

        def ended() -> bool:
            had_none = [end_domains(host) for host in self.lab.hosts]
            return all(had_none)

        wait_until(ended, lambda: f"no domains: {self.domain_states()}", 3 * PATIENCE)

    def assert_runs_only_on(self, name: str, host: str) -> None:
        """Check that a guest runs on that host and no other, and that its memory is intact."""

        def runs_only_there() -> bool:
            states = {each: domains.get(name) for each, domains in self.domain_states().items()}
            there = states.pop(host)
            return there == "running" and all(
                state is None or state in _INACTIVE for state in states.values()
            )

        wait_until(
            runs_only_there, lambda: f"{name} on {host} alone: {self.domain_states()}", PATIENCE
        )
        guest = self.guests[name]
        prefer(self.lab.host(host).qemu(name))
        before = guest.wait_for_heartbeat()
        # The first comparison of the memory that ends may have begun before.
        wait_until(
            lambda: guest.wait_for_heartbeat().passes >= before.passes + 2,
            lambda: f"{name} compares its memory: {guest.heartbeats[-1:]}",
            COMPARE_PATIENCE,
        )
        after = guest.wait_for_heartbeat(before)
        assert after.faults == 0
        counts = [heartbeat.count for heartbeat in guest.heartbeats]
        assert counts == sorted(set(counts)), "two copies of the guest have run"

    def domain_states(self) -> dict[str, dict[str, str]]:
        """Return the state of each domain, by host."""
        return {host.name: host.domains() for host in self.lab.hosts}

    def wait_for_transfer(self, handle: Any) -> None:
        """Wait until a migration has sent some of the memory."""

        def has_sent() -> bool:
            progress = handle.progress
            sent = progress is not None and progress.phase != "save"
            return handle.done() or (sent and (progress.transferred or 0) > 1 << 20)

        wait_until(has_sent, lambda: f"memory is sent: {handle.progress}", PATIENCE)
        assert not handle.done(), handle.result(1)

    def lift_bandwidth_limit(self, host: str, name: str, *, post_copy: bool = False) -> None:
        """Remove the limit of a slowed migration, which may have ended."""
        which = ["--postcopy"] if post_copy else []
        self.lab.host(host).run(["virsh", "migrate-setspeed", name, "10000", *which], check=False)

    def result_without_limit(
        self,
        handle: Any,
        *migrations: tuple[str, str],
        post_copy: bool = False,
        seconds: float = PATIENCE,
    ) -> Any:
        """Return the result of slowed migrations: pairs of a source and a domain.

        Some may begin late, and each resume of a post-copy sets its limit again. So the limit is
        lifted until the result is there.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for host, name in migrations:
                self.lift_bandwidth_limit(host, name, post_copy=post_copy)
            with contextlib.suppress(WaitTimeoutError):
                return handle.result(1)
        return handle.result(1)

    def wait_until_it_has_run(self, host: str, name: str) -> None:
        """Wait until a domain has used its CPU on a host. An idle guest does that slowly."""

        def used() -> bool:
            listed = self.lab.host(host).virsh("domstats", "--vcpu", "--nowait", name)
            times = re.findall(r"vcpu\.\d+\.time=(\d+)", listed)
            return max(map(int, times), default=0) > MOST_UNUSED_NS

        wait_until(used, f"CPU time of {name} on {host}", PATIENCE)


def _common_options(hosts: Sequence[str]) -> dict[str, object]:
    """Return the options of all daemons. They allow the choices that the tests need."""
    names = [*hosts, *map(address, hosts), NOWHERE]
    return {
        "nodes": f"[{', '.join(hosts)}]",
        "destinations": f"[{', '.join(names)}]",
        "transports": "[ssh, tcp, tls]",
        "domain-xml": "{allow: any}",
        "probe-hosts": "[192.0.2.1]",
    }


def _with_load(options: GuestOptions) -> GuestOptions:
    """Add a light load: less than the slowest link of the tests carries."""
    return {"dirty": 4, "rate": 1, **options}


def assert_success(result: Result) -> None:
    assert result.status == "success", result.details


def assert_error(result: Result, *patterns: str) -> str:
    """Return the details of an error after checking that they match all of the patterns."""
    assert result.status == "error", result
    details = str(result.details)
    for pattern in patterns:
        assert re.search(pattern, details), details
    return details
