"""Remove the remains of a migration from a host. The functions block.

Each reads the domain's state again just before it acts.
"""

from collections.abc import Collection
from typing import Any

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.control import undefine
from fastlib.migfra.hypervisors.libvirt.domain.state import (
    MOST_UNUSED_NS,
    PAUSED_BY_USER,
    PAUSED_FOR_MIGRATION,
    RUNNING_STATES,
    RUNS_AFTER_CANCEL,
    find,
    has_job,
    vcpu_ns,
)


def destroy_copy(connection: Any, name: str, uuid: str, reasons: Collection[int]) -> None:
    """End a domain, but only if it has that UUID, and is paused for one of these reasons.

    Raises HypervisorError for one that a user has paused, and that has run on this host.
    """
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not _is(domain, uuid):
        return
    state, reason = domain.state()
    if state != libvirt.VIR_DOMAIN_PAUSED or reason not in reasons:
        return
    if reason == PAUSED_BY_USER and vcpu_ns(domain) > MOST_UNUSED_NS:
        raise HypervisorError(f"{name} is paused there, and is not ended, because it has run there")
    domain.destroy()


def never_ran(connection: Any, name: str) -> bool:
    """Return whether a domain has arrived paused on this host, and has not run since."""
    domain = find(connection, name)
    if domain is None or domain.state() != [api().VIR_DOMAIN_PAUSED, PAUSED_BY_USER]:
        return False
    return vcpu_ns(domain) <= MOST_UNUSED_NS


def resume_source(connection: Any, name: str, uuid: str) -> None:
    """Resume a domain, but only if it has that UUID and a migration left it paused."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not _is(domain, uuid) or has_job(domain):
        return
    if domain.state() == [libvirt.VIR_DOMAIN_PAUSED, PAUSED_FOR_MIGRATION]:
        domain.resume()


def pause_source(connection: Any, name: str, uuid: str) -> None:
    """Pause a domain that libvirt resumed because it treated the migration as failed."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not _is(domain, uuid):
        return
    if domain.state() == [libvirt.VIR_DOMAIN_RUNNING, RUNS_AFTER_CANCEL]:
        domain.suspend()


def pause_copy(connection: Any, name: str, uuid: str) -> None:
    """Pause a domain that runs beside another copy, which is the one to keep."""
    domain = find(connection, name)
    if domain is not None and _is(domain, uuid) and domain.state()[0] in RUNNING_STATES:
        domain.suspend()


def forget_inactive(connection: Any, name: str, uuid: str) -> bool:
    """Remove the definition of a domain, but only if it has that UUID, and is not active.

    Returns whether there was one.
    """
    domain = find(connection, name)
    if domain is None or domain.UUIDString() != uuid or domain.isActive():
        return False
    undefine(connection, name)
    return True


def _is(domain: Any, uuid: str) -> bool:
    return not uuid or domain.UUIDString() == uuid
