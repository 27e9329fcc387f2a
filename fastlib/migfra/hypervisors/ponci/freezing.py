"""The tasks `suspend vm` and `resume vm`: freeze and thaw a group."""

from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context

from .runtime import PonciRuntime
from .waiting import wait_until


def suspend(runtime: PonciRuntime, name: str, context: Context) -> str | None:
    """Freeze a domain. What is worth telling, or None. Raises HypervisorError."""
    runtime.check_exists(name)
    hierarchy = runtime.hierarchy
    if hierarchy.state(name) == "paused" and hierarchy.is_freeze_requested(name):
        return f"{name} was paused already"
    runtime.check_not_own(name, "freeze")
    hierarchy.check_freezable(name)
    context.check_cancelled()
    with context.measure(f"suspend-{name}"):
        hierarchy.freeze(name)
        wait_until_frozen(runtime, name, context)
    return None


def wait_until_frozen(runtime: PonciRuntime, name: str, context: Context) -> None:
    """Wait until a domain has frozen. After a timeout or a cancellation it is thawed.

    Raises HypervisorError if it takes too long, and TaskCancelledError.
    """
    hierarchy = runtime.hierarchy
    patience = runtime.options.freeze_timeout
    context.progress("freeze", vm_name=name)
    try:
        done = wait_until(lambda: hierarchy.state(name) == "paused", patience, context)
    except TaskCancelledError:
        hierarchy.thaw(name)
        raise
    if not done:
        hierarchy.thaw(name)
        raise HypervisorError(
            f"{name} has not frozen within {patience:g} s and runs on; one of its processes waits "
            "for a device or a file server (ps shows it in state D): look at that, or set a longer "
            "freeze-timeout"
        )


def resume(runtime: PonciRuntime, name: str, context: Context) -> str | None:
    """Thaw a domain. What is worth telling, or None. Raises HypervisorError."""
    runtime.check_exists(name)
    hierarchy = runtime.hierarchy
    if hierarchy.state(name) == "running":
        return f"{name} was running already"
    context.check_cancelled()
    context.progress("thaw", vm_name=name)
    with context.measure(f"resume-{name}"):
        hierarchy.thaw(name)
        if not wait_until(
            lambda: hierarchy.state(name) == "running", runtime.options.freeze_timeout, context
        ):
            raise HypervisorError(
                f"{name} is thawed, but a group above {hierarchy.parent / name} is frozen; "
                "thaw that"
            )
    return None
