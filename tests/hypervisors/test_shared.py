"""Shared parts of the hypervisors: cancel scopes, locks, migration specs, results and pauses."""

import asyncio
import itertools
import threading

import pytest

from fastlib import (
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    SwapWith,
    TimeMeasurement,
)
from fastlib.migfra import Context, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.domain_results import domain_result
from fastlib.migfra.plugin_api.locks import NamedLocks, NamedThreadLocks
from fastlib.migfra.virt.evacuation import evacuation_spec, retry_pauses
from fastlib.migfra.virt.migration_spec import MigrationSpec

PATIENCE = 60

# Cancel scopes


def test_scope_ends_sleep_when_its_task_is_cancelled():
    async def main():
        cancellation = Cancellation()
        loop = asyncio.get_running_loop()
        with CancelScope(Context("a", cancellation=cancellation)) as scope:
            await scope.sleep(5)
            scope.check()
            loop.call_later(2, cancellation.cancel)
            with pytest.raises(TaskCancelledError, match=r"^cancelled$"):
                await scope.sleep(100)
            assert loop.time() == 7
            with pytest.raises(TaskCancelledError):
                await scope.sleep(100)  # it does not even begin
            scope.cancel("too late")
            assert (scope.cancelled, scope.reason) == (True, "cancelled")
            assert loop.time() == 7

    run_virtual(main())


def test_scope_without_context_is_cancelled_with_a_reason():
    async def main():
        with CancelScope() as scope:
            assert not scope.cancelled
            asyncio.get_running_loop().call_later(2, scope.cancel, "its partner failed")
            with pytest.raises(TaskCancelledError, match="its partner failed"):
                await scope.sleep(100)
            with pytest.raises(TaskCancelledError, match="its partner failed"):
                scope.check()

    run_virtual(main())


def test_wait_any_returns_at_the_first_event():
    async def main():
        loop = asyncio.get_running_loop()
        with CancelScope() as scope:
            await scope.wait_any(3)
            assert loop.time() == 3
            future = loop.create_future()
            loop.call_later(1, future.set_result, None)
            await scope.wait_any(100, future)
            assert loop.time() == 4
            pending = loop.create_future()
            cancelled = []

            async def other():
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.append(True)
                    raise

            loop.call_later(1, scope.cancel, "enough")
            await scope.wait_any(100, pending, other())
            assert loop.time() == 5
            assert cancelled == [True]  # a coroutine is cancelled at the end
            assert not pending.done()  # a future goes on

    run_virtual(main())


# Locks


def test_lock_is_held_by_one_task_for_each_name():
    async def main():
        locks, order = NamedLocks(), []

        async def work(name, number):
            with CancelScope() as scope:
                async with locks.hold(name, scope):
                    order.append(f"{name}{number} begins")
                    await asyncio.sleep(1)
                    order.append(f"{name}{number} ends")

        async with asyncio.TaskGroup() as group:
            for name, number in (("a", 1), ("a", 2), ("b", 1)):
                group.create_task(work(name, number))
        assert [each for each in order if each.startswith("a")] == [
            "a1 begins", "a1 ends", "a2 begins", "a2 ends",
        ]  # fmt: skip
        assert order.index("b1 begins") < order.index("a1 ends")
        assert (locks._locks, locks._wanted) == ({}, {})  # nothing is kept of them

    run_virtual(main())


def test_waiting_for_a_lock_ends_when_the_scope_is_cancelled():
    async def main():
        locks = NamedLocks()
        with CancelScope() as first, CancelScope() as second:
            async with locks.hold("a", first):
                asyncio.get_running_loop().call_later(1, second.cancel, "enough")
                with pytest.raises(TaskCancelledError, match="enough"):
                    async with locks.hold("a", second):
                        raise AssertionError
            async with locks.hold("a", first):  # it was released
                pass
            with pytest.raises(TaskCancelledError):
                async with locks.hold("a", second):
                    raise AssertionError
        assert (locks._locks, locks._wanted) == ({}, {})

    run_virtual(main())


def test_thread_lock_waits_for_the_holder():
    locks, order = NamedThreadLocks(), []
    waits = threading.Event()

    def second():
        waits.set()
        with locks.hold("a", Context("node01")):
            order.append("second")

    thread = threading.Thread(target=second)
    with locks.hold("a", Context("node01")):
        with locks.hold("b", Context("node01")):
            order.append("another name")
        thread.start()
        assert waits.wait(PATIENCE)
        order.append("first")
    thread.join(PATIENCE)
    assert order == ["another name", "first", "second"]


def test_waiting_for_a_thread_lock_ends_when_the_task_is_cancelled():
    locks, cancellation = NamedThreadLocks(), Cancellation()
    context = Context("node01", cancellation=cancellation)
    errors = []

    def second():
        try:
            with locks.hold("a", context):
                raise AssertionError
        except TaskCancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=second)
    with locks.hold("a", Context("node01")):
        thread.start()
        cancellation.cancel()
        thread.join(PATIENCE)
    assert len(errors) == 1
    with locks.hold("a", Context("node01")):
        pass


# Migration specs


def task(**parameter):
    return Migrate(
        vm_name="vm1", destination="node02", parameter=MigrateParameter(**parameter), driver="qemu"
    )


def test_spec_is_read_from_a_task():
    spec = MigrationSpec.from_task(
        task(vcpu_map=[[1]], pscom_hook_procs="3", transport="tcp", migration_type="live"), "node01"
    )
    assert (spec.name, spec.source, spec.destination) == ("vm1", "node01", "node02")
    assert (spec.kind, spec.transport, spec.driver) == ("live", "tcp", "qemu")
    assert (spec.vcpu_map, spec.pscom_hook_procs) == (((1,),), "3")
    assert (spec.timer, spec.check_room) == ("migrate", True)
    spec = MigrationSpec.from_task(Migrate(vm_name="vm1", destination="node02"), "node01")
    assert (spec.kind, spec.transport) == ("warm", None)
    with pytest.raises(HypervisorError, match="cannot be the name of a domain"):
        MigrationSpec.from_task(Migrate(vm_name="../vm1", destination="node02"), "node01")


def test_swap_makes_specs_of_both_domains():
    swap = task(swap_with=SwapWith(vm_name="vm2", vcpu_map=[[2]]), vcpu_map=[[1]])
    there, back = MigrationSpec.from_task(swap, "node01").swap_specs(swap)
    assert (there.name, there.source, there.destination) == ("vm1", "node01", "node02")
    assert (back.name, back.source, back.destination) == ("vm2", "node02", "node01")
    assert (there.vcpu_map, back.vcpu_map) == (((1,),), ((2,),))
    assert (there.timer, back.timer) == ("migrate-vm1", "migrate-vm2")
    assert not there.check_room
    assert not back.check_room


@pytest.mark.parametrize(
    ("partner", "options", "why"),
    [
        ("vm1", {}, "vm1 cannot be swapped with itself"),
        ("a/b", {}, "cannot be the name of a domain"),
    ],
)
def test_impossible_swap_is_refused(partner, options, why):
    swap = task(swap_with=SwapWith(vm_name=partner), **options)
    with pytest.raises(HypervisorError, match=why):
        MigrationSpec.from_task(swap, "node01").swap_specs(swap)


def test_evacuation_makes_specs_without_check_of_room():
    parameter = EvacuateParameter(pscom_hook_procs="auto", migration_type="live")
    evacuation = Evacuate(destinations=["b"], parameter=parameter, driver="qemu")
    spec = evacuation_spec(evacuation, "vm1", "a", "b")
    assert (spec.name, spec.source, spec.destination) == ("vm1", "a", "b")
    assert (spec.kind, spec.driver, spec.pscom_hook_procs) == ("live", "qemu", "auto")
    assert not spec.check_room
    assert evacuation_spec(Evacuate(destinations=["b"]), "vm1", "a", "b").kind == "warm"


def test_retry_pauses_double_up_to_their_limit():
    assert list(itertools.islice(retry_pauses(), 7)) == [1, 2, 4, 8, 16, 30, 30]


# Results


def test_domain_result_of_each_outcome():
    assert domain_result("vm1", None).status == "success"
    assert domain_result("vm1", None).details is None
    assert domain_result("vm1", "2").details == "2"
    failed = domain_result("vm1", HypervisorError("it broke"))
    assert (failed.vm_name, failed.status, failed.details) == ("vm1", "error", "it broke")
    with pytest.raises(ZeroDivisionError):
        domain_result("vm1", ZeroDivisionError())


def test_domain_result_has_the_measured_times():
    measurement = TimeMeasurement()
    with measurement.measure("overall"):
        pass
    assert "overall" in domain_result("vm1", None, measurement).time_measurement.timings
    assert domain_result("vm1", None, TimeMeasurement(enabled=False)).time_measurement is None
