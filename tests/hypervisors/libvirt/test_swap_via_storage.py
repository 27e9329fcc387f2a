"""A domain that moves by a file. It is not restored if it may have run since.

The hosts are fakes (see fake_libvirt.py) and time is virtual; the file is a real one.
"""

import asyncio
from pathlib import Path

import msgspec
import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.libvirt.errors import ArrivedError
from fastlib.migfra.hypervisors.libvirt.migration.swap_via_storage import MigrationViaStorage
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts


def broken():
    return refusal("OPERATION_FAILED", "cannot read the file")


class Storing(FakeHosts):
    """A migration of vm1 by a file."""

    def __init__(self, path, *, persistent=True, was_running=True, **parameter):
        super().__init__()
        self.path = path / "vm1.save"
        self.domain.persistent = persistent
        if not was_running:
            self.domain.state_now = [PAUSED, 1]
        task = Migrate(
            vm_name="vm1",
            destination="node02",
            parameter=MigrateParameter(migration_type="live", **parameter),
        )
        self.scope = CancelScope(self.context)
        spec = MigrationSpec.from_task(task, self.runtime.host)
        self.migration = MigrationViaStorage(
            self.runtime, spec, self.scope, self.context,
            self.context.measurement,
        )  # fmt: skip
        record = self.migration.record
        record.state = msgspec.structs.replace(record.state, was_running=was_running)

    async def save(self):
        await self.migration.save(str(self.path))

    @property
    def state(self):
        return self.migration.record.state

    def forget(self):
        self.calls.clear()


def run_scenario(scenario, path, **parameter):
    async def main():
        storing = Storing(path, **parameter)
        with storing.scope:
            await scenario(storing)

    run_virtual(main())


@pytest.mark.parametrize("persistent", [True, False])
def test_domain_is_saved_and_restored_on_destination(tmp_path, persistent):
    async def scenario(storing):
        await storing.save()
        assert storing.path.exists()
        assert (storing.state.phase, storing.state.path) == ("saved", str(storing.path))
        await storing.migration.restore_on_destination()
        defining = ["node02: define", "node01: undefine"] if persistent else []
        assert storing.calls == ["node01: save", "node02: restore", *defining]
        assert storing.destination.domains["vm1"].state()[0] == RUNNING
        assert "vm1" not in storing.source.domains
        assert not storing.path.exists()
        assert storing.state.path is None

    run_scenario(scenario, tmp_path, persistent=persistent)


def test_paused_domain_is_restored_paused(tmp_path):
    async def scenario(storing):
        await storing.save()
        await storing.migration.restore_on_destination()
        assert storing.destination.domains["vm1"].state()[0] == PAUSED

    run_scenario(scenario, tmp_path, was_running=False)


def test_domain_is_restored_with_its_cpus_and_memory_nodes(tmp_path):
    async def scenario(storing):
        storing.migration.record.save(arrives_by_xml=True)
        await storing.save()
        assert storing.state.xml.count('<vcpupin vcpu="1" cpuset="2,3" />') == 1
        await storing.migration.restore_on_destination()
        assert storing.calls == [
            *("node01: save", "node02: restore", "node02: define", "node01: undefine"),
        ]
        xml = storing.destination.domains["vm1"].XMLDesc()
        assert '<vcpupin vcpu="0" cpuset="1" /><vcpupin vcpu="1" cpuset="2,3" />' in xml
        assert '<numatune><memory mode="strict" nodeset="1" /></numatune>' in xml

    run_scenario(scenario, tmp_path, vcpu_map=[[1], [2, 3]], memnode_map=[[1]])


def test_domain_that_goes_back_keeps_the_cpus_of_its_source(tmp_path):
    async def scenario(storing):
        storing.migration.record.save(arrives_by_xml=True)
        await storing.save()
        await storing.migration.restore_on_source()
        assert "vcpupin" not in storing.source.domains["vm1"].XMLDesc()

    run_scenario(scenario, tmp_path, vcpu_map=[[1], [2, 3]])


def test_domain_of_another_hypervisor_is_pinned_before_it_runs(tmp_path):
    async def scenario(storing):
        storing.migration.record.save(arrives_paused=True)
        await storing.save()
        storing.forget()
        await storing.migration.restore_on_destination()
        assert storing.calls[0] == "node02: restore"
        assert storing.calls[-3:] == ["node02: pin 0:1", "node02: pin 1:2,3", "node02: resume"]

    run_scenario(scenario, tmp_path, vcpu_map=[[1], [2, 3]])


def test_domain_is_restored_on_source(tmp_path):
    async def scenario(storing):
        await storing.save()
        assert await storing.migration.restore_on_source() == ["vm1 runs on node01"]
        assert storing.calls == ["node01: save", "node01: restore"]
        assert not storing.path.exists()

    run_scenario(scenario, tmp_path)


# Saving


def test_existing_file_is_not_overwritten(tmp_path):
    async def scenario(storing):
        storing.path.write_text("somebody's memory")
        with pytest.raises(HypervisorError) as caught:
            await storing.migration.check_path(str(storing.path))
        assert str(caught.value) == (
            f"the file {storing.path} exists already, and may be the memory of a domain that was "
            "not restored; move it away"
        )
        assert storing.path.read_text() == "somebody's memory"
        assert storing.calls == []
        assert storing.domain.state()[0] == RUNNING

    run_scenario(scenario, tmp_path)


def test_failed_save_leaves_domain_on_source(tmp_path):
    async def scenario(storing):
        storing.domain.refuses["save"] = refusal("OPERATION_FAILED", "no space left")
        with pytest.raises(HypervisorError) as caught:
            await storing.save()
        assert not isinstance(caught.value, FinalError)
        assert "no space left" in str(caught.value)
        assert str(caught.value).endswith("; vm1 runs on node01")
        assert "restore" not in "".join(storing.calls)

    run_scenario(scenario, tmp_path)


def test_incomplete_file_does_not_count_as_saved(tmp_path):
    async def scenario(storing):
        def half():
            storing.path.write_text("half")
            raise refusal("OPERATION_ABORTED", "canceled by client")

        storing.domain.on["save"] = half
        with pytest.raises(HypervisorError, match=r"canceled by client.*; vm1 runs on node01"):
            await storing.save()
        assert storing.calls == ["node01: save"]

    run_scenario(scenario, tmp_path)


@pytest.mark.parametrize("cancelled", [False, True])
def test_save_counts_when_call_failed_but_domain_is_saved(tmp_path, cancelled):
    async def scenario(storing):
        def lost():
            storing.path.write_text("vm1")
            storing.domain.state_now = [SHUT_OFF, 5]
            if cancelled:
                raise TaskCancelledError
            raise refusal("SYSTEM_ERROR", "Cannot recv data: Input/output error")

        storing.domain.on["save"] = lost
        if not cancelled:
            await storing.save()
            assert storing.state.phase == "saved"
            return
        with pytest.raises(TaskCancelledError) as caught:
            await storing.save()
        assert str(caught.value) == "cancelled; vm1 runs on node01"
        assert storing.calls == ["node01: save", "node01: restore"]

    run_scenario(scenario, tmp_path)


def test_save_that_ends_after_the_lost_connection_counts(tmp_path):
    """A libvirtd that stood still goes on with the call when the daemon asks it."""

    async def scenario(storing):
        def lost():
            storing.path.write_text("vm1")
            asyncio.get_running_loop().call_later(1.0, end)
            raise refusal("SYSTEM_ERROR", "Cannot recv data: Input/output error")

        def end():
            storing.domain.state_now = [SHUT_OFF, 5]

        storing.domain.on["save"] = lost
        await storing.save()
        assert storing.state.phase == "saved"
        assert storing.calls == ["node01: save"]

    run_scenario(scenario, tmp_path)


@pytest.mark.parametrize("cancelled", [False, True])
def test_error_names_file_when_the_source_is_silent_during_the_save(tmp_path, cancelled):
    """The domain may be in the file, and nobody restores it then."""

    async def scenario(storing):
        def silent():
            storing.path.write_text("vm1")
            storing.source.is_there = False
            raise TaskCancelledError if cancelled else refusal("SYSTEM_ERROR", "Cannot recv data")

        storing.domain.on["save"] = silent
        with pytest.raises(FinalError) as caught:
            await storing.save()
        text = str(caught.value)
        assert text.startswith(
            "cancelled; " if cancelled else "the connection to libvirt on node01"
        )
        assert (
            f"; vm1 may be saved in {storing.path}, and node01 cannot be queried for it (" in text
        )
        assert text.endswith(
            "): check whether it runs there, and only if it does not, use virsh restore "
            f"{storing.path}"
        )
        assert storing.path.exists()

    run_scenario(scenario, tmp_path)


# Restoring fails


async def restoring_fails(storing):
    """Return the text of the final error."""
    await storing.save()
    storing.forget()
    with pytest.raises(FinalError) as caught:
        await storing.migration.restore_on_destination()
    assert not isinstance(caught.value, ArrivedError)
    return str(caught.value)


def test_failed_restore_restores_on_source(tmp_path):
    async def scenario(storing):
        storing.destination.refuses["restore"] = broken()
        text = await restoring_fails(storing)
        assert text == (
            "vm1 could not be restored on node02: libvirt on node02: cannot read the file; "
            "vm1 runs on node01"
        )
        assert storing.calls == ["node02: restore", "node01: restore"]
        assert storing.domain.state()[0] == RUNNING
        assert not storing.path.exists()

    run_scenario(scenario, tmp_path)


def test_failed_restore_counts_when_domain_is_active_on_destination(tmp_path):
    """It has arrived in spite of the error, and runs on no other host."""

    async def scenario(storing):
        def restored_all_the_same():
            domain = FakeDomain("vm1", RUNNING, 3)
            storing.destination.add(domain)

        await storing.save()
        storing.forget()
        storing.destination.on["restore"] = restored_all_the_same
        storing.destination.refuses["restore"] = broken()
        await storing.migration.restore_on_destination()
        assert storing.calls == ["node02: restore", "node02: define", "node01: undefine"]
        assert "vm1" not in storing.source.domains
        assert not storing.path.exists()

    run_scenario(scenario, tmp_path)


def test_restore_waits_for_late_call(tmp_path):
    """The domain is not active at the first query, and active at the second."""

    async def scenario(storing):
        await storing.save()
        storing.forget()
        storing.destination.refuses["restore"] = broken()
        late = FakeDomain("vm1", RUNNING, 3)
        asyncio.get_running_loop().call_later(0.1, storing.destination.add, late)
        await storing.migration.restore_on_destination()
        assert "node01: restore" not in storing.calls

    run_scenario(scenario, tmp_path)


def test_restore_waits_for_job_in_progress(tmp_path):
    async def scenario(storing):
        await storing.save()
        storing.forget()

        def begun():
            arriving = storing.destination.add(FakeDomain("vm1", PAUSED, 5))
            arriving.job = {}

            def over():
                del storing.destination.domains["vm1"]

            asyncio.get_running_loop().call_later(5, over)

        storing.destination.on["restore"] = begun
        storing.destination.refuses["restore"] = broken()
        with pytest.raises(FinalError, match=r"could not be restored .*; vm1 runs on node01"):
            await storing.migration.restore_on_destination()
        assert storing.calls == ["node02: restore", "node01: restore"]

    run_scenario(scenario, tmp_path)


def test_unreachable_destination_keeps_the_file(tmp_path):
    """It may run there, so it is not restored here."""

    async def scenario(storing):
        def gone():
            storing.destination.is_there = False

        storing.destination.on["restore"] = gone
        storing.destination.refuses["restore"] = refusal("SYSTEM_ERROR", "Cannot recv data: EOF")
        text = await restoring_fails(storing)
        assert text.endswith(
            f"; it is saved in {storing.path}, and node02 cannot be queried for it: check "
            f"whether it runs there, and only if it does not, use virsh restore {storing.path}"
        )
        assert storing.calls == ["node02: restore"]
        assert storing.path.read_text().startswith("vm1\n")
        assert storing.domain.state()[0] == SHUT_OFF
        assert (storing.state.phase, storing.state.path) == ("restoring", str(storing.path))

    run_scenario(scenario, tmp_path)


def test_error_names_file_when_no_host_restores_it(tmp_path):
    async def scenario(storing):
        storing.destination.refuses["restore"] = broken()
        storing.source.refuses["restore"] = broken()
        text = await restoring_fails(storing)
        assert text == (
            "vm1 could not be restored on node02: libvirt on node02: cannot read the file; could "
            "not restore it: libvirt on node01: cannot read the file; vm1 is saved in "
            f"{storing.path}"
        )
        assert storing.path.exists()

    run_scenario(scenario, tmp_path)


def test_restore_on_source_counts_when_domain_is_active_despite_error(tmp_path):
    async def scenario(storing):
        def restored_all_the_same():
            storing.domain.state_now = [RUNNING, 3]

        await storing.save()
        storing.source.on["restore"] = restored_all_the_same
        storing.source.refuses["restore"] = broken()
        assert await storing.migration.restore_on_source() == ["vm1 runs on node01"]
        assert not storing.path.exists()

    run_scenario(scenario, tmp_path)


# What is wrong at the end


@pytest.fixture
def undeletable(monkeypatch):
    def unlink(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", unlink)


def test_error_names_file_that_cannot_be_removed(tmp_path, undeletable):
    async def scenario(storing):
        await storing.save()
        with pytest.raises(ArrivedError) as caught:
            await storing.migration.restore_on_destination()
        assert str(caught.value) == (
            f"vm1 runs on node02, but could not remove {storing.path}: Permission denied"
        )

    run_scenario(scenario, tmp_path)


def test_restore_on_source_names_file_that_cannot_be_removed(tmp_path, undeletable):
    async def scenario(storing):
        await storing.save()
        assert await storing.migration.restore_on_source() == [
            "vm1 runs on node01",
            f"could not remove {storing.path}: Permission denied",
        ]

    run_scenario(scenario, tmp_path)


def test_error_names_definition_that_cannot_move(tmp_path):
    async def scenario(storing):
        await storing.save()
        storing.destination.refuses["define"] = broken()
        storing.domain.refuses["undefine"] = broken()
        with pytest.raises(ArrivedError) as caught:
            await storing.migration.restore_on_destination()
        text = str(caught.value)
        assert text.startswith("vm1 runs on node02, but could not define it there: libvirt on node")
        assert "; could not remove its definition on node01: libvirt on node01: " in text
        assert not storing.path.exists()

    run_scenario(scenario, tmp_path)
