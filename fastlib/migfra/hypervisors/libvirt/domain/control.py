"""Change a domain: pause, resume, destroy, undefine. The functions block."""

from typing import Any, Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.errors import is_unknown_flag

from .state import PAUSED_FOR_MIGRATION, PAUSED_IN_POST_COPY, RUNNING_STATES, find

_KEEP_TPM: Final = 1 << 6
"""libvirt's `VIR_DOMAIN_UNDEFINE_KEEP_TPM`, which older versions of its Python package lack."""


def suspend(connection: Any, name: str) -> bool:
    """Pause a domain. Returns False if it was paused already."""
    domain = active_domain(connection, name)
    if domain.state()[0] == api().VIR_DOMAIN_PAUSED:
        return False
    domain.suspend()
    return True


def resume(connection: Any, name: str) -> bool:
    """Resume a paused domain. Returns False if it ran already.

    Raises HypervisorError for a domain that is paused after a migration: it may run on the other
    host. libvirt gives the same reason for a paused domain that was restored from its saved image.
    """
    domain = active_domain(connection, name)
    state, reason = domain.state()
    if state in RUNNING_STATES:
        return False
    if state == api().VIR_DOMAIN_PAUSED and (
        reason == PAUSED_FOR_MIGRATION or reason in PAUSED_IN_POST_COPY
    ):
        raise HypervisorError(
            f"{name} is paused on {connection.getHostname()} after a migration or a restore that "
            "did not end, and may run on another host; if it does not, resume it with virsh "
            "resume, else destroy it here"
        )
    _wake(domain)
    return True


def ensure_running(connection: Any, name: str) -> None:
    """Resume a domain, for whatever reason it is paused.

    The caller must know that it does not run on another host.
    """
    domain = active_domain(connection, name)
    if domain.state()[0] not in RUNNING_STATES:
        _wake(domain)


def _wake(domain: Any) -> None:
    if domain.state()[0] == api().VIR_DOMAIN_PMSUSPENDED:
        domain.pMWakeup(0)
    else:
        domain.resume()


def destroy(connection: Any, name: str) -> bool:
    """End a domain at once. Returns False if it had ended already."""
    domain = find(connection, name)
    if domain is None or not domain.isActive():
        return False
    domain.destroy()
    return True


def set_autostart(connection: Any, name: str) -> None:
    """Let libvirt start a domain whenever its host starts."""
    connection.lookupByName(name).setAutostart(1)


def undefine(connection: Any, name: str) -> None:
    """Remove a domain's definition, with everything that libvirt keeps of it.

    The variables of its firmware and the state of its TPM stay: on shared storage they may be
    those of a running domain.
    """
    libvirt = api()
    domain = find(connection, name)
    if domain is None or not domain.isPersistent():
        return
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
    )
    try:
        try:
            domain.undefineFlags(flags | _KEEP_TPM)
        except libvirt.libvirtError as error:
            if not is_unknown_flag(error, _KEEP_TPM):
                raise
            domain.undefineFlags(flags)  # before libvirt 8.9
    except libvirt.libvirtError as error:
        if error.get_error_code() not in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        domain.undefine()  # a driver that keeps the definition only


def active_domain(connection: Any, name: str) -> Any:
    """Return the domain. Raises HypervisorError if it is not active."""
    domain = connection.lookupByName(name)
    if not domain.isActive():
        raise HypervisorError(
            f"{name} is not running on {connection.getHostname()}, it is shut off; start it first"
        )
    return domain
