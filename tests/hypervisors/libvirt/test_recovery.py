"""The recovery of migrations after a crash of the daemon, by the journal and by both hosts.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio

import msgspec
import pytest

from fastlib import (
    Evacuate,
    Migrate,
    MigrationResult,
    Resume,
    Start,
    Stop,
    SwapWith,
    Task,
)
from fastlib.migfra import Context, HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import AttachedDevice
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import Prober
from fastlib.migfra.hypervisors.libvirt.domain.snapshots import SnapshotRecord
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState
from fastlib.migfra.hypervisors.libvirt.tasks.recovery import DONE, recover
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import DaemonServices
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, UUID, FakeDomain, uuid_of
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.orders import migrate_task
from tests.support.libvirt.pci_devices import FIRST, HOSTDEV, host_with_devices
from tests.support.virtual_time import run_bounded

INTERRUPTED = "the daemon ended while this was in progress"
MAY_END = "; a requested shutdown may still complete"


class Recovery(FakeHosts):
    """Two hosts after a crash of the daemon, and the saved state of its journal."""

    def __init__(self):
        super().__init__()
        self.saved = {}
        self.cancellation = Cancellation()

    def state(self, name="vm1", **fields):
        """Save the state of a migration."""
        source, destination = ("node01", "node02") if name == "vm1" else ("node02", "node01")
        uuid = uuid_of(name)
        state = MigrationState(source=source, destination=destination, uuid=uuid, **fields)
        migrations = self.saved.setdefault("migrations", {})
        migrations[name] = msgspec.to_builtins(state)

    def arrive(self, name="vm1"):
        """Move a domain to the destination."""
        self.destination.add(self.source.domains.pop(name))

    async def recover(self, task):
        services = DaemonServices(report=self.progress.append)
        context = Context(
            "node01", saved_state=self.saved, services=services, cancellation=self.cancellation
        )
        outcome = await recover(self.runtime, task, context)
        return outcome.details if isinstance(outcome, MigrationResult) else outcome

    async def error(self, task):
        with pytest.raises(HypervisorError) as caught:
            await self.recover(task)
        return str(caught.value)


@pytest.fixture
def run():
    """Run a scenario."""
    return lambda scenario: run_bounded(scenario(Recovery()))


SWAP = migrate_task(swap_with=SwapWith(vm_name="vm2"))


def test_recovery_fails_when_migration_had_not_begun(run):
    async def scenario(recovery):
        assert await recovery.error(migrate_task()) == (
            "the daemon ended before vm1 began to migrate; vm1 runs on node01"
        )

    run(scenario)


def test_recovery_of_prepare_reattaches_devices_on_source(run):
    async def scenario(recovery):
        recovery.source.node_devices = host_with_devices(FIRST).node_devices
        device = {"kind": "pci", "xml": HOSTDEV, "address": FIRST, "vendor": 0x15B3}
        recovery.state(detached=[AttachedDevice(**device, device=0x1004)])
        assert await recovery.error(migrate_task()) == (
            f"vm1 did not migrate to node02: {INTERRUPTED}; vm1 runs on node01"
        )
        assert recovery.calls == [f"node01: attach {FIRST}"]

    run(scenario)


def test_recovery_of_move_finishes_on_destination(run):
    async def scenario(recovery):
        recovery.state(phase="move", autostart=True)
        recovery.domain.state_now = [PAUSED, 1]
        recovery.arrive()
        assert await recovery.recover(migrate_task()) == DONE
        assert recovery.calls == ["node02: resume", "node02: autostart 1"]

    run(scenario)


@pytest.mark.parametrize(
    ("phase", "arrived"), [("prepare", False), ("move", False), ("move", True)]
)
@pytest.mark.parametrize("kind", ["live", "offline"])
def test_recovery_restores_the_records_of_snapshots_where_the_domain_is(run, phase, arrived, kind):
    async def scenario(recovery):
        domain = recovery.domain
        xml = "<domainsnapshot><name>first</name></domainsnapshot>"
        recovery.state(phase=phase, snapshots=[SnapshotRecord(name="first", xml=xml)])
        if kind == "offline":
            domain.state_now = [SHUT_OFF, 1]
        if arrived:
            recovery.arrive()
            assert await recovery.recover(migrate_task(migration_type=kind)) == DONE
        else:
            await recovery.error(migrate_task(migration_type=kind))
        assert [each.getName() for each in domain.snapshots] == ["first"]

    run(scenario)


def test_recovery_of_move_fails_when_domain_is_on_source(run):
    async def scenario(recovery):
        recovery.state(phase="move")
        assert await recovery.error(migrate_task()) == (
            f"vm1 did not migrate to node02: {INTERRUPTED}; vm1 runs on node01"
        )

    run(scenario)


def test_recovery_of_move_waits_for_migration_in_progress(run):
    async def scenario(recovery):
        recovery.state(phase="move")
        recovery.domain.job = {"data_total": 100, "data_processed": 50, "data_remaining": 50}

        def arrive():
            recovery.domain.job = None
            recovery.arrive()

        asyncio.get_running_loop().call_later(20, arrive)
        assert await recovery.recover(migrate_task(migration_type="live")) == DONE
        assert "migrate" in recovery.phases

    run(scenario)


def test_cancelled_recovery_aborts_the_migration_and_says_where_the_domain_runs(run):
    """The cancellation comes before the restarted daemon has checked the migration."""

    async def scenario(recovery):
        recovery.state(phase="move")
        recovery.domain.job = {"data_total": 100, "data_processed": 50, "data_remaining": 50}
        recovery.domain.on["abort"] = lambda: setattr(recovery.domain, "job", None)
        recovery.cancellation.cancel()
        assert await recovery.error(migrate_task(migration_type="live")) == (
            "cancelled; vm1 runs on node01"
        )
        assert recovery.calls == ["node01: abort"]

    run(scenario)


def test_cancelled_recovery_of_an_ended_migration_says_where_the_domain_runs(run):
    async def scenario(recovery):
        recovery.state(phase="move")
        recovery.cancellation.cancel()
        assert await recovery.error(migrate_task()) == (
            f"vm1 did not migrate to node02: {INTERRUPTED}; vm1 runs on node01"
        )

    run(scenario)


def test_cancelled_recovery_finishes_a_migration_that_has_arrived(run):
    async def scenario(recovery):
        recovery.state(phase="move")
        recovery.domain.state_now = [PAUSED, 1]
        recovery.arrive()
        recovery.cancellation.cancel()
        assert await recovery.recover(migrate_task()) == DONE
        assert recovery.calls == ["node02: resume"]

    run(scenario)


def test_cancelled_recovery_of_start_reads_the_domain(run):
    async def scenario(recovery):
        recovery.cancellation.cancel()
        assert await recovery.recover(Start(vm_name="vm1")) == DONE
        recovery.domain.state_now = [SHUT_OFF, 1]
        assert await recovery.error(Start(vm_name="vm1")) == (
            f"{INTERRUPTED}; vm1 is shut off on node01"
        )

    run(scenario)


@pytest.mark.parametrize("moved", [True, False])
def test_recovery_of_offline_migration_checks_the_definition(run, moved):
    async def scenario(recovery):
        recovery.domain.state_now = [SHUT_OFF, 0]
        recovery.state(phase="move")
        task = migrate_task(migration_type="offline")
        if moved:
            recovery.arrive()
            assert await recovery.recover(task) == DONE
        else:
            assert await recovery.error(task) == (
                f"vm1 did not migrate to node02: {INTERRUPTED}; vm1 is shut off on node01"
            )

    run(scenario)


def test_recovery_of_evacuation_answers_for_each_domain(run):
    async def scenario(recovery):
        task = Evacuate(destinations=["node02"])
        assert await recovery.error(task) == "the daemon ended before the evacuation began"
        recovery.saved["placements"] = {"vm1": "node02", "vm2": None, "vm3": "node02"}
        recovery.saved["placements"]["vm4"] = None
        recovery.source.add(FakeDomain("vm2"))
        recovery.source.add(FakeDomain("vm3"))
        recovery.destination.add(FakeDomain("vm4"))
        recovery.state(phase="move")
        recovery.arrive()
        results = await recovery.recover(task)
        assert [(result.vm_name, result.details) for result in results] == [
            ("vm1", DONE),
            (
                "vm2",
                "vm2 stays on node01: no destination could take it before the daemon's restart",
            ),
            ("vm3", "the daemon ended before vm3 began to migrate; vm3 runs on node01"),
            ("vm4", "vm4 has left in the meantime: it runs on node02"),
        ]

    run(scenario)


# Swaps


def test_recovery_of_swap_succeeds_when_both_arrived(run):
    async def scenario(recovery):
        recovery.source.add(FakeDomain("vm2"))
        for name in ("vm1", "vm2"):
            recovery.state(name, phase="move")
        recovery.arrive()
        assert await recovery.recover(SWAP) == DONE

    run(scenario)


def test_recovery_of_swap_reports_where_both_are(run):
    async def scenario(recovery):
        recovery.destination.add(FakeDomain("vm2"))
        for name in ("vm1", "vm2"):
            recovery.state(name, phase="move")
        recovery.arrive()
        assert await recovery.error(SWAP) == (
            f"vm1 is on node02; vm2 did not migrate to node01: {INTERRUPTED}; vm2 runs on node02"
        )

    run(scenario)


@pytest.fixture
def file(tmp_path):
    """The file of a saved domain."""
    path = tmp_path / "vm1.save"
    path.write_text("vm1")
    return path


def save(recovery, phase, file):
    """The domain vm1 is in a file, and its partner in a swap is on the destination."""
    recovery.domain.state_now = [SHUT_OFF, 1]
    recovery.state(phase=phase, path=str(file), xml="<domain><name>vm1</name></domain>")
    recovery.state("vm2", phase="move")


@pytest.mark.parametrize("phase", ["saving", "saved"])
def test_recovery_restores_saved_domain_on_destination_when_partner_arrived(run, file, phase):
    async def scenario(recovery):
        save(recovery, phase, file)
        recovery.source.add(FakeDomain("vm2"))
        assert await recovery.recover(SWAP) == DONE
        assert recovery.destination.domains["vm1"].state_now[0] == RUNNING
        assert set(recovery.source.domains) == {"vm2"}
        assert not file.exists()

    run(scenario)


def test_recovery_restores_saved_domain_on_source_when_partner_failed(run, file):
    async def scenario(recovery):
        save(recovery, "saved", file)
        recovery.destination.add(FakeDomain("vm2"))
        assert (await recovery.error(SWAP)).startswith(f"{INTERRUPTED}; vm1 runs on node01; vm2")
        assert recovery.source.domains["vm1"].state_now[0] == RUNNING

    run(scenario)


def test_recovery_of_failed_save_leaves_domain_on_source(run, file):
    async def scenario(recovery):
        save(recovery, "saving", file)
        recovery.domain.state_now = [RUNNING, 1]
        recovery.source.add(FakeDomain("vm2"))
        assert await recovery.error(SWAP) == (
            f"vm1 did not migrate to node02: {INTERRUPTED}; vm1 runs on node01; vm2 is on node01"
        )

    run(scenario)


@pytest.mark.parametrize("where", ["destination", "source", "nowhere"])
def test_recovery_of_restore_never_restores_twice(run, file, where):
    async def scenario(recovery):
        save(recovery, "restoring", file)
        recovery.source.add(FakeDomain("vm2"))
        if where == "destination":
            recovery.destination.add(FakeDomain("vm1"))
            assert await recovery.recover(SWAP) == DONE
        elif where == "source":
            recovery.domain.state_now = [RUNNING, 3]
            expected = f"{INTERRUPTED}; vm1 runs on node01; vm2 is on node01"
            assert await recovery.error(SWAP) == expected
        else:
            text = await recovery.error(SWAP)
            assert "whether it has run since is not certain" in text
            assert f"use virsh restore {file}" in text
            assert file.exists()
        assert not [call for call in recovery.calls if call.endswith(": restore")]

    run(scenario)


# Tasks of one host


def test_recovery_of_stop_by_regex_answers_for_each_domain(run):
    async def scenario(recovery):
        recovery.saved["names"] = ["vm1", "vm2"]
        results = await recovery.recover(Stop(regex="vm.*"))
        assert [(result.vm_name, result.details) for result in results] == [
            ("vm1", f"{INTERRUPTED}; vm1 runs on node01{MAY_END}"),
            ("vm2", DONE),
        ]

    run(scenario)


def test_recovery_of_stop_says_whether_the_domain_may_still_shut_down(run):
    async def scenario(recovery):
        stop, force = Stop(vm_name="vm1", undefine=True), Stop(vm_name="vm1", force=True)
        assert await recovery.error(stop) == f"{INTERRUPTED}; vm1 runs on node01{MAY_END}"
        assert await recovery.error(force) == f"{INTERRUPTED}; vm1 runs on node01"
        recovery.domain.state_now = [SHUT_OFF, 1]
        assert await recovery.error(stop) == f"{INTERRUPTED}; vm1 is shut off on node01"

    run(scenario)


def test_recovery_of_stop_fails_when_the_domain_was_saved(run):
    """libvirt-guests saves domains before the host and the daemon end."""

    async def scenario(recovery):
        recovery.domain.state_now = [SHUT_OFF, 0]
        stop = Stop(vm_name="vm1")
        assert await recovery.recover(stop) == DONE
        recovery.domain.saved_image = recovery.domain.XMLDesc()
        error = await recovery.error(stop)
        assert error.startswith(f"{INTERRUPTED}; vm1 was saved on node01 and not shut down; start")
        assert await recovery.recover(Stop(vm_name="vm1", force=True)) == DONE

    run(scenario)


def test_recovery_of_resume_reads_the_domain(run):
    async def scenario(recovery):
        assert await recovery.recover(Resume(vm_name="vm1")) == DONE
        recovery.domain.state_now = [PAUSED, 1]
        text = await recovery.error(Resume(vm_name="vm1"))
        assert text == f"{INTERRUPTED}; vm1 is paused on node01"

    run(scenario)


def test_recovery_of_unknown_task_advises_to_check_the_domain(run):
    async def scenario(recovery):
        assert await recovery.error(Task()) == f"{INTERRUPTED}; check the domain"

    run(scenario)


def test_recovery_removes_definitions_of_a_killed_check(run):
    """The daemon was killed while it checked the domain's files."""

    async def scenario(recovery):
        prober = Prober(host="node01", domain_uuid=UUID, architecture="x86_64")
        other = Prober(host="node03", domain_uuid=UUID, architecture="x86_64")
        for host in (recovery.source, recovery.destination):
            for name in (prober.name, other.name):
                host.add(FakeDomain(name, SHUT_OFF, 0))
        error = await recovery.error(Migrate(vm_name="vm1", destination="node02"))
        assert error.startswith("the daemon ended before vm1 began to migrate")
        for host in (recovery.source, recovery.destination):
            assert prober.name not in host.domains
            assert other.name in host.domains

    run(scenario)
