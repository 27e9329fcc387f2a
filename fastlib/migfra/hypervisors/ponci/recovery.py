"""How a task ended that was under way when the daemon was killed, by what the kernel shows now.

What was half done then is brought to an end, where the order was given already: a group that was
being killed or deleted goes, one that was being frozen is awaited, one that was being made is taken
back.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from fastlib.message import Repin, Resume, Start, Stop, Suspend, Task
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import Outcome

from .freezing import frozen
from .hierarchy import State
from .site import Site
from .start import Plan
from .stop import result_of, stop_one

DONE: Final = "found done after the daemon's restart"
_ENDED: Final = "the daemon ended while this was under way"


def recover(site: Site, task: Task, context: Context) -> Outcome:
    """How a task ended. Raises HypervisorError if it is not done."""
    if isinstance(task, Start):
        return _started(site, task, context)
    if isinstance(task, Stop) and task.vm_name is None:
        names = context.saved_state.get("names", ())
        if not names:
            raise HypervisorError("the daemon ended before the first domain was stopped")
        return [result_of(name, partial(_stopped, site, name, task, context)) for name in names]
    if isinstance(task, Stop):
        assert task.vm_name is not None
        return _stopped(site, task.vm_name, task, context)
    if isinstance(task, Suspend):
        with site.alone(task.vm_name, task, context):
            site.need(task.vm_name)
            if site.groups.state(task.vm_name) == "freezing":
                frozen(site, task.vm_name, context)
        return _found(site, task.vm_name, lambda state: state == "paused")
    if isinstance(task, Resume):
        return _found(site, task.vm_name, lambda state: state == "running")
    if isinstance(task, Repin):
        site.need(task.vm_name)
        if site.groups.sets(task.vm_name).cpus == site.cpus_of(task.vcpu_map):
            return DONE
        raise HypervisorError(f"{_ENDED}; {task.vm_name} is not pinned like that")
    raise HypervisorError(f"{_ENDED}; look at the domain")


def _started(site: Site, task: Start, context: Context) -> str:
    groups, plan = site.groups, Plan.of(task, site)
    if not context.saved_state.get("making"):
        raise HypervisorError(f"the daemon ended before {plan.name} was made")
    with site.alone(plan.name, task, context):
        if groups.exists(plan.name) and groups.is_ready(plan.name):
            sets = groups.sets(plan.name)
            if plan.cpus in (None, sets.cpus) and plan.nodes in (None, sets.nodes):
                return DONE
        groups.delete(plan.name)
    raise HypervisorError(f"{_ENDED}; what there was of {plan.name} is taken back: start it again")


def _stopped(site: Site, name: str, task: Stop, context: Context) -> str:
    groups = site.groups
    if not groups.exists(name):
        return DONE
    if name in context.saved_state.get("killed", ()) or not groups.is_ready(name):
        stop_one(site, name, task, context)
        return DONE
    raise HypervisorError(f"{_ENDED}; {name} {_words(site, name)} on {site.host}")


def _found(site: Site, name: str, done: Callable[[State], bool]) -> str:
    site.need(name)
    if done(site.groups.state(name)):
        return DONE
    raise HypervisorError(f"{_ENDED}; {name} {_words(site, name)} on {site.host}")


def _words(site: Site, name: str) -> str:
    """What a domain does, in words that go behind its name."""
    return {"running": "runs", "freezing": "is being frozen", "paused": "is paused"}[
        site.groups.state(name)
    ]
