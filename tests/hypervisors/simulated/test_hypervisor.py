"""Tasks on a simulated cluster that do not migrate, in virtual time, and recovery."""

import asyncio

import msgspec
import pytest

from fastlib import (
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    NodeReport,
    Repin,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
)
from fastlib.message.tasks import Query
from fastlib.migfra.config import file as configuration
from fastlib.migfra.errors import HypervisorError, TaskCancelledError
from fastlib.migfra.hypervisors.simulated import (
    Cluster,
    ClusterDescription,
    ClusterError,
    Fault,
    HostDescription,
    SimulatedHypervisor,
    SimulatedOptions,
    StoragePoolDescription,
)
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.migfra.simulation import (
    GIB,
    Progress,
    Simulation,
    cluster_of,
    live,
    now,
    simulated,
)


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


def test_tasks_of_a_domain_are_executed_one_after_the_other():
    """They run in the order of their arrival, independent of their duration."""

    async def scenario(simulation):
        host, ended = simulation["a"], []

        async def run(name, method, task):
            await method(task, Context("a"))
            ended.append(name)

        start, stop = Start(vm_name="vm1"), Stop(vm_name="vm1")
        await asyncio.gather(
            run("start", host.start, start),
            run("stop", host.stop, stop),
            run("other", host.start, Start(vm_name="vm2", probe_with_ssh=False)),
            run("start again", host.start, start),
            run("suspend", host.suspend, Suspend(vm_name="vm1")),
        )
        assert ended == ["other", "start", "stop", "start again", "suspend"]
        assert simulation.where("vm1") == ("a", "paused")

    off = {"state": "shut off"}
    simulated(cluster_of(("vm1", "a", off), ("vm2", "a", off)), scenario, stop_seconds=30)


def test_starts_and_migrations_at_the_same_time_do_not_together_exceed_the_memory():
    """Each of them alone has room on host a."""
    names = [f"new{number}" for number in range(4)]
    moving = [f"old{number}" for number in range(4)]

    async def scenario(simulation):
        orders = [
            *(
                simulation["a"].start(Start(vm_name=name, memory=5 * GIB), Context("a"))
                for name in names
            ),
            *(
                simulation["b"].migrate(
                    Migrate(vm_name=name, destination="a", parameter=live()), Context("b")
                )
                for name in moving
            ),
        ]
        ends = await asyncio.gather(*orders, return_exceptions=True)
        assert simulation.cluster.problems() == []
        assert {domain.memory for domain in simulation.cluster.domains("a")} == {5 * GIB}
        return [domain.name for domain in simulation.cluster.domains("a") if domain.active], ends

    domains = [(name, "c", {"state": "shut off", "memory": 5 * GIB}) for name in names]
    domains += [(name, "b", {"memory": 5 * GIB}) for name in moving]
    hosts = [
        HostDescription(name=name, cpus=16, memory=size * GIB)
        for name, size in (("a", 16), ("b", 64), ("c", 64))
    ]
    description = msgspec.structs.replace(cluster_of(*domains), hosts=hosts)
    active, ends = simulated(description, scenario)
    assert len(active) == 3
    refused = [str(end) for end in ends if isinstance(end, HypervisorError)]
    assert len(refused) == 5
    assert all("of memory free" in each for each in refused), refused


def test_task_that_waits_for_another_one_can_be_cancelled():
    async def scenario(simulation):
        first = asyncio.create_task(simulation["a"].start(Start(vm_name="vm1"), Context("a")))
        cancellation = Cancellation()
        waiting = asyncio.create_task(
            simulation["a"].stop(Stop(vm_name="vm1"), Context("a", cancellation=cancellation))
        )
        await asyncio.sleep(1)
        cancellation.cancel()
        with pytest.raises(TaskCancelledError):
            await waiting
        await first
        assert simulation.where("vm1") == ("a", "running")

    simulated(cluster_of(("vm1", "a", {"state": "shut off"})), scenario, start_seconds=30)


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
            "must be shut off on . for an offline migration",
        ),
        (
            Migrate(
                vm_name="vm2",
                destination="b",
                parameter=MigrateParameter(
                    migration_type="offline", swap_with=SwapWith(vm_name="vm1")
                ),
            ),
            "migration-type: offline does not work with swap-with",
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
            "parallel-connections does not work with compression: xbzrle",
        ),
        (
            Evacuate(destinations=["b"], parameter=EvacuateParameter(on_timeout="post-copy")),
            "migration-type: warm does not work with on-timeout: post-copy",
        ),
        (
            Evacuate(destinations=["b"], parameter=EvacuateParameter(migration_type="offline")),
            "running domains do not migrate offline",
        ),
        (
            Migrate(vm_name="vm2", destination="b", parameter=live(pscom_hook_procs="-1")),
            "pscom-hook-procs must be a count or auto, not '-1'",
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


def test_query_shows_the_declared_hardware():
    async def scenario(simulation):
        report = await simulation["a"].query(Query(), Context("a"))
        assert report.cpu_model == "Skylake-Server"
        nodes = [
            (node.id, list(node.cpus), node.memory, node.free_memory) for node in report.numa_nodes
        ]
        assert nodes == [
            (0, [0, 1, 2, 3], 8 * GIB, 7 * GIB + GIB // 2),
            (1, [4, 5, 6, 7], 8 * GIB, 7 * GIB + GIB // 2),
        ]
        assert [(each.size, each.total, each.free) for each in report.huge_pages] == [(2048, 0, 0)]
        (pool,) = report.storage_pools
        assert (pool.name, pool.path, pool.state) == (
            "default",
            "/var/lib/libvirt/images",
            "running",
        )
        assert pool.capacity > pool.free > 0

    simulated(cluster_of(("vm1", "a")), scenario)


def test_description_of_a_host_has_its_hardware(tmp_path):
    pools = [
        StoragePoolDescription(name="slow", path="/slow", capacity=100, free=0),
        StoragePoolDescription(name="fast", path="/fast", capacity=10),
    ]
    host = HostDescription(
        name="a", cpus=5, memory=11, numa_nodes=3, cpu_model="EPYC", storage_pools=pools
    )
    options = SimulatedOptions(
        file=str(tmp_path / "cluster"), create=ClusterDescription(hosts=[host])
    )

    async def query(options: SimulatedOptions) -> NodeReport:
        hypervisor = SimulatedHypervisor(options, NodeContext("a"))
        await hypervisor.open()
        try:
            return await hypervisor.query(Query(), Context("a"))
        finally:
            await hypervisor.close()

    asyncio.run(query(options))
    # Another process knows only the file.
    report = asyncio.run(query(SimulatedOptions(file=options.file)))
    assert report.cpu_model == "EPYC"
    assert [list(node.cpus) for node in report.numa_nodes] == [[0], [1, 2], [3, 4]]
    assert [node.memory for node in report.numa_nodes] == [3, 4, 4]
    assert [(pool.name, pool.capacity, pool.free) for pool in report.storage_pools] == [
        ("fast", 10, 10),
        ("slow", 100, 0),
    ]


@pytest.mark.parametrize(
    ("pools", "reason"),
    [
        ([("p", 1, None), ("p", 2, None)], "two storage pools of a have the same name"),
        ([("p", 1, 2)], "the storage pool p of a has 2 MiB free, but only 1 MiB in total"),
    ],
)
def test_contradictory_pools_are_refused(pools, reason):
    described = [
        StoragePoolDescription(name=name, path="/", capacity=capacity, free=free)
        for name, capacity, free in pools
    ]
    host = HostDescription(name="a", storage_pools=described)
    with pytest.raises(ClusterError, match=reason):
        Cluster(ClusterDescription(hosts=[host]))


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
    assert "(cluster) or in a file, not both" in str(both.errors[0])


def test_stop_by_regex_reports_each_domain():
    async def scenario(simulation):
        results = await simulation["a"].stop(Stop(regex=".*"), Context("a"))
        assert [(result.vm_name, result.details) for result in results] == [
            ("vm0", None),
            ("vm1", "stop failed by a planned fault"),
        ]

    faults = [Fault(kind="error", task="stop", vm_name="vm1")]
    simulated(cluster_of(("vm0", "a"), ("vm1", "a"), faults=faults), scenario)


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
    """Forty domains move among three hosts with random faults, twice with the same seed."""
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
            with pytest.raises(HypervisorError, match=r"in progress; .* on a$"):
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
