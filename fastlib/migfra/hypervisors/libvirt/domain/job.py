"""Read, abort and adjust the job of libvirt that moves or saves a domain. The functions block."""

from typing import Any, Final

from fastlib.migfra.hypervisors.libvirt.connection.api import api

from .state import PAUSED_IN_POST_COPY

IN_POST_COPY: Final = "in post-copy"
"""A key that fastlib adds to libvirt's statistics."""


def abort(connection: Any, name: str) -> None:
    connection.lookupByName(name).abortJob()


def statistics(connection: Any, name: str) -> dict[str, Any]:
    libvirt = api()
    domain = connection.lookupByName(name)
    found: dict[str, Any] = domain.jobStats()
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED and reason in PAUSED_IN_POST_COPY:
        found[IN_POST_COPY] = True
    under_way = found.get("type") in (
        libvirt.VIR_DOMAIN_JOB_BOUNDED,
        libvirt.VIR_DOMAIN_JOB_UNBOUNDED,
    )
    return found if under_way else {}


def downtime(connection: Any, name: str) -> float | None:
    """Return the downtime of a domain that arrived on this host, in seconds."""
    found = connection.lookupByName(name).jobStats(api().VIR_DOMAIN_JOB_STATS_COMPLETED)
    milliseconds = found.get("downtime")
    return None if milliseconds is None else milliseconds / 1000


def set_downtime(connection: Any, name: str, seconds: float) -> None:
    """Set the longest downtime at the end of a migration."""
    connection.lookupByName(name).migrateSetMaxDowntime(max(1, round(seconds * 1000)), 0)


def pause(connection: Any, name: str) -> None:
    connection.lookupByName(name).suspend()


def start_post_copy(connection: Any, name: str) -> None:
    connection.lookupByName(name).migrateStartPostCopy(0)
