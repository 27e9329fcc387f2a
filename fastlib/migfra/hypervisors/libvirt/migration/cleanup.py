"""Remove the remains of a migration from a host. The functions block.

Each reads the domain's state again just before it acts.
"""

from collections.abc import Collection
from typing import Any

from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.control import undefine
from fastlib.migfra.hypervisors.libvirt.domain.state import (
    PAUSED_FOR_MIGRATION,
    RUNS_AFTER_CANCEL,
    find,
    has_job,
)


def destroy_copy(connection: Any, name: str, uuid: str, reasons: Collection[int]) -> None:
    """End a domain, but only if it has that UUID, and is paused for one of these reasons."""
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not _is(domain, uuid):
        return
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED and reason in reasons:
        domain.destroy()


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
