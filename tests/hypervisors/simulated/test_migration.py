"""One migration on a simulated cluster, in virtual time: its options, timeouts and cancellation."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib import (
    Migrate,
    MigrateParameter,
    Repin,
    TimeMeasurement,
)
from fastlib.migfra import DaemonServices
from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.simulated import LinkDescription
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.precopy import MIB, Workload, predict
from tests.support.migfra.simulation import (
    BUSY,
    GIB,
    LIVE,
    cluster_of,
    live,
    migrated,
    now,
    simulated,
)


@given(
    memory=st.integers(1, 4 * GIB),
    dirty_rate=st.floats(0, 900),
    working_set=st.none() | st.integers(1, 4 * GIB),
)
def test_single_migration_matches_prediction(memory, dirty_rate, working_set):
    domain = {"memory": memory, "dirty_rate": dirty_rate, "working_set": working_set}
    seconds, progress = migrated(domain, LIVE, bandwidth=1000)
    whole = memory if working_set is None else working_set
    workload = Workload(memory=memory * 1024, dirty_rate=dirty_rate * MIB, working_set=whole * 1024)
    predicted = predict(workload, bandwidth=1000 * MIB)
    assert seconds == pytest.approx(predicted.seconds)
    assert progress[-2].transferred == pytest.approx(predicted.transferred, abs=2)


def test_progress_ends_at_100_percent():
    _, progress = migrated({"dirty_rate": 100}, LIVE, bandwidth=512)
    assert progress.phases == ["prepare", "migrate", "downtime", "finish"]
    transferred = [facts.transferred for facts in progress if facts.transferred is not None]
    assert transferred == sorted(transferred)
    assert {facts.vm_name for facts in progress} == {"vm1"}
    assert progress[-1].percent == 100


EXPECTED = [
    ({}, live()),
    ({}, MigrateParameter()),
    ({"dirty_rate": 100}, live()),
    ({"dirty_rate": 400, "working_set": GIB // 16}, live(compression="zstd")),
    ({"dirty_rate": 900, "working_set": GIB // 16}, live()),
    ({"dirty_rate": 400}, live(bandwidth_limit=450)),
    ({"dirty_rate": 300, "disk": 2 * GIB}, live(copy_storage="all")),
    ({"dirty_rate": 300, "disk": 2 * GIB},
     MigrateParameter(migration_type="warm", copy_storage="all", compression="zstd")),
]  # fmt: skip


@pytest.mark.parametrize("more", [{}, {"vcpu_map": [[1]], "pscom_hook_procs": "2"}])
@pytest.mark.parametrize(("domain", "parameter"), EXPECTED)
def test_expected_end_is_the_end(domain, parameter, more):
    """From the first report on, as the rates stay the same."""

    async def scenario(simulation):
        ends = []

        def report(facts):
            if facts.expected is not None:
                ends.append(now() + facts.expected)

        options = msgspec.structs.replace(parameter, **more)
        task = Migrate(vm_name="vm1", destination="b", parameter=options)
        await simulation["a"].migrate(task, Context("a", services=DaemonServices(report=report)))
        assert len(ends) > 2
        assert ends == pytest.approx([now()] * len(ends))

    cluster = cluster_of(("vm1", "a", domain), bandwidth=512)
    simulated(cluster, scenario, call_seconds=0.7)


def test_end_of_a_migration_that_does_not_converge_is_unknown():
    parameter = live(timeout=5, on_timeout="pause")
    _, progress = migrated({"dirty_rate": 600}, parameter, bandwidth=512)
    assert {facts.expected for facts in progress if facts.phase == "migrate"} == {None}
    assert next(facts.expected for facts in progress if facts.phase == "downtime") > 0


@pytest.mark.parametrize(
    ("parameter", "more", "seconds"),
    [
        (live(), {}, 10.24),
        (live(bandwidth_limit=50), {}, 20.48),
        (live(compression="zstd"), {}, 5.12),
        (live(), {"connection_bandwidth": 10}, 102.4),
        (live(parallel_connections=4), {"connection_bandwidth": 10}, 25.6),
        (live(rdma_migration=True), {"connection_bandwidth": 10}, 10.24),
    ],
)
def test_transfer_options_change_duration(parameter, more, seconds):
    links = [LinkDescription(hosts=["a", "b"], bandwidth=100, **more)]
    assert migrated({}, parameter, links=links)[0] == pytest.approx(seconds)


def test_disk_is_copied_before_the_memory():
    """A GiB of memory follows 2 GiB of disk, which is not compressed."""
    parameter = live(copy_storage="all", compression="zstd")
    seconds, progress = migrated({"disk": 2 * GIB}, parameter, bandwidth=512)
    assert seconds == pytest.approx(4 + 1)
    assert progress.phases == ["prepare", "copy disks", "migrate", "downtime", "finish"]
    first, last = progress[1], progress[-2]
    assert (first.disk_transferred, first.disk_remaining) == (0, 2 * GIB * 1024)
    assert last.disk_transferred == last.disk_total == 2 * GIB * 1024
    assert last.transferred == last.total == 3 * GIB * 1024
    transferred = [facts.transferred for facts in progress if facts.transferred is not None]
    assert transferred == sorted(transferred)


@pytest.mark.parametrize(
    ("disk", "parameter", "why"),
    [
        (1, live(), "disk vda of vm1 is not on storage that a and b share; order copy-storage"),
        (1, live(copy_storage="all", copy_disks=["vdb"]), "'vdb', but vm1 writes only the disk"),
        (0, live(copy_storage="all", copy_disks=["vda"]), "only disks that all share"),
        (GIB, live(copy_storage="all", timeout=1, bandwidth_limit=1), "within the timeout of 1 s"),
    ],
)
def test_disk_that_cannot_move_is_refused(disk, parameter, why):
    with pytest.raises(HypervisorError, match=why):
        migrated({"disk": disk}, parameter)


def test_warm_migration_is_default_and_pauses_first():
    _, progress = migrated({"dirty_rate": 5000}, None)
    assert progress.phases == ["prepare", "downtime", "finish"]


def test_paused_domain_is_not_moved_by_post_copy():
    with pytest.raises(FinalError, match="post-copy does not work with a domain that is paused"):
        migrated({"state": "paused"}, live(on_timeout="post-copy"))


def test_paused_domain_arrives_paused():
    _, progress = migrated({"state": "paused", "dirty_rate": 5000}, LIVE)
    assert progress.phases == ["prepare", "migrate", "downtime", "finish"]
    assert not any(facts.dirty_rate for facts in progress)


def test_offline_migration_moves_the_definition():
    seconds, progress = migrated({"state": "shut off"}, MigrateParameter(migration_type="offline"))
    assert (seconds, progress) == (0, [])


def test_migration_pins_on_destination():
    async def scenario(simulation):
        measurement = TimeMeasurement()
        task = Migrate(vm_name="vm1", destination="b", parameter=live(vcpu_map=[[3]]))
        await simulation["a"].migrate(task, Context("a", measurement=measurement))
        assert simulation.cluster.domain("vm1").vcpu_map == [[3]]
        assert set(measurement.timings) == {"migrate", "downtime-vm1"}

    simulated(cluster_of(("vm1", "a", {"dirty_rate": 100})), scenario)


def test_warm_migration_with_pscom_measures_each_phase():
    async def scenario(simulation):
        measurement = TimeMeasurement()
        task = Migrate(
            vm_name="vm1", destination="b", parameter=MigrateParameter(pscom_hook_procs="auto")
        )
        await simulation["a"].migrate(task, Context("a", measurement=measurement))
        assert set(measurement.timings) == {
            "migrate", "downtime-vm1", "suspend-vm1", "resume-vm1", "pscom-suspend-vm1",
            "pscom-resume-vm1",
        }  # fmt: skip

    simulated(cluster_of(("vm1", "a")), scenario)


@pytest.mark.parametrize(
    ("parameter", "phases"),
    [
        (live(timeout=30, on_timeout="pause"), ["prepare", "migrate", "downtime", "finish"]),
        (
            live(timeout=30, on_timeout="post-copy"),
            ["prepare", "migrate", "post-copy", "finish"],
        ),
        (live(auto_converge=True), ["prepare", "migrate", "downtime", "finish"]),
        (live(max_downtime=20_000), ["prepare", "migrate", "downtime", "finish"]),
    ],
)
def test_convergence_options_let_busy_domain_arrive(parameter, phases):
    _, progress = migrated(BUSY, parameter, bandwidth=100)
    assert progress.phases == phases


def test_migration_aborts_at_timeout():
    async def scenario(simulation):
        task = Migrate(vm_name="vm1", destination="b", parameter=live(timeout=30))
        with pytest.raises(HypervisorError) as caught:
            await simulation["a"].migrate(task, Context("a"))
        assert str(caught.value) == (
            "vm1 did not migrate to b: not finished within the timeout of 30 s (1024 MiB remain, "
            "the guest writes 1000 MiB/s); vm1 runs on a"
        )
        assert simulation.where("vm1") == ("a", "running")
        return now()

    assert simulated(cluster_of(("vm1", "a", BUSY), bandwidth=100), scenario) == pytest.approx(
        30, abs=0.5
    )


@pytest.mark.parametrize("at", [0, 0.001, 1, 7.77, 29])
def test_cancelled_migration_leaves_domain_on_source(at):
    async def scenario(simulation):
        cancellation = Cancellation()
        asyncio.get_running_loop().call_later(at, cancellation.cancel)
        task = Migrate(vm_name="vm1", destination="b", parameter=live())
        with pytest.raises(TaskCancelledError, match="cancelled"):
            await simulation["a"].migrate(task, Context("a", cancellation=cancellation))
        assert simulation.where("vm1") == ("a", "running")
        assert simulation.cluster.host("b").used == 0
        return now()

    assert simulated(cluster_of(("vm1", "a", BUSY), bandwidth=100), scenario) <= at + 0.011


def test_cancellation_has_no_effect_in_post_copy():
    async def scenario(simulation):
        cancellation = Cancellation()
        asyncio.get_running_loop().call_later(35, cancellation.cancel)
        task = Migrate(
            vm_name="vm1", destination="b", parameter=live(timeout=30, on_timeout="post-copy")
        )
        await simulation["a"].migrate(task, Context("a", cancellation=cancellation))
        assert cancellation.cancelled
        assert simulation.where("vm1") == ("b", "running")

    simulated(cluster_of(("vm1", "a", BUSY), bandwidth=100), scenario)


def test_other_tasks_wait_for_a_migration():
    async def scenario(simulation):
        async def later(method, task):
            await asyncio.sleep(1)
            return await method(task, Context("a"))

        a = simulation["a"]
        ends = await asyncio.gather(
            a.migrate(Migrate(vm_name="vm1", destination="b", parameter=LIVE), Context("a")),
            later(a.repin, Repin(vm_name="vm1", vcpu_map=[[1]])),
            later(a.migrate, Migrate(vm_name="vm1", destination="c")),
            return_exceptions=True,
        )
        assert ends[0].status == "success"
        assert [str(end) for end in ends[1:]] == [
            "vm1 is on b, not on a",
            "vm1 is migrating",
        ]

    simulated(cluster_of(("vm1", "a"), bandwidth=100), scenario)


@pytest.mark.parametrize("at", [0.5, 3, 12])
def test_restart_during_migration_leaves_domain_on_source(at):
    async def scenario(simulation):
        task = Migrate(vm_name="vm1", destination="b", parameter=LIVE)
        dying = asyncio.create_task(simulation["a"].migrate(task, Context("a")))
        await asyncio.sleep(at)
        dying.cancel()
        await asyncio.wait([dying])
        await simulation.open("a")
        recovered = simulation["a"].recover(task, Context("a"))
        if at < 10.24:
            with pytest.raises(HypervisorError, match="vm1 runs on a"):
                await recovered
            assert simulation.where("vm1") == ("a", "running")
        else:
            await recovered

    simulated(cluster_of(("vm1", "a"), bandwidth=100), scenario)
