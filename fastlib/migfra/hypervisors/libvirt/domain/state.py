"""Read a domain's state from its host's libvirt. The functions block: use `Connection.call`.

Each takes the `virConnect` and the domain's name. So no caller keeps an object of a connection that
may be lost before the next call.
"""

from typing import Any, Final

import msgspec

from fastlib.migfra.hypervisors.libvirt.connection.api import api

STATES: Final = (
    "no state", "running", "blocked", "paused", "shutting down", "shut off", "crashed", "suspended",
)  # fmt: skip
"""libvirt's states in words, by their numbers."""
RUNNING_STATES: Final = frozenset({1, 2})
"""Running, or waiting for a resource. An operator calls both running."""
# Numbers of libvirt's reasons for the state of a domain.
RUNS_AFTER_CANCEL: Final = 6
"""It was paused for the switch-over of a migration, which libvirt then treated as failed."""
STARTED_HERE: Final = frozenset({1, 3, 4})
"""It was booted, or restored from a file or a snapshot. So it has not come by migration."""
RUNS_IN_POST_COPY: Final = frozenset({10, 11})
"""Post-copy: it runs on the destination, and part of its memory is still on the source."""
SHUT_OFF_BY_MIGRATION: Final = 4
"""It has migrated to another host, and its definition has stayed."""
SHUT_OFF_BY_FAILURE: Final = frozenset({2, 3, 6})
"""It was destroyed, its process has ended, or libvirt could no longer control its process."""
SHUT_OFF_BY_SAVING: Final = 5
"""It was saved into a file."""
PAUSED_BY_USER: Final = 1
PAUSED_FOR_MIGRATION: Final = 2
PAUSED_ARRIVING: Final = frozenset({2, 11})
"""On the destination: it has never run there."""
PAUSED_IN_POST_COPY: Final = frozenset({12, 13})
"""On the source: the domain runs on the destination, and needs the memory that is still here."""


MOST_UNUSED_NS: Final = 50_000_000
"""Nanoseconds. A vCPU that has used more has run. One that never ran was measured with 0."""
_RUNS_IN_BROKEN_POST_COPY: Final = 11
_PAUSED_IN_BROKEN_POST_COPY: Final = 13


class DomainState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a domain on a host. If `known` is false, the host has no such domain."""

    known: bool = False
    active: bool = False
    running: bool = False
    paused: bool = False
    migrating: bool = False
    """Whether a job is in progress that moves or saves it."""
    state: str = ""
    """libvirt's word for the state."""
    reason: int = 0
    """The number of libvirt's reason for the state."""
    persistent: bool = False
    autostart: bool = False
    """Whether it starts when its host starts."""
    uuid: str = ""
    memory: int = 0
    """KiB."""
    vcpus: int = 0

    @property
    def left_behind(self) -> bool:
        """Whether a migration left it paused, because its libvirt missed the migration's end."""
        return self.paused and self.reason in {PAUSED_FOR_MIGRATION, *PAUSED_IN_POST_COPY}

    @property
    def divided(self) -> bool:
        """Whether its post-copy broke: its memory is divided between two hosts."""
        return (self.paused and self.reason == _PAUSED_IN_BROKEN_POST_COPY) or (
            self.running and self.reason == _RUNS_IN_BROKEN_POST_COPY
        )

    @property
    def phrase(self) -> str:
        """The state of the domain in words, such as `is running`. It follows the domain's name."""
        if not self.known:
            return "is unknown"
        if self.running:
            return "runs"
        if self.left_behind and not self.migrating:
            return "is paused after a migration"
        return f"is {self.state}" if self.state else "is shut off"


def find(connection: Any, name: str) -> Any:
    """Return the domain, or None if there is none."""
    libvirt = api()
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def look_up(connection: Any, name: str) -> DomainState:
    """Read the state of a domain."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None:
        return DomainState()
    try:
        # Read the job first: if it ends now, it counts as in progress, and the caller reads again.
        migrating = has_job(domain)
        _, maximum, _, vcpus, _ = domain.info()
        persistent = bool(domain.isPersistent())
        state, reason = domain.state()
        return DomainState(
            known=True,
            active=state != libvirt.VIR_DOMAIN_SHUTOFF and bool(domain.isActive()),
            running=state in RUNNING_STATES,
            paused=state in (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PMSUSPENDED),
            migrating=migrating,
            state=STATES[state] if state < len(STATES) else "in no known state",
            reason=reason,
            persistent=persistent,
            autostart=persistent and bool(domain.autostart()),
            uuid=domain.UUIDString(),
            memory=maximum,
            vcpus=vcpus,
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return DomainState()  # it disappeared between the calls
        raise


def vcpu_ns(domain: Any) -> int:
    """Return the time that the busiest vCPU has used in this process, in nanoseconds."""
    return max((int(vcpu[2]) for vcpu in domain.vcpus()[0]), default=0)


def read_xml(connection: Any, name: str, *, active: bool = False) -> str:
    """Return a domain's XML: its definition, or with `active` that of the running domain."""
    libvirt = api()
    flags = libvirt.VIR_DOMAIN_XML_SECURE
    if not active:
        flags |= libvirt.VIR_DOMAIN_XML_INACTIVE
    return str(connection.lookupByName(name).XMLDesc(flags))


def is_arriving(connection: Any, domain: Any) -> bool:
    """Return whether a domain is sent to this host. With a broken post-copy nothing is sent."""
    libvirt = api()
    try:
        domain.jobInfo()
    except libvirt.libvirtError as error:
        # Only the source of a migration has statistics.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return not look_up(connection, domain.name()).divided
    return False


def has_job(domain: Any) -> bool:
    """Return whether a job that blocks other calls is in progress, such as a migration."""
    libvirt = api()
    try:
        kind = domain.jobInfo()[0]
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return True  # the domain is arriving here: only its source has the statistics
        # An inactive domain has no job. A driver without jobs has none either.
        if code in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_SUPPORT):
            return False
        raise
    return bool(kind in (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED))
