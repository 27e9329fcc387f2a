"""The dummy: every task succeeds, or every task fails."""

import asyncio

import pytest

from fastlib import Evacuate, Migrate, Repin, Resume, Start, Stop, Suspend, ValidationError
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.dummy import DummyHypervisor, DummyOptions
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import NodeContext, supported

TASKS = [
    Start(vm_name="vm1"),
    Stop(regex="("),
    Suspend(vm_name="vm1"),
    Resume(vm_name="vm1"),
    Repin(vm_name="vm1", vcpu_map=[[0]]),
    Migrate(vm_name="vm1", destination="nowhere"),
    Evacuate(destinations=[]),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.declaration.task)
def test_every_task_succeeds_or_fails_by_option(task):
    method = type(task).__name__.lower()
    calm = DummyHypervisor(DummyOptions.from_yaml("never-throw: true"), NodeContext("a"))
    assert asyncio.run(getattr(calm, method)(task, Context("a"))) is None
    assert asyncio.run(calm.recover(task, Context("a"))) is None
    assert task.declaration.task in supported(calm)
    failing = DummyHypervisor(DummyOptions.from_yaml("never-throw: false"), NodeContext("a"))
    with pytest.raises(HypervisorError, match=rf"fails each task, {task.declaration.task} as well"):
        asyncio.run(getattr(failing, method)(task, Context("a")))


def test_invalid_option_is_refused():
    assert DummyOptions().never_throw
    with pytest.raises(ValidationError, match="never-throw"):
        DummyOptions.from_yaml("never-throw: maybe")
