"""Every task on a simulated cluster, in virtual time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib import (
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    TimeMeasurement,
)
from fastlib.message.tasks import Query
from fastlib.migfra.config import file as configuration
from fastlib.migfra.errors import FinalError, HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.simulated import Fault, LinkDescription
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.precopy import MIB, Workload, predict
from tests.support.migfra.simulation import GIB, Progress, Simulation, cluster_of, now, simulated

LIVE = MigrateParameter(migration_type="live")


def live(**more):
    return MigrateParameter(migration_type="live", **more)


# Start, stop and what does not take long


def test_start_by_name():
    async def scenario(simulation):
        progress = Progress()
        task = Start(vm_name="vm1", memory=2 * GIB, vcpus=2, vcpu_map=[[0], [1]])
        await simulation["a"].start(task, progress.context())
        domain = simulation.cluster.domain("vm1")
        assert simulation.where("vm1") == ("a", "running")
        assert (domain.memory, domain.vcpus, domain.vcpu_map) == (2 * GIB, 2, [[0], [1]])
        assert progress.phases == ["start", "probe"]
        return now()

    description = cluster_of(("vm1", "b", {"state": "shut off"}))
    assert simulated(description, scenario, start_seconds=30) > 30


def test_start_without_probe_does_not_wait():
    async def scenario(simulation):
        await simulation["a"].start(Start(vm_name="vm1", probe_with_ssh=False), Context("a"))
        return now()

    description = cluster_of(("vm1", "a", {"state": "shut off"}))
    assert simulated(description, scenario, start_seconds=30) < 1


@pytest.mark.parametrize("transient", [None, True])
def test_start_by_xml(transient):
    xml = "<domain><name>new</name><memory unit='GiB'>3</memory><vcpu>2</vcpu></domain>"

    async def scenario(simulation):
        await simulation["a"].start(Start(xml=xml, transient=transient), Context("a"))
        domain = simulation.cluster.domain("new")
        assert (domain.memory, domain.vcpus) == (3 * GIB, 2)
        assert domain.persistent is (transient is None)
        await simulation["a"].stop(Stop(vm_name="new"), Context("a"))
        if transient:
            with pytest.raises(HypervisorError, match="no domain new"):
                simulation.cluster.domain("new")
        else:
            assert simulation.where("new") == ("a", "shut off")

    simulated(cluster_of(), scenario)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (Start(vm_name="nobody"), "there is no domain nobody defined"),
        (Start(vm_name="vm1"), "vm1 is active on b already"),
        (Start(vm_name="off", memory=99 * GIB), "a has .* KiB of memory free, off needs"),
        (Start(vm_name="off", vcpu_map=[[99]]), "a has no CPU 99; it has 8"),
        (Start(vm_name="off", vcpu_map=[[1], [2]]), "vcpu-map has 2 entries for 1 vCPUs"),
        (Start(vm_name="../off"), "cannot be the name of a domain"),
        (Start(xml="<domain><name>off</name></domain>", transient=True), "cannot be transient"),
        (Start(xml="<domain>"), "not well-formed"),
        (Start(xml="<domain><name>x</name></domain>", vm_name="y"), "but the XML says 'x'"),
        (Stop(vm_name="vm1"), "vm1 is not active on a: vm1 runs on b"),
        (Stop(vm_name="off"), "off is not active on a: off is shut off on a"),
        (Stop(regex="("), "cannot be used"),
        (Suspend(vm_name="vm1"), "vm1 is on b, not on a"),
        (Resume(vm_name="off"), "off is shut off"),
        (Repin(vm_name="vm2", vcpu_map=[[8]]), "a has no CPU 8"),
        (Migrate(vm_name="vm2", destination="z"), "there is no host z in the cluster"),
        (Migrate(vm_name="vm2", destination="a"), "vm2 is on a already"),
        (Migrate(vm_name="vm1", destination="c"), "vm1 is on b, not on a"),
        (Migrate(vm_name="off", destination="c"), "off is shut off"),
        (
            Migrate(
                vm_name="vm2",
                destination="b",
                parameter=MigrateParameter(migration_type="offline"),
            ),
            "an offline migration needs it shut off",
        ),
        (
            Migrate(
                vm_name="vm2",
                destination="b",
                parameter=MigrateParameter(
                    migration_type="offline", swap_with=SwapWith(vm_name="vm1")
                ),
            ),
            "migration-type: offline does not go with swap-with",
        ),
        (
            Migrate(vm_name="vm2", destination="b", parameter=live(compression="squeeze")),
            "compression must be one of mt, xbzrle, zlib, zstd, not 'squeeze'",
        ),
        (
            Migrate(
                vm_name="vm2",
                destination="b",
                parameter=live(compression="xbzrle", parallel_connections=2),
            ),
            "parallel-connections does not go with compression: xbzrle",
        ),
        (
            Evacuate(destinations=["b"], parameter=EvacuateParameter(on_timeout="post-copy")),
            "migration-type: warm does not go with on-timeout: post-copy",
        ),
        (
            Evacuate(destinations=["b"], parameter=EvacuateParameter(migration_type="offline")),
            "running domains do not migrate offline",
        ),
        (
            Migrate(vm_name="vm2", destination="b", parameter=live(pscom_hook_procs="-1")),
            "pscom-hook-procs is a count or auto, not '-1'",
        ),
        (Evacuate(destinations=["z"]), "there is no host z"),
        (Evacuate(destinations=["b"], vm_name="vm1"), "vm1 is not active on a: vm1 runs on b"),
    ],
)
def test_impossible_task_is_explained(task, why):
    async def scenario(simulation):
        before = simulation.cluster.domains()
        method = getattr(simulation["a"], type(task).__name__.lower())
        with pytest.raises(HypervisorError, match=why):
            await method(task, Context("a"))
        assert simulation.cluster.domains() == before

    simulated(cluster_of(("vm1", "b"), ("vm2", "a"), ("off", "a", {"state": "shut off"})), scenario)


def test_stop_waits_for_the_shutdown_unless_forced():
    async def scenario(simulation):
        await simulation["a"].stop(Stop(vm_name="vm1"), Context("a"))
        shut_down = now()
        await simulation["a"].stop(Stop(vm_name="vm2", force=True, undefine=True), Context("a"))
        assert [domain.name for domain in simulation.cluster.domains()] == ["vm1"]
        assert simulation.where("vm1") == ("a", "shut off")
        return shut_down, now() - shut_down

    shut_down, destroyed = simulated(
        cluster_of(("vm1", "a"), ("vm2", "a")), scenario, stop_seconds=20
    )
    assert shut_down > 20
    assert destroyed < 1


def test_stop_by_regex():
    async def scenario(simulation):
        results = await simulation["a"].stop(Stop(regex="vm[12]"), Context("a"))
        assert [(result.vm_name, result.status) for result in results] == [
            ("vm1", "success"),
            ("vm2", "success"),
        ]
        assert now() < 2  # side by side
        nobody = await simulation["a"].stop(Stop(regex="vm[12]"), Context("a"))
        assert nobody == "no active domain's name matches 'vm[12]'"
        assert simulation.where("vm10") == ("a", "running")
        assert simulation.where("vm3") == ("b", "running")

    simulated(cluster_of(("vm1", "a"), ("vm2", "a"), ("vm10", "a"), ("vm3", "b")), scenario)


def test_suspend_resume_and_repin_change_the_domain():
    async def scenario(simulation):
        a = simulation["a"]
        assert await a.suspend(Suspend(vm_name="vm1"), Context("a")) is None
        assert simulation.where("vm1") == ("a", "paused")
        again = await a.suspend(Suspend(vm_name="vm1"), Context("a"))
        assert again == "vm1 was paused already"
        assert await a.resume(Resume(vm_name="vm1"), Context("a")) is None
        assert simulation.where("vm1") == ("a", "running")
        await a.repin(Repin(vm_name="vm1", vcpu_map=[[0, 7]]), Context("a"))
        assert simulation.cluster.domain("vm1").vcpu_map == [[0, 7]]

    simulated(cluster_of(("vm1", "a")), scenario)


def test_repin_changes_all_rows_or_none():
    async def scenario(simulation):
        a, cluster = simulation["a"], simulation.cluster
        cluster.start("vm9", "a", memory=1024, vcpus=2, define=True)
        await a.repin(Repin(vm_name="vm9", vcpu_map=[[1], [2]]), Context("a"))
        await a.repin(Repin(vm_name="vm9", vcpu_map=[[3]]), Context("a"))
        assert cluster.domain("vm9").vcpu_map == [[3], [2]]  # vCPU 1 keeps its CPU
        for wrong in ([[0], [99]], [[0], []], [[0]] * 3):
            with pytest.raises(HypervisorError, match="CPU"):
                await a.repin(Repin(vm_name="vm9", vcpu_map=wrong), Context("a"))
        assert cluster.domain("vm9").vcpu_map == [[3], [2]]

    simulated(cluster_of(("vm1", "a")), scenario)


def test_query_describes_the_host():
    async def scenario(simulation):
        report = await simulation["a"].query(Query(), Context("a"))
        assert (report.host, report.hypervisor) == ("a", "simulated")
        assert (report.cpus, report.memory, report.free_memory) == (8, 16 * GIB, 15 * GIB)
        assert [(domain.name, domain.state) for domain in report.domains] == [
            ("off", "shut off"),
            ("vm1", "running"),
        ]

    simulated(cluster_of(("vm1", "a"), ("off", "a", {"state": "shut off"}), ("x", "b")), scenario)


def test_invalid_options_are_reported_with_positions():
    report = configuration.check(
        "hypervisor:\n"
        "  type: simulated\n"
        "  speed: 0\n"
        "  create:\n"
        "    hosts: [{name: a, cpu: 4}]\n"
        "    faults: [{kind: unreachable}, {kind: error, rate: 2}, {kind: hang, from: -1}]\n"
        "    domains: [{name: vm1, host: a, dirty-rate: .inf}]\n"
    )
    assert [(problem.line, problem.path) for problem in report.errors] == [
        (3, "hypervisor.speed"),
        (5, "hypervisor.create.hosts[0].cpu"),
        (6, "hypervisor.create.faults[0].kind"),
        (6, "hypervisor.create.faults[1].rate"),
        (6, "hypervisor.create.faults[2].from"),
        (7, "hypervisor.create.domains[0].dirty-rate"),
    ]
    both = configuration.check("hypervisor: {type: simulated, file: a, cluster: b}")
    assert "by cluster, or in a file, not both" in str(both.errors[0])


# One migration


def migrated(domain, parameter, source="a", **description):
    """Migrate vm1 from a to b; gives the seconds that it took and the progress."""

    async def scenario(simulation):
        progress = Progress()
        task = Migrate(vm_name="vm1", destination="b", parameter=parameter)
        await simulation["a"].migrate(task, progress.context())
        assert simulation.where("vm1") == ("b", domain.get("state", "running"))
        return now(), progress

    return simulated(cluster_of(("vm1", source, domain), **description), scenario, call_seconds=0)


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
    assert progress[1].expected == pytest.approx(1024 / (512 - 100), rel=0.01)
    assert progress[-1].percent == 100


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


def test_warm_migration_is_default_and_pauses_first():
    _, progress = migrated({"dirty_rate": 5000}, None)
    assert progress.phases == ["prepare", "downtime", "finish"]


def test_paused_domain_is_not_moved_by_post_copy():
    with pytest.raises(FinalError, match="post-copy does not go with a domain that is paused"):
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
        assert set(measurement.timings) == {"migrate", "downtime-vm1", "repin", "resume-vm1"}

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


# A guest that writes faster than the link carries

BUSY = {"dirty_rate": 1000}


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


# Cancel and faults


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


def test_cancelled_evacuation_says_where_each_domain_is():
    async def scenario(simulation):
        cancellation = Cancellation()
        asyncio.get_running_loop().call_later(15, cancellation.cancel)
        results = await simulation["a"].evacuate(
            Evacuate(destinations=["b"], parameter=EvacuateParameter(migration_type="live")),
            Context("a", cancellation=cancellation),
        )
        assert [(result.vm_name, result.details) for result in results] == [
            ("busy", "cancelled; busy runs on a"),
            ("small", None),
        ]

    simulated(
        cluster_of(("busy", "a", BUSY), ("small", "a", {"memory": 1024}), bandwidth=100), scenario
    )


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


def attempts(faults, count=4, task=None, **description):
    """How that many migrations of vm1 between a and b end, one after the other."""

    async def scenario(simulation):
        ends = []
        for _ in range(count):
            here = simulation.cluster.domain("vm1").host
            there = "b" if here == "a" else "a"
            try:
                await simulation[here].migrate(
                    Migrate(vm_name="vm1", destination=there, parameter=LIVE), Context(here)
                )
                ends.append("done")
            except HypervisorError as error:
                assert simulation.where("vm1") == (here, "running")
                ends.append(str(error))
        return ends

    return simulated(cluster_of(("vm1", "a"), faults=faults, **description), scenario)


def test_fault_happens_at_its_percent():
    faults = [Fault(kind="error", task="migrate", vm_name="vm1", percent=40, times=2)]
    broken = "vm1 did not migrate to b: broken off at 40 %; vm1 runs on a"
    assert attempts(faults) == [broken, broken, "done", "done"]


def test_faults_of_other_domains_have_no_effect():
    faults = [
        Fault(kind="error", task="migrate", vm_name="vm2"),
        Fault(kind="error", task="start"),
        Fault(kind="error", host="c"),
        Fault(kind="error", begin=1e6),
        Fault(kind="error", rate=0.0),
    ]
    assert attempts(faults) == ["done"] * 4


def test_random_faults_follow_the_seed():
    faults = [Fault(kind="error", task="migrate", rate=0.5, text="bad luck")]
    ends = {seed: attempts(faults, 12, seed=seed) for seed in range(4)}
    assert all(attempts(faults, 12, seed=seed) == ends[seed] for seed in ends)
    assert len(set(map(tuple, ends.values()))) > 1
    assert {end for ends in ends.values() for end in ends} == {"done", "bad luck"}


def test_unreachable_host_stalls_migration_until_it_returns():
    faults = [Fault(kind="unreachable", host="b", begin=2, until=9)]

    async def scenario(simulation):
        task = Migrate(vm_name="vm1", destination="b", parameter=LIVE)
        await simulation["a"].migrate(task, Context("a"))
        return now()

    description = cluster_of(("vm1", "a"), bandwidth=100, faults=faults)
    assert simulated(description, scenario) == pytest.approx(10.24 + 7, abs=0.5)


def test_long_unreachable_host_aborts_migration():
    faults = [Fault(kind="unreachable", host="b", begin=2)]
    gone = "vm1 did not migrate to b: nothing has moved for 30 s; vm1 runs on a"
    unreachable = "vm1 did not migrate to b: b is unreachable; vm1 runs on a"
    assert attempts(faults, 2, bandwidth=100) == [gone, unreachable]


def test_hanging_call_ends_after_its_seconds():
    faults = [Fault(kind="hang", task="suspend", seconds=600), Fault(kind="hang", task="resume")]

    async def scenario(simulation):
        await simulation["a"].suspend(Suspend(vm_name="vm1"), Context("a"))
        assert now() > 600
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10_000):
                await simulation["a"].resume(Resume(vm_name="vm1"), Context("a"))
        assert simulation.where("vm1") == ("a", "paused")

    simulated(cluster_of(("vm1", "a"), faults=faults), scenario)


def test_faults_of_the_daemon_apply():
    async def scenario(simulation):
        with pytest.raises(HypervisorError, match="no electricity"):
            await simulation["a"].suspend(Suspend(vm_name="vm1"), Context("a"))

    simulated(
        cluster_of(("vm1", "a")), scenario, faults=[Fault(kind="error", text="no electricity")]
    )


def test_broken_post_copy_pauses_domain_on_destination():
    faults = [Fault(kind="error", task="migrate", percent=99, begin=30)]

    async def scenario(simulation):
        task = Migrate(
            vm_name="vm1", destination="b", parameter=live(timeout=30, on_timeout="post-copy")
        )
        with pytest.raises(HypervisorError, match="vm1 is paused on b"):
            await simulation["a"].migrate(task, Context("a"))

    simulated(cluster_of(("vm1", "a", BUSY), bandwidth=100, faults=faults), scenario)


# Several at once


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
        assert [str(end) for end in ends] == [
            "None",
            "vm1 is on b, not on a",
            "vm1 is migrating",
        ]

    simulated(cluster_of(("vm1", "a"), bandwidth=100), scenario)


def swapped(description, source="a", **more):
    """Swap big on a with small on b."""

    async def scenario(simulation):
        parameter = live(swap_with=SwapWith(vm_name="small", vcpu_map=[[1]]), vcpu_map=[[2]])
        task = Migrate(vm_name="big", destination="b", parameter=parameter)
        progress = Progress()
        try:
            await simulation["a"].migrate(task, progress.context(**more))
            error = None
            assert simulation.cluster.domain("big").vcpu_map == [[2]]
            assert simulation.cluster.domain("small").vcpu_map == [[1]]
        except HypervisorError as caught:
            error = str(caught)
        return simulation.where("big"), simulation.where("small"), error, now()

    return simulated(description, scenario, call_seconds=0)


def pair(memory, **more):
    return cluster_of(
        ("big", "a", {"memory": 4 * GIB}),
        ("small", "b", {"memory": 2 * GIB}),
        memory=memory * GIB,
        bandwidth=1024,
        **more,
    )


DONE = (("b", "running"), ("a", "running"), None)


def test_swap_runs_in_both_directions_in_parallel():
    *end, seconds = swapped(pair(16))
    assert tuple(end) == DONE
    assert seconds == pytest.approx(4)


def test_swap_shares_half_duplex_link():
    links = [LinkDescription(hosts=["a", "b"], bandwidth=1024, duplex=False)]
    *end, seconds = swapped(pair(16, links=links))
    assert tuple(end) == DONE
    assert seconds == pytest.approx(6, abs=0.5)


@pytest.mark.parametrize(("memory", "seconds"), [(5, 8), (4, 8)])
def test_swap_without_room_saves_smaller_domain(memory, seconds):
    *end, took = swapped(pair(memory))
    assert tuple(end) == DONE
    assert took == pytest.approx(seconds, abs=0.5)


def test_swap_fails_without_any_room():
    description = cluster_of(
        ("big", "a", {"memory": 4 * GIB}),
        ("small", "b", {"memory": 2 * GIB}),
        ("rest", "b", {"memory": 3 * GIB}),
        memory=6 * GIB,
    )
    big, small, error, _ = swapped(description)
    assert (big, small) == (("a", "running"), ("b", "running"))
    assert error == "b has no room for big even without small"


def test_swap_moves_domain_with_room_first():
    description = cluster_of(
        ("big", "a", {"memory": 4 * GIB}),
        ("small", "b", {"memory": 2 * GIB}),
        ("rest", "a", {"memory": 5 * GIB}),
        memory=10 * GIB,
    )
    *end, _ = swapped(description)
    assert tuple(end) == DONE


@pytest.mark.parametrize("memory", [16, 5])
@pytest.mark.parametrize("name", ["big", "small"])
def test_failed_swap_leaves_both_domains_on_their_hosts(memory, name):
    fault = Fault(kind="error", task="migrate", vm_name=name, percent=40)
    big, small, error, _ = swapped(pair(memory, faults=[fault]))
    if memory == 5 and name == "small":  # it was on storage and did not migrate
        assert (big, small, error) == DONE
        return
    assert (big, small) == (("a", "running"), ("b", "running"))
    assert error == (f"the swap failed: {name}: broken off at 40 %; big runs on a; small runs on b")


def test_failed_swap_says_which_domain_arrived():
    fault = Fault(kind="error", task="migrate", vm_name="big", percent=75)
    big, small, error, _ = swapped(pair(16, faults=[fault]))
    assert (big, small) == (("a", "running"), ("a", "running"))
    assert error == "the swap failed: big: broken off at 75 %; big runs on a; small runs on a"


@pytest.mark.parametrize("memory", [16, 5])
def test_cancelled_swap_leaves_both_domains_on_their_hosts(memory):
    async def scenario(simulation):
        cancellation = Cancellation()
        asyncio.get_running_loop().call_later(3, cancellation.cancel)
        parameter = live(swap_with=SwapWith(vm_name="small"), bandwidth_limit=100)
        with pytest.raises(TaskCancelledError, match="big runs on a; small runs on b"):
            await simulation["a"].migrate(
                Migrate(vm_name="big", destination="b", parameter=parameter),
                Context("a", cancellation=cancellation),
            )
        assert simulation.where("big") == ("a", "running")
        assert simulation.where("small") == ("b", "running")

    simulated(pair(memory), scenario)


@pytest.mark.parametrize(
    ("mode", "hosts"), [("auto", "bcbc"), ("compact", "bbbb"), ("scatter", "bcbc")]
)
def test_evacuation_places_by_mode(mode, hosts):
    async def scenario(simulation):
        task = Evacuate(
            destinations=["a", "b", "c"],
            parameter=EvacuateParameter(mode=mode, migration_type="live"),
        )
        results = await simulation["a"].evacuate(task, Context("a"))
        assert [result.status for result in results] == ["success"] * 4
        assert [result.vm_name for result in results] == ["vm0", "vm1", "vm2", "vm3"]
        assert simulation.where("off") == ("a", "shut off")
        nobody = await simulation["a"].evacuate(task, Context("a"))
        assert nobody == "no domain is active on a"
        return "".join(simulation.where(f"vm{i}")[0] for i in range(4))

    domains = [(f"vm{i}", "a") for i in range(4)]
    description = cluster_of(*domains, ("off", "a", {"state": "shut off"}))
    assert simulated(description, scenario) == hosts


def test_evacuation_reports_domains_without_room():
    async def scenario(simulation):
        task = Evacuate(destinations=["b"], parameter=EvacuateParameter(overbooking=False))
        results = await simulation["a"].evacuate(task, Context("a"))
        assert [result.details for result in results] == [
            None,
            "vm1 stays on a: b has no free CPU and overbooking is off",
        ]
        assert simulation.where("vm1") == ("a", "running")

    simulated(cluster_of(("vm0", "a"), ("vm1", "a"), cpus=1), scenario)


def test_evacuation_retries_each_domain():
    faults = [
        Fault(kind="error", task="migrate", vm_name="vm1", percent=10, times=2),
        Fault(kind="error", task="migrate", vm_name="vm2", percent=10),
    ]

    async def scenario(simulation):
        measurement = TimeMeasurement()
        results = await simulation["a"].evacuate(
            Evacuate(destinations=["b"], parameter=EvacuateParameter(retry_counter=2)),
            Context("a", measurement=measurement),
        )
        assert [(result.status, result.details) for result in results] == [
            ("success", "0"),
            ("success", "2"),
            ("error", "vm2 did not migrate to b: broken off at 10 %; vm2 runs on a"),
        ]
        assert {"overall", "migrate", "downtime-vm1"} <= set(results[1].time_measurement.timings)

    simulated(cluster_of(*((f"vm{i}", "a") for i in range(3)), faults=faults), scenario)


def test_evacuation_of_one_domain_moves_only_that():
    async def scenario(simulation):
        task = Evacuate(destinations=["b"], vm_name="vm1")
        (result,) = await simulation["a"].evacuate(task, Context("a"))
        assert (result.vm_name, result.status) == ("vm1", "success")
        assert simulation.where("vm0") == ("a", "running")

    simulated(cluster_of(("vm0", "a"), ("vm1", "a")), scenario)


def test_evacuation_waits_for_migrations_in_progress():
    async def scenario(simulation):
        a = simulation["a"]
        _, results = await asyncio.gather(
            a.migrate(Migrate(vm_name="vm0", destination="b", parameter=LIVE), Context("a")),
            a.evacuate(Evacuate(destinations=["c"]), Context("a")),
        )
        assert [(result.vm_name, result.details) for result in results] == [
            ("vm0", "vm0 has left meanwhile: it runs on b"),
            ("vm1", None),
        ]
        assert simulation.where("vm0") == ("b", "running")
        assert simulation.where("vm1") == ("c", "running")

    simulated(cluster_of(("vm0", "a"), ("vm1", "a"), bandwidth=100), scenario)


def test_stop_by_regex_reports_each_domain():
    async def scenario(simulation):
        results = await simulation["a"].stop(Stop(regex=".*"), Context("a"))
        assert [(result.vm_name, result.details) for result in results] == [
            ("vm0", None),
            ("vm1", "stop fails, as it was planned"),
        ]

    faults = [Fault(kind="error", task="stop", vm_name="vm1")]
    simulated(cluster_of(("vm0", "a"), ("vm1", "a"), faults=faults), scenario)


def test_parallel_evacuations_do_not_share_room():
    async def scenario(simulation):
        task = Evacuate(destinations=["c"], parameter=EvacuateParameter(migration_type="live"))
        ends = await asyncio.gather(
            simulation["a"].evacuate(task, Context("a")),
            simulation["b"].evacuate(task, Context("b")),
        )
        statuses = [result.status for end in ends for result in end]
        assert sorted(statuses) == ["error"] * 2 + ["success"] * 4
        assert simulation.cluster.problems() == []

    domains = [(f"vm{i}", "ab"[i % 2]) for i in range(6)]
    simulated(cluster_of(*domains, memory=4 * GIB), scenario)


# After a restart


def test_recover_reports_outcome_of_each_task():
    tasks = [
        (Start(vm_name="vm1"), Start(vm_name="off")),
        (Stop(vm_name="off"), Stop(vm_name="vm1")),
        (Suspend(vm_name="held"), Suspend(vm_name="vm1")),
        (Resume(vm_name="vm1"), Resume(vm_name="held")),
        (Repin(vm_name="vm1", vcpu_map=[[1]]), Repin(vm_name="vm1", vcpu_map=[[2]])),
        (Migrate(vm_name="moved", destination="b"), Migrate(vm_name="vm1", destination="b")),
    ]

    async def scenario(simulation):
        a = simulation["a"]
        simulation.cluster.repin("vm1", "a", [[1]])
        for done, lost in tasks:
            assert await a.recover(done, Context("a")) == "found done after the daemon's restart"
            with pytest.raises(HypervisorError, match=r"under way; .* on a$"):
                await a.recover(lost, Context("a"))
        stopped = await a.recover(
            Stop(regex=".*"), Context("a", saved_state={"names": ["off", "vm1", "gone"]})
        )
        assert [result.status for result in stopped] == ["success", "error", "success"]
        evacuated = await a.recover(
            Evacuate(destinations=["b"]),
            Context("a", saved_state={"placements": {"moved": "b", "vm1": "b", "held": None}}),
        )
        assert [result.status for result in evacuated] == ["success", "error", "error"]
        with pytest.raises(HypervisorError, match="before the evacuation began"):
            await a.recover(Evacuate(destinations=["b"]), Context("a"))

    simulated(
        cluster_of(
            ("vm1", "a"), ("held", "a", {"state": "paused"}), ("off", "a", {"state": "shut off"}),
            ("moved", "b"),
        ),
        scenario,
    )  # fmt: skip


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


def test_open_refuses_unknown_host():
    async def scenario(simulation):
        with pytest.raises(HypervisorError, match="there is no host z"):
            await simulation.open("z")

    simulated(cluster_of(), scenario)


def test_tasks_fail_before_open():
    async def scenario(simulation):
        await simulation["a"].close()
        with pytest.raises(HypervisorError, match="is not open"):
            await simulation["a"].suspend(Suspend(vm_name="vm1"), Context("a"))

    simulated(cluster_of(("vm1", "a")), scenario)


def test_long_series_is_reproducible():
    """Forty domains driven round three hosts with faults by chance, twice with the same seed."""
    faults = [
        Fault(kind="error", task="migrate", rate=0.2, percent=50),
        Fault(kind="hang", task="migrate", rate=0.1, percent=30, seconds=3),
        Fault(kind="unreachable", host="c", begin=20, until=25),
    ]
    domains = [
        (f"vm{i:02}", "abc"[i % 3], {"dirty_rate": 10 * i, "memory": GIB // 4}) for i in range(40)
    ]
    description = cluster_of(*domains, cpus=16, faults=faults, seed=3)

    async def scenario(simulation: Simulation):
        log = []

        async def drive(host):
            others = [name for name in "abc" if name != host]
            task = Evacuate(
                destinations=others,
                parameter=EvacuateParameter(migration_type="live", timeout=20),
            )
            for _ in range(4):
                outcome = await simulation[host].evacuate(task, Context(host))
                assert simulation.cluster.problems() == []
                log.append((now(), host, repr(outcome)))

        await asyncio.gather(*map(drive, "abc"))
        return log, [(domain.name, domain.host) for domain in simulation.cluster.domains()]

    first = simulated(description, scenario)
    assert first == simulated(description, scenario)
    outcomes = " ".join(outcome for _, _, outcome in first[0])
    assert "broken off at 50 %" in outcomes
    assert "success" in outcomes


# Hosts by other spellings of their names, and domains that leave meanwhile


def test_hosts_are_found_by_each_spelling_of_their_names():
    async def scenario(simulation):
        with pytest.raises(HypervisorError, match="vm1 is on a already"):
            await simulation["a"].migrate(Migrate(vm_name="vm1", destination="A."), Context("a"))
        await simulation["a"].migrate(
            Migrate(vm_name="vm1", destination="B.", parameter=live()), Context("a")
        )
        assert simulation.where("vm1") == ("b", "running")
        names = ["B", "localhost", "b.", "A", "a"]
        (result,) = await simulation["b"].evacuate(Evacuate(destinations=names), Context("b"))
        assert (result.status, simulation.where("vm1")) == ("success", ("a", "running"))

    simulated(cluster_of(("vm1", "a", {})), scenario)
