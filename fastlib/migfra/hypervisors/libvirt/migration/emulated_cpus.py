"""Warn of live migrations in which QEMU may lose what an emulated CPU wrote.

During a live migration QEMU repeatedly reads which memory was written. QEMU before 9.0 does not
then reset the address cache (TLB) of an emulated CPU (TCG). So the CPU does not report its next
writes to pages in that cache, and QEMU does not send them. Linux in the domain may crash later.
QEMU's commit 03bfc2188f, "Fix migration dirty bitmap coherency with TCG memory access", fixes this.
In migrations with virsh and QEMU 7.2, 15 of 35 guests crashed with `max-downtime: 1`, and none of
18 with 300. Domains with KVM are not affected, nor are migrations that pause the domain.
"""

from typing import Any, Final

from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse
from fastlib.migfra.plugin_api.context import Context

COHERENT_SINCE: Final = 9_000_000
"""The first version of QEMU that loses no writes, as libvirt's number."""


async def warn_of_lost_writes(
    source: Connection, name: str, version: int, context: Context
) -> None:
    """Log a warning if a domain is emulated by a QEMU that may lose writes in a live migration.

    The domain must be active, and its hypervisor QEMU. `version` is that of the source's QEMU.
    """
    if version < COHERENT_SINCE and await source.call(_is_emulated, name):
        context.log.warning(
            "%s is emulated on %s (without KVM) by a QEMU older than 9.0, which may lose memory in "
            "a live migration; use migration-type: warm, KVM, or QEMU 9.0 or newer",
            name,
            source.host,
        )


def _is_emulated(connection: Any, name: str) -> bool:
    return parse(str(connection.lookupByName(name).XMLDesc(0))).get("type") == "qemu"
