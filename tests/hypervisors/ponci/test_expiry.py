"""Tasks of ponci begin when they have the lock of their domain, unless their order has expired."""

import pytest

from fastlib import Repin, Resume, Start, Stop, Suspend
from fastlib.migfra import Context, TaskExpiredError
from fastlib.migfra.hypervisors.ponci.hypervisor import PonciHypervisor
from fastlib.migfra.hypervisors.ponci.mounts import V2Mount
from fastlib.migfra.hypervisors.ponci.options import PonciOptions
from fastlib.migfra.hypervisors.ponci.runtime import PonciRuntime
from fastlib.migfra.hypervisors.ponci.v2 import V2
from fastlib.migfra.plugin_api.expiry import Expiry
from fastlib.migfra.plugin_api.hypervisor import NodeContext, method_name
from fastlib.migfra.plugin_api.locks import NamedThreadLocks
from tests.support.clock import StoppedClock


@pytest.mark.parametrize(
    "task",
    [
        Start(vm_name="vm1"),
        Stop(vm_name="vm1"),
        Suspend(vm_name="vm1"),
        Resume(vm_name="vm1"),
        Repin(vm_name="vm1", vcpu_map=[[0]]),
    ],
    ids=lambda task: type(task).__name__,
)
def test_task_whose_order_has_expired_changes_nothing(tmp_path, task):
    hypervisor = PonciHypervisor(PonciOptions(), NodeContext("node01"))
    hierarchy = V2(V2Mount(tmp_path), ["migfra"])
    hypervisor._opened = PonciRuntime("node01", PonciOptions(), hierarchy, NamedThreadLocks())
    assert hypervisor.begins_itself
    context = Context("node01", expiry=Expiry(1000.0, clock=StoppedClock(1000.0)))
    with pytest.raises(TaskExpiredError):
        getattr(hypervisor, method_name(type(task)))(task, context)
    assert list(tmp_path.iterdir()) == []
    begun = Context("node01", expiry=Expiry(1001.0, clock=StoppedClock(1000.0)))
    with hypervisor._opened.exclusive("vm1", task, begun):
        assert begun.expiry.begun
