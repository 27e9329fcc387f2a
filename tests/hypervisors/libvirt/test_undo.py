"""The undo after a failure: its steps, their order, and the text of the error."""

import asyncio

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import Context, FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.config.sections import RetrySection
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.migration import migration
from fastlib.migfra.hypervisors.libvirt.migration.migration import Migration
from fastlib.migfra.hypervisors.libvirt.migration.pscom import Pscom
from fastlib.migfra.hypervisors.libvirt.tasks.undo import Undo
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import PAUSED, FakeSnapshot, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.pci_devices import (
    FIRST,
    HOSTDEV,
    SECOND,
    SHMEM,
    attach_to_other_domain,
    host_addresses,
    host_with_devices,
)
from tests.support.migfra.bench import Bench
from tests.support.migfra.scripted import Scripted
from tests.support.virtual_time import run_bounded

# Steps


def test_undo_runs_steps_in_reverse_order():
    done = []

    async def step(what, error=None):
        done.append(what)
        if error is not None:
            raise error

    undo = Undo(Context("node01"))
    undo.add("forget it", lambda: step("first"))
    undo.add("detach it", lambda: step("second", HypervisorError("it is busy")))
    undo.add("end it", lambda: step("third", ZeroDivisionError("by zero")))
    undo.add("let it go", lambda: step("fourth"))
    assert asyncio.run(undo.all()) == [
        "could not end it: ZeroDivisionError: by zero",
        "could not detach it: it is busy",
    ]
    assert done == ["fourth", "third", "second", "first"]
    assert asyncio.run(undo.all()) == []  # nothing is taken back twice
    assert len(done) == 4


# A migration


class Undoing(FakeHosts):
    """A migration of a domain with devices, shared memory and pscom processes."""

    def __init__(self, **parameter):
        super().__init__()
        host = host_with_devices(FIRST, SECOND)
        self.source.node_devices = host.node_devices
        self.destination.node_devices = host.node_devices
        self.domain.devices = [HOSTDEV, HOSTDEV.replace("'0x1'", "'0x2'"), SHMEM]
        self.domain.starts_with_host = True
        parameter = {"pscom_hook_procs": "3", "migration_type": "live", **parameter}
        task = Migrate(vm_name="vm1", destination="node02", parameter=MigrateParameter(**parameter))
        self.scope = CancelScope(self.context)
        spec = MigrationSpec.from_task(task, self.runtime.host)
        self.migration = Migration(
            self.runtime, spec, self.scope, self.context,
            self.context.measurement,
        )  # fmt: skip

    async def failed(self, kind=HypervisorError):
        """Return the text of the error with which a migration ends."""
        with pytest.raises(HypervisorError) as caught, self.scope:
            await self.migration.run()
        assert type(caught.value) is kind
        return str(caught.value)


BACK = ["node01: attach shared", f"node01: attach {FIRST}", f"node01: attach {SECOND}"]
"""The kind that was detached last comes first, each kind in its own order."""


@pytest.fixture
def run_scenario(monkeypatch):
    """Run a scenario with a migration. The scenario has its pscom processes and its move."""

    def run_scenario(scenario, **parameter):
        async def main():
            undoing = Undoing(**parameter)
            undoing.pscom, undoing.move = {}, None

            async def answer(self, what):
                undoing.calls.append(f"pscom {what}")
                if what in undoing.pscom:
                    raise undoing.pscom[what]

            async def run(runtime, spec, order, scope, context):
                undoing.calls.append("move")
                await undoing.move()

            monkeypatch.setattr(Pscom, "suspend", lambda self, scope: answer(self, "suspend"))
            monkeypatch.setattr(Pscom, "resume", lambda self: answer(self, "resume"))
            monkeypatch.setattr(migration, "run_migration", run)
            await scenario(undoing)

        run_bounded(main())

    return run_scenario


def raising(error):
    async def move():
        raise error

    return move


def test_failed_move_reattaches_devices_and_resumes_pscom(run_scenario):
    async def scenario(undoing):
        undoing.move = raising(HypervisorError("no route to node02"))
        assert await undoing.failed() == (
            "vm1 did not migrate to node02: no route to node02; vm1 runs on node01"
        )
        assert undoing.calls == ["pscom suspend", "move", *BACK, "pscom resume"]
        state = undoing.migration.record.state
        assert (state.detached, state.pscom) == ((), 0)
        assert undoing.phases == ["check", "prepare", "migrate", "undo"]

    run_scenario(scenario)


def test_failed_move_restores_the_records_of_snapshots(run_scenario):
    async def scenario(undoing):
        domain = undoing.domain
        domain.snapshots = [FakeSnapshot(domain, "first"), FakeSnapshot(domain, "second", True)]

        async def move():
            assert domain.snapshots == []
            raise HypervisorError("no route to node02")

        undoing.move = move
        assert await undoing.failed() == (
            "vm1 did not migrate to node02: no route to node02; vm1 runs on node01"
        )
        assert [(each.getName(), each.isCurrent()) for each in domain.snapshots] == [
            ("first", 0),
            ("second", 1),
        ]
        assert undoing.migration.record.state.snapshots == ()

    run_scenario(scenario)


def test_records_of_snapshots_that_cannot_be_restored_are_named(run_scenario):
    async def scenario(undoing):
        undoing.domain.snapshots = [FakeSnapshot(undoing.domain, "first", True)]
        undoing.domain.refuses["snapshot"] = refusal("OPERATION_FAILED", "the disk is full")
        undoing.move = raising(HypervisorError("no route to node02"))
        failed = await undoing.failed()
        assert "could not restore libvirt's records of its snapshots, which the images" in failed
        assert "still have: first: " in failed
        assert "the disk is full" in failed

    run_scenario(scenario)


def test_failed_move_resets_downtime(run_scenario):
    async def scenario(undoing):
        undoing.move = raising(HypervisorError("no route to node02"))
        await undoing.failed()
        assert [what for what in undoing.calls if "downtime" in what] == [
            "node01: downtime 100", "node01: downtime 300",
        ]  # fmt: skip

    run_scenario(scenario, max_downtime=100)


def test_failed_move_resumes_domain_that_it_paused(run_scenario):
    async def scenario(undoing):
        async def paused():
            undoing.domain.state_now = [PAUSED, 1]
            raise HypervisorError("not finished")

        undoing.move = paused
        assert (await undoing.failed()).endswith("; vm1 runs on node01")
        assert undoing.calls == [
            "pscom suspend", "move", "node01: resume", *BACK, "pscom resume",
        ]  # fmt: skip

    run_scenario(scenario)


def test_failed_move_keeps_domain_paused_that_was_paused(run_scenario):
    async def scenario(undoing):
        undoing.domain.state_now = [PAUSED, 1]
        undoing.move = raising(HypervisorError("not finished"))
        assert (await undoing.failed()).endswith("; vm1 is paused on node01")
        assert "node01: resume" not in undoing.calls

    run_scenario(scenario)


def test_undo_reports_failures_and_continues(run_scenario):
    async def scenario(undoing):
        undoing.domain.refuses["attach"] = refusal("INTERNAL_ERROR", "no")
        undoing.pscom["resume"] = HypervisorError("2 of 3 have answered")
        undoing.move = raising(HypervisorError("no route"))
        *_, runs, shared, first, second, pscom = (await undoing.failed()).split("; ")
        assert runs == "vm1 runs on node01"
        assert shared.startswith("could not reattach a ivshmem device: libvirt on node01: no")
        assert first.startswith("could not reattach a pci device: no PCI device 0x15b3:0x1004")
        assert second.startswith("could not reattach a pci device: no PCI device 0x15b3:0x1004")
        assert pscom == "could not resume pscom: 2 of 3 have answered"

    run_scenario(scenario)


def test_undo_reports_device_that_another_domain_took(run_scenario):
    """Another domain has taken the first device. The second one keeps its place."""

    async def scenario(undoing):
        async def taken():
            attach_to_other_domain(undoing.source, "vm2", FIRST)
            raise HypervisorError("no route")

        undoing.move = taken
        text = await undoing.failed()
        assert text.endswith(
            "; could not reattach a pci device: node01 has no free PCI device 0x15b3:0x1004: "
            "they are in use by vm2"
        )
        assert host_addresses(undoing.domain) == [SECOND]

    run_scenario(scenario)


def test_failed_prepare_undoes_only_its_steps(run_scenario):
    async def scenario(undoing):
        undoing.pscom["suspend"] = HypervisorError("0 of 3 have answered")
        assert await undoing.failed() == (
            "vm1 did not migrate to node02: 0 of 3 have answered; vm1 runs on node01"
        )
        assert undoing.calls == ["pscom suspend", "pscom resume"]

    run_scenario(scenario)


def test_failed_check_undoes_nothing(run_scenario):
    async def scenario(undoing):
        undoing.destination.kind = "Xen"
        assert await undoing.failed() == (
            "vm1 did not migrate to node02: node01 has the hypervisor QEMU, node02 has Xen"
        )
        assert undoing.calls == []

    run_scenario(scenario)


def test_cancelled_move_raises_task_cancelled(run_scenario):
    async def scenario(undoing):
        undoing.move = raising(TaskCancelledError())
        assert await undoing.failed(TaskCancelledError) == "cancelled; vm1 runs on node01"
        assert undoing.calls == ["pscom suspend", "move", *BACK, "pscom resume"]

    run_scenario(scenario)


def test_unexpected_error_is_undone(run_scenario):
    async def scenario(undoing):
        undoing.move = raising(ZeroDivisionError("by zero"))
        assert await undoing.failed() == (
            "vm1 did not migrate to node02: ZeroDivisionError: by zero; vm1 runs on node01"
        )
        assert undoing.calls == ["pscom suspend", "move", *BACK, "pscom resume"]

    run_scenario(scenario)


def test_domain_that_may_run_elsewhere_is_not_touched(run_scenario):
    async def scenario(undoing):
        async def gone():
            undoing.source.is_there = False
            raise HypervisorError("libvirt does not answer")

        undoing.move = gone
        text = await undoing.failed(FinalError)
        assert "it is not certain where vm1 runs: libvirt on node01 cannot be queried" in text
        assert undoing.calls == ["pscom suspend", "move"]

    run_scenario(scenario)


def test_problems_after_arrival_are_reported_and_not_undone(run_scenario):
    async def scenario(undoing):
        async def moved():
            undoing.destination.add(undoing.source.domains.pop("vm1"))
            undoing.destination.node_devices = []  # they have gone since the check

        undoing.move = moved
        text = await undoing.failed(ArrivedError)
        assert text.startswith(
            "vm1 runs on node02, but could not reattach a pci device: node02 has"
        )
        assert text.count("it has none at all") == 2
        assert undoing.calls == [
            "pscom suspend", "move", "node02: autostart 1", "node02: attach shared",
            "pscom resume",
        ]  # fmt: skip

    run_scenario(scenario)


def test_migration_is_refused_when_no_device_can_replace_its_own(run_scenario):
    async def scenario(undoing):
        undoing.destination.node_devices = undoing.source.node_devices[:1]  # two are needed
        assert await undoing.failed() == (
            "vm1 did not migrate to node02: node02 has no free PCI device 0x15b3:0x1004: all of "
            "its 1 are requested already"
        )
        assert undoing.calls == []

    run_scenario(scenario)


# Trying again


@pytest.mark.parametrize(
    ("kind", "tries"),
    [(HypervisorError, 3), (FinalError, 1), (ArrivedError, 1), (TaskCancelledError, 1)],
)
def test_daemon_retries_only_errors_that_allow_it(tmp_path, kind, tries):

    async def main():
        async with Bench(tmp_path) as bench:
            hypervisor = Scripted()

            def plan(context):
                raise kind("it went wrong")

            hypervisor.plan["vm1"] = plan
            await bench.daemon(hypervisor, retry=RetrySection(first=0.001, longest=0.002))
            parameter = MigrateParameter(retry_counter=2)
            answer = await bench.ask(
                Migrate(vm_name="vm1", destination="node02", parameter=parameter)
            )
            (result,) = answer.results
            assert (result.status, result.details) == ("error", "it went wrong")
            assert [context.attempt for context in hypervisor.contexts] == list(range(tries))

    asyncio.run(main())
