"""Recover after a crash of the daemon: find out from the kernel how an interrupted task ended.

Recovery completes a killing, a deletion or a freeze that had begun. It removes a group that was
being made.

A cancelled task is recovered too, because its answer must state what the domain does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from fastlib.message import Repin, Resume, Start, Stop, Suspend, Task
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Outcome

from .decisions import freezes, state_of
from .domain_view import DomainView
from .freezing import wait_until_frozen
from .inspection import inspect
from .processes import describe_processes
from .runtime import PonciRuntime
from .start import StartSpec
from .stop import result_of, stop_held

DONE: Final = "found done after the daemon's restart"
_INTERRUPTED: Final = "the daemon ended while this was in progress"


def recover(runtime: PonciRuntime, task: Task, context: Context) -> Outcome:
    """Return the outcome of an interrupted task. Raises HypervisorError if it is not done."""
    if isinstance(task, Start):
        return _recover_start(runtime, task, context)
    if isinstance(task, Stop) and task.vm_name is None:
        names = context.saved_state.get("names", ())
        if not names:
            raise HypervisorError("the daemon ended before the first domain was stopped")
        return [
            result_of(name, partial(_recover_stop, runtime, name, task, context)) for name in names
        ]
    if isinstance(task, Stop):
        assert task.vm_name is not None
        return _recover_stop(runtime, task.vm_name, task, context)
    if isinstance(task, Suspend):
        return _recover_suspend(runtime, task.vm_name, task, context)
    if isinstance(task, Resume):
        return _check(runtime, task.vm_name, lambda view: not freezes(view))
    if isinstance(task, Repin):
        runtime.check_exists(task.vm_name)
        if runtime.hierarchy.sets(task.vm_name).cpus == runtime.cpus_of(task.vcpu_map):
            return DONE
        raise HypervisorError(f"{_INTERRUPTED}; {task.vm_name} is not pinned according to the task")
    raise HypervisorError(f"{_INTERRUPTED}; check the domain")


def _recover_start(runtime: PonciRuntime, task: Start, context: Context) -> str:
    hierarchy, spec = runtime.hierarchy, StartSpec.of(task, runtime)
    if not context.saved_state.get("making"):
        raise HypervisorError(f"the daemon ended before {spec.name} was made")
    with _held(runtime, spec.name, task):
        view = inspect(hierarchy, spec.name)
        if view.there and not view.missing and not view.defect:
            sets = hierarchy.sets(spec.name)
            if spec.cpus in (None, sets.cpus) and spec.nodes in (None, sets.nodes):
                return DONE
        if view.processes:
            raise HypervisorError(
                f"{_INTERRUPTED}; {spec.name} does not match the order, and it has "
                f"{describe_processes(view.processes)}: end them, stop it and start it again"
            )
        hierarchy.delete(spec.name)
    raise HypervisorError(f"{_INTERRUPTED}; the incomplete {spec.name} was removed: start it again")


def _recover_suspend(runtime: PonciRuntime, name: str, task: Suspend, context: Context) -> str:
    with _held(runtime, name, task):
        view = runtime.view(name)
        if view.is_requested and not view.is_frozen:
            try:
                wait_until_frozen(runtime, name, context)
            except TaskCancelledError as error:
                raise _with_state(error, runtime, name) from error
        return _check(runtime, name, lambda view: view.is_requested and view.is_frozen)


def _recover_stop(runtime: PonciRuntime, name: str, task: Stop, context: Context) -> str:
    with _held(runtime, name, task):
        view = inspect(runtime.hierarchy, name)
        if not view.there:
            return DONE
        if name in context.saved_state.get("killed", ()) or view.missing or view.defect:
            try:
                stop_held(runtime, name, task, context)
            except TaskCancelledError as error:
                if not inspect(runtime.hierarchy, name).there:
                    return DONE
                raise _with_state(error, runtime, name) from error
            return DONE
    raise HypervisorError(f"{_INTERRUPTED}; {name} {_phrase(view)} on {runtime.host}")


@contextmanager
def _held(runtime: PonciRuntime, name: str, task: Task) -> Iterator[None]:
    """Hold the lock of a domain. A cancelled task also waits for it."""
    never_cancelled = Context(runtime.host)
    with runtime.exclusive(name, task, never_cancelled):
        yield


def _with_state(error: TaskCancelledError, runtime: PonciRuntime, name: str) -> TaskCancelledError:
    """Return the error of a cancelled task with the state of the domain added."""
    view = inspect(runtime.hierarchy, name)
    does = _phrase(view) if view.there else "is gone"
    return TaskCancelledError(f"{error}; {name} {does} on {runtime.host}")


def _check(runtime: PonciRuntime, name: str, done: Callable[[DomainView], bool]) -> str:
    view = runtime.view(name)
    if done(view):
        return DONE
    raise HypervisorError(f"{_INTERRUPTED}; {name} {_phrase(view)} on {runtime.host}")


def _phrase(view: DomainView) -> str:
    """Return the state of a domain as the phrase that follows its name."""
    return {
        "running": "runs",
        "freezing": "is being frozen",
        "paused": "is paused",
        "partly paused": "is paused in part",
        "incomplete": "is incomplete",
    }[state_of(view)]
