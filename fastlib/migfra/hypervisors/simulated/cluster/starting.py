"""The rules for a start: whether a domain may start, and as what. They need a transaction."""

import msgspec

from fastlib.message.numbers import CpuMap
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.precopy import KIB
from fastlib.migfra.virt.saved_state import Decision, SavedImage, StartOrder, decide

from .database import Database
from .tables import Domain


def check_start(
    database: Database, order: StartOrder, define: bool | None
) -> tuple[Domain, Decision]:
    """Return a domain before its start, and the decision about a saved image.

    Raises HypervisorError if it may not start on the host of the order.
    """
    name, row = order.name, database.find_domain(order.name)
    if row is None and define is None:
        raise HypervisorError(f"there is no domain {name} defined")
    if row is not None and row.active:
        raise HypervisorError(f"{name} is active on {row.host} already")
    if row is not None and row.migrating:
        raise HypervisorError(f"{name} is saved while another domain moves")
    if row is not None and define is False:
        raise HypervisorError(f"{name} is defined already, so it cannot be transient")
    image = None if row is None or not row.saved else _image(row)
    here = row is not None and row.host == order.host
    decision = decide(
        order, image if here else None, [] if row is None or image is None or here else [row.host]
    )
    if decision.action == "refuse":
        raise HypervisorError(str(decision.reason))
    new = Domain(name=name, host=order.host, state="shut off", vcpus=1, memory=1 << 20)
    return row or new, decision


def started(
    before: Domain,
    host: str,
    *,
    memory: int | None,
    vcpus: int | None,
    vcpu_map: CpuMap | None,
    define: bool | None,
) -> Domain:
    """Return a domain that runs on a host. None leaves a property as it was."""
    new = msgspec.structs.replace(
        before,
        host=host,
        state="running",
        memory=before.memory if memory is None else memory,
        vcpus=before.vcpus if vcpus is None else vcpus,
        vcpu_map=before.vcpu_map if vcpu_map is None else vcpu_map,
        persistent=before.persistent if define is None else define,
        saved=False,
    )
    if not new.working_set or memory is not None:
        whole = float(new.memory * KIB)
        new = msgspec.structs.replace(new, working_set=min(new.working_set or whole, whole))
    return new


def _image(domain: Domain) -> SavedImage:
    return SavedImage(
        memory=domain.memory,
        vcpus=domain.vcpus,
        pinning={i: frozenset(row) for i, row in enumerate(domain.vcpu_map or ())},
    )
