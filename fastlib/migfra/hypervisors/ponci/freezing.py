"""Suspending a domain freezes all that runs in it, resuming thaws it."""

from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context

from .site import Site
from .waiting import until


def suspend(site: Site, name: str, context: Context) -> str | None:
    """Freeze a domain. What is worth telling, or None. Raises HypervisorError."""
    site.need(name)
    groups = site.groups
    if groups.state(name) == "paused" and groups.told_to_freeze(name):
        return f"{name} was paused already"
    site.refuse_own(name, "freeze")
    groups.check_freezable(name)
    context.check_cancelled()
    with context.measure(f"suspend-{name}"):
        groups.freeze(name)
        frozen(site, name, context)
    return None


def frozen(site: Site, name: str, context: Context) -> None:
    """Wait until a domain is frozen that was told to. If it does not come to that, it runs on.

    Raises HypervisorError if it takes too long, and TaskCancelledError.
    """
    groups = site.groups
    patience = site.options.freeze_timeout
    context.progress("freeze", vm_name=name)
    try:
        done = until(lambda: groups.state(name) == "paused", patience, context)
    except TaskCancelledError:
        groups.thaw(name)
        raise
    if not done:
        groups.thaw(name)
        raise HypervisorError(
            f"{name} has not frozen within {patience:g} s and runs on; one of its processes waits "
            "for a device or a file server (ps shows it in state D): look at that, or set a longer "
            "freeze-timeout"
        )


def resume(site: Site, name: str, context: Context) -> str | None:
    """Thaw a domain. What is worth telling, or None. Raises HypervisorError."""
    site.need(name)
    groups = site.groups
    if groups.state(name) == "running":
        return f"{name} was running already"
    context.check_cancelled()
    context.progress("thaw", vm_name=name)
    with context.measure(f"resume-{name}"):
        groups.thaw(name)
        if not until(lambda: groups.state(name) == "running", site.options.freeze_timeout, context):
            raise HypervisorError(
                f"{name} is thawed, but a group above {groups.parent / name} is frozen; thaw that"
            )
    return None
