"""Every message through its constructor: what is taken, what is refused, what is made the same."""

import copy
import enum
import itertools
import math
import pickle
from pathlib import Path

import msgspec
import pytest

import fastlib
from fastlib import (
    Cancel,
    DeviceIvshmem,
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    MigrationOptions,
    PciAddress,
    PciId,
    Query,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
    TaskContainer,
    TimeMeasurement,
    Timing,
    ValidationError,
)
from fastlib.message.agent import (
    Configuration,
    Init,
    InitAgent,
    JobDescription,
    KpiReport,
    Kpis,
    StopMonitoring,
)
from fastlib.message.application import ApplicationStatus
from fastlib.message.mmbwmon import Reply, Request, Restart, SystemInfo
from fastlib.message.mmbwmon import Stop as StopGroup
from fastlib.message.node import NodeReport, NodeResult, Presence, Progress
from fastlib.message.pscom import PscomRequest


def refusal(build):
    """The paths and messages of the problems for which a message cannot be built."""
    with pytest.raises(ValidationError) as caught:
        build()
    return [(problem.path, problem.message) for problem in caught.value.problems]


def found(text, type=None):
    """The severity, code and path of each problem of a text."""
    report = fastlib.validate(text, type)
    return [(problem.severity, problem.code, problem.path) for problem in report.problems]


def job(**kwargs):
    return JobDescription(**{"job_id": "1", "process_id": 1} | kwargs)


def info(**kwargs):
    return SystemInfo(**{"threads": 1, "smt": 1, "numa": 1, "bandwidth": []} | kwargs)


def report(**kwargs):
    return NodeReport(**{"host": "a", "hypervisor": "b"} | kwargs)


# --- construction -------------------------------------------------------------------------------


def test_members_are_given_by_keyword():
    with pytest.raises(TypeError):
        Suspend("vm1")


def test_an_unknown_or_missing_member_is_a_type_error():
    with pytest.raises(TypeError, match="'vm'"):
        Suspend(vm="vm1")
    with pytest.raises(TypeError, match="'vm_name'"):
        Suspend()


def test_a_message_does_not_change():
    message = Suspend(vm_name="vm1")
    with pytest.raises(AttributeError):
        message.vm_name = "vm2"
    assert message.vm_name == "vm1"


VALUES = [
    Start(vm_name="a", vcpu_map=[[1]], devs=[PciAddress(bus=1, device=2, function=3)]),
    TaskContainer(tasks=[Migrate(vm_name="a", destination="b")], id="1"),
    Result(
        vm_name="a",
        status="error",
        time_measurement=TimeMeasurement({"overall": Timing(wall=1, started=0, stopped=1)}),
    ),
    PscomRequest(request="suspend"),
]


@pytest.mark.parametrize("message", VALUES, ids=lambda m: type(m).__name__)
def test_equal_messages_are_interchangeable(message):
    for other in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert other == message
        assert hash(other) == hash(message)
        assert other.to_yaml() == message.to_yaml()


def test_messages_of_different_types_differ():
    assert Suspend(vm_name="a") != Resume(vm_name="a")


def test_a_changed_copy_is_checked_as_well():
    start = Start(vm_name="a")
    assert msgspec.structs.replace(start, vcpus=2) == Start(vm_name="a", vcpus=2)
    assert refusal(lambda: msgspec.structs.replace(start, vcpus=-1))[0][0] == "vcpus"


def test_repr_shows_what_is_given_only():
    text = NodeResult.from_yaml("vm-name: n/a\nstatus: error")
    assert repr(text) == repr(NodeResult(status="error")) == "NodeResult(status='error')"
    assert repr(Stop(vm_name="a", force=True)) == "Stop(vm_name='a', force=True)"


U16, U32, U64 = 2**16 - 1, 2**32 - 1, 2**64 - 1

INTEGERS = [
    (lambda value: PciId(vendor=value, device=1).vendor, "vendor", U16),
    (lambda value: PciId(vendor=1, device=value).device, "device", U16),
    (lambda value: Start(vm_name="a", vcpus=value).vcpus, "vcpus", U32),
    (lambda value: Start(vm_name="a", memory=value).memory, "memory", U64),
    (lambda value: MigrateParameter(retry_counter=value).retry_counter, "retry_counter", U32),
    (lambda value: EvacuateParameter(retry_counter=value).retry_counter, "retry_counter", U32),
    (lambda value: MigrateParameter(bandwidth_limit=value).bandwidth_limit, "bandwidth-limit", U32),
    (lambda value: EvacuateParameter(max_downtime=value).max_downtime, "max-downtime", U32),
    (lambda value: MigrateParameter(timeout=value).timeout, "timeout", U32),
    (lambda value: Progress(task="a", phase="b", total=value).total, "total", U64),
    (lambda value: report(memory=value).memory, "memory", U64),
    (lambda value: report(cpus=value).cpus, "cpus", U32),
    (lambda value: Repin(vm_name="a", vcpu_map=[[value]]).vcpu_map[0][0], "vcpu-map[0][0]", U32),
    (
        lambda value: Start(vm_name="a", memnode_map=[[0], [1, value]]).memnode_map[1][1],
        "memnode-map[1][1]",
        U32,
    ),
    (
        lambda value: SwapWith(vm_name="a", vcpu_map=[[], [value]]).vcpu_map[1][0],
        "vcpu-map[1][0]",
        U32,
    ),
    (lambda value: job(process_id=value).process_id, "process-id", U32),
    (lambda value: Kpis(categories={}, repeat=value).repeat, "repeat", U32),
    (
        lambda value: Result(vm_name="a", status="error", process_id=value).process_id,
        "process-id",
        U64,
    ),
    (lambda value: Request(cores=[0, value]).cores[1], "cores[1]", U64),
    (lambda value: Reply(cores=[value], result=1.0).cores[0], "cores[0]", U64),
    (lambda value: info(threads=value).threads, "threads", U64),
    (lambda value: info(smt=value).smt, "smt", U64),
    (lambda value: info(numa=value).numa, "numa", U64),
    (lambda value: PciAddress(domain=value, bus=1, device=1, function=1).domain, "domain", U16),
    (lambda value: PciAddress(bus=value, device=1, function=1).bus, "bus", 0xFF),
    (lambda value: PciAddress(bus=1, device=value, function=1).device, "device", 0x1F),
    (lambda value: PciAddress(bus=1, device=1, function=value).function, "function", 0x7),
]


@pytest.mark.parametrize(("build", "path", "largest"), INTEGERS)
def test_integers_have_the_range_of_the_protocol(build, path, largest):
    for value in (0, 1, largest):
        assert build(value) == value
    for value in (-1, largest + 1, 2**70, True, 1.0, "1", b"1", [1]):
        [(where, message)] = refusal(lambda value=value: build(value))
        assert where == path
        assert message.startswith("expected an integer from 0")


def test_an_integer_of_a_derived_type_is_stored_as_an_integer():
    class Size(enum.IntEnum):
        SMALL = 2

    start = Start(vm_name="a", vcpus=Size.SMALL, vcpu_map=[[Size.SMALL]])
    assert type(start.vcpus) is int
    assert type(start.vcpu_map[0][0]) is int
    assert start == Start(vm_name="a", vcpus=2, vcpu_map=[[2]])


TEXTS = [
    (lambda value: Start(vm_name=value, xml="<domain/>"), "vm-name"),
    (lambda value: Start(xml=value, vm_name="a"), "xml"),
    (lambda value: Start(vm_name="a", probe_hostname=value), "probe-hostname"),
    (lambda value: Stop(vm_name="a", regex=value), "regex"),
    (lambda value: Suspend(vm_name=value), "vm-name"),
    (lambda value: Suspend(vm_name="a", driver=value), "driver"),
    (lambda value: Migrate(vm_name="a", destination=value), "destination"),
    (lambda value: MigrateParameter(pscom_hook_procs=value), "pscom-hook-procs"),
    (lambda value: MigrateParameter(transport=value), "transport"),
    (lambda value: MigrateParameter(compression=value), "compression"),
    (lambda value: Evacuate(destinations=["a", value]), "destinations[1]"),
    (lambda value: Cancel(id=value), "id"),
    (lambda value: report(versions={"a": value}), "versions.a"),
    (lambda value: Progress(task="a", phase=value), "phase"),
    (lambda value: Progress(task=value, phase="a"), "title"),
    (lambda value: DeviceIvshmem(id=value, size="1"), "id"),
    (lambda value: DeviceIvshmem(id="a", size=value), "size"),
    (lambda value: DeviceIvshmem(id="a", size="1", path=value), "path"),
    (lambda value: Result(vm_name=value, status="error"), "vm-name"),
    (lambda value: Result(vm_name="a", status="error", details=value), "details"),
    (lambda value: ResultContainer(result=value, results=[]), "result"),
    (lambda value: TaskContainer(tasks=[Quit()], id=value), "id"),
    (lambda value: TaskContainer(tasks=[Quit()], host=value), "host"),
    (lambda value: Init(hostname=value), "hostname"),
    (lambda value: Kpis(categories={"a": value}, repeat=1), "categories.a"),
    (lambda value: job(job_id=value), "job-id"),
    (lambda value: Configuration(source=value, status="denied"), "source"),
    (lambda value: ApplicationStatus(source="a", supported_kpi=[value]), "supported_KPI[0]"),
    (lambda value: StopGroup(cgroup=value), "cgroup"),
    (lambda value: Restart(cgroup=value), "cgroup"),
]


@pytest.mark.parametrize(("build", "path"), TEXTS)
def test_text_is_text(build, path):
    for value in (1, 1.5, True, b"bytes", ["list"], {"a": "b"}, Path("path")):
        [(where, message)] = refusal(lambda value=value: build(value))
        assert where == path
        assert message.startswith("expected text; got ")
    # No encoding can say a lone surrogate, and so no peer could be told.
    assert refusal(lambda: build("a\ud800b"))[0] == (
        path,
        "expected text without lone surrogates; got 'a\\ud800b'",
    )


def test_text_of_a_derived_type_is_stored_as_text():
    class Name(str):
        __slots__ = ()

    for text in ("plain", "schön"):
        assert type(Suspend(vm_name=Name(text)).vm_name) is str


BOOLEANS = [
    (lambda value: Suspend(vm_name="a", concurrent_execution=value), "concurrent-execution"),
    (lambda value: Suspend(vm_name="a", time_measurement=value), "time-measurement"),
    (lambda value: Start(xml="<domain/>", transient=value), "transient"),
    (lambda value: Start(vm_name="a", probe_with_ssh=value), "probe-with-ssh"),
    (lambda value: Stop(vm_name="a", force=value), "force"),
    (lambda value: Stop(vm_name="a", undefine=value), "undefine"),
    (lambda value: MigrateParameter(rdma_migration=value), "rdma-migration"),
    (lambda value: EvacuateParameter(rdma_migration=value), "rdma-migration"),
    (lambda value: EvacuateParameter(overbooking=value), "overbooking"),
    (lambda value: EvacuateParameter(auto_converge=value), "auto-converge"),
    (lambda value: TaskContainer(tasks=[], task="stop vm", concurrent_execution=value),
     "concurrent-execution"),
    (lambda value: ApplicationStatus(source="a", migration=value), "migration"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "path"), BOOLEANS)
def test_only_a_boolean_is_a_boolean(build, path):
    for value in (True, False, None):
        build(value)
    for value in (0, 1, "true", "", []):
        assert refusal(lambda value=value: build(value)) == [
            (path, f"expected true or false; got {value!r}")
        ]


CHOICES = [
    (lambda value: MigrateParameter(migration_type=value), "migration-type",
     ["live", "warm", "offline"]),
    (lambda value: EvacuateParameter(migration_type=value), "migration-type",
     ["live", "warm", "offline"]),
    (lambda value: MigrateParameter(on_timeout=value), "on-timeout",
     ["abort", "pause", "post-copy"]),
    (lambda value: Presence(status=value), "status", ["online", "offline"]),
    (lambda value: EvacuateParameter(mode=value), "mode", ["auto", "compact", "scatter"]),
    (lambda value: Result(vm_name="a", status=value), "status", ["success", "error"]),
    (lambda value: Configuration(source="a", status=value), "status", ["accepted", "denied"]),
    (lambda value: PscomRequest(request=value), "request", ["suspend", "resume"]),
]  # fmt: skip


@pytest.mark.parametrize(("build", "path", "words"), CHOICES)
def test_closed_sets_are_closed(build, path, words):
    for word in words:
        build(word)
    # Not even another case of a word, and nothing that cannot be hashed.
    for value in (words[0].upper(), f"{words[0]} ", "", 1, True, [words[0]], {}):
        [(where, message)] = refusal(lambda value=value: build(value))
        assert message == f"expected one of {', '.join(words)}; got {value!r}"
        assert where == path


NUMBERS = [
    (lambda value: Timing(wall=value).wall, "wall"),
    (lambda value: Timing(wall=0, started=value, stopped=1).started, "started"),
    (lambda value: Reply(cores=[], result=value).result, "result"),
    (lambda value: info(bandwidth=[1.5, value]).bandwidth[1], "bandwidth[1]"),
    (lambda value: Progress(task="a", phase="b", percent=value).percent, "percent"),
]


@pytest.mark.parametrize(("build", "path"), NUMBERS)
def test_numbers(build, path):
    for value in (0.5, -1.5, math.inf, 3):
        assert build(value) == value
        assert type(build(value)) is float
    for value in ("1.5", True, [1.5], 10**400):
        [(where, message)] = refusal(lambda value=value: build(value))
        assert where == path
        assert message.startswith("expected a number; got ")


def test_a_message_with_a_nan_equals_itself():
    # Whatever made the nan: of one text the same message is read twice.
    one, other = math.nan, float("-nan")
    assert one is not other
    assert Reply(cores=[], result=one) == Reply(cores=[], result=other)
    assert info(bandwidth=[one]) == info(bandwidth=[other])
    assert Reply.from_yaml(Reply(cores=[], result=one).to_yaml()) == Reply(cores=[], result=one)


LISTS = [
    (lambda value: Evacuate(destinations=value), "destinations"),
    (lambda value: Repin(vm_name="a", vcpu_map=value), "vcpu-map"),
    (lambda value: Start(vm_name="a", memnode_map=value), "memnode-map"),
    (lambda value: Start(vm_name="a", pci_ids=value), "pci-ids"),
    (lambda value: Start(vm_name="a", devs=value), "devs"),
    (lambda value: ResultContainer(result="vm started", results=value), "results"),
    (lambda value: ResultContainer(result="node queried", results=value), "results"),
    (lambda value: report(domains=value), "domains"),
    (lambda value: Request(cores=value), "cores"),
    (lambda value: ApplicationStatus(source="a", supported_kpi=value), "supported_KPI"),
]


@pytest.mark.parametrize(("build", "path"), LISTS)
def test_a_list_is_a_sequence_and_no_text(build, path):
    for value in ("text", b"bytes", {"set"}, {"a": 1}, iter(["a"]), 1):
        [(where, message)] = refusal(lambda value=value: build(value))
        assert where == path
        assert message.startswith("expected a list; got ")


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Repin(vm_name="a", vcpu_map=[1]), ("vcpu-map[0]", "expected a list; got 1")),
        (lambda: Repin(vm_name="a", vcpu_map=["01"]), ("vcpu-map[0]", "expected a list; got '01'")),
        (lambda: Start(vm_name="a", pci_ids=[1]), ("pci-ids[0]", "expected a PciId; got 1")),
        (lambda: Start(vm_name="a", devs=["0:1.2"]),
         ("devs[0]", "expected a PciAddress; got '0:1.2'")),
        (lambda: Start(vm_name="a", ivshmem={}),
         ("ivshmem", "expected a DeviceIvshmem; got {}")),
        (lambda: Migrate(vm_name="a", destination="b", parameter={}),
         ("parameter", "expected a MigrateParameter; got {}")),
        (lambda: Migrate(vm_name="a", destination="b", parameter=EvacuateParameter()),
         ("parameter", "expected a MigrateParameter; got EvacuateParameter()")),
        (lambda: MigrateParameter(swap_with="vm2"),
         ("swap-with", "expected a SwapWith; got 'vm2'")),
        (lambda: Result(vm_name="a", status="error", time_measurement={}),
         ("time-measurement", "expected a TimeMeasurement; got {}")),
        (lambda: ResultContainer(result="vm started", results=[Quit()]),
         ("results[0]", "expected a Result; got Quit()")),
        (lambda: ResultContainer(result="node queried", results=[Quit()]),
         ("results[0]", "expected a NodeResult; got Quit()")),
        (lambda: ResultContainer(result="vm started", results=[NodeResult(status="error")]),
         ("results[0]", "expected a Result; got NodeResult(status='error')")),
        (lambda: NodeResult(status="success", node={}),
         ("node", "expected a NodeReport; got {}")),
        (lambda: MigrateParameter(parallel_connections=0),
         ("parallel-connections", "expected an integer from 1 to 4294967295; got 0")),
        (lambda: InitAgent(kpi={}), ("KPI", "expected a Kpis; got {}")),
        (lambda: StopMonitoring(job_description="1"),
         ("job-description", "expected a JobDescription; got '1'")),
        (lambda: Kpis(categories=[("a", "b")], repeat=1),
         ("categories", "expected a mapping; got [('a', 'b')]")),
        (lambda: Kpis(categories={1: "b"}, repeat=1),
         ("categories.1", "expected text; got 1")),
        (lambda: KpiReport(source="a", kpis=object),
         ("KPIS", "expected text, a list or a mapping; got <class 'object'>")),
    ],
)  # fmt: skip
def test_a_value_of_another_kind(build, problem):
    assert refusal(build) == [problem]


@pytest.mark.parametrize(
    ("build", "path"),
    [
        (lambda: Suspend(vm_name=None), "vm-name"),
        (lambda: Migrate(vm_name="a", destination=None), "destination"),
        (lambda: Evacuate(destinations=None), "destinations"),
        (lambda: Result(vm_name="a", status=None), "status"),
        (lambda: Reply(cores=[], result=None), "result"),
        (lambda: InitAgent(kpi=None), "KPI"),
        (lambda: KpiReport(source="a", kpis=None), "KPIS"),
        (lambda: TaskContainer(tasks=None), "tasks"),
        (lambda: ResultContainer(result="a", results=None), "results"),
        (lambda: PscomRequest(request=None), "request"),
    ],
)
def test_required_fields_cannot_be_absent(build, path):
    [(where, message)] = refusal(build)
    assert where == path
    assert message.endswith("; got None")


@pytest.mark.parametrize(
    ("build", "problems"),
    [
        (lambda: Start(), [("", "needs vm-name or xml")]),
        (lambda: Start(vcpus=1), [("", "needs vm-name or xml")]),
        (lambda: Start(vm_name="a", transient=True), [("transient", "needs xml")]),
        (lambda: Start(transient=True),
         [("", "needs vm-name or xml"), ("transient", "needs xml")]),
        (lambda: Stop(), [("", "needs vm-name or regex")]),
        (lambda: Stop(force=True), [("", "needs vm-name or regex")]),
        (lambda: Timing(wall=1, started=1), [("", "needs started and stopped together, "
                                                  "or none of them")]),
        (lambda: Timing(wall=1, stopped=1), [("", "needs started and stopped together, "
                                                  "or none of them")]),
    ],
)  # fmt: skip
def test_rules_between_fields(build, problems):
    assert refusal(build) == problems


def test_rules_that_are_kept():
    assert Start(xml="<domain/>", transient=True).transient is True
    assert Start(vm_name="a", transient=False).transient is False
    assert Start(vm_name="a", xml="<domain/>").vm_name == "a"
    assert Stop(regex="vm.*").vm_name is None
    assert Stop(vm_name="a", regex="vm.*").regex == "vm.*"
    assert Timing(wall=1, started=0, stopped=1).stopped == 1


@pytest.mark.parametrize(
    ("type", "text", "rule"),
    [
        (Start, "vcpus: 1", ("error", "rule", "")),
        (Start, "{vm-name: a, transient: yes}", ("error", "rule", "transient")),
        (Stop, "force: true", ("error", "rule", "")),
        (TaskContainer, "task: stop vm\nlist:\n  - force: true", ("error", "rule", "list[0]")),
        (TaskContainer, "task: start vm\nvm-configurations:\n  - xml: a\n  - {vm-name: b, "
         "transient: y}", ("error", "rule", "vm-configurations[1].transient")),
    ],
)  # fmt: skip
def test_rules_hold_for_what_is_read_as_well(type, text, rule):
    assert found(text, type) == [rule]
    with pytest.raises(ValidationError):
        type.from_yaml(text)


def test_every_problem_is_told_at_once():
    with pytest.raises(ValidationError) as caught:
        Start(
            vm_name=1,
            vcpus=-1,
            memory=2**64,
            pci_ids=[PciId(vendor=1, device=2), "x"],
            vcpu_map=[[0], [1, 2**32]],
            probe_with_ssh="no",
        )
    error = caught.value
    assert error.what == "Start"
    assert [(problem.path, problem.got) for problem in error.problems] == [
        ("vm-name", "1"),
        ("vcpus", "-1"),
        ("memory", "18446744073709551616"),
        ("pci-ids[1]", "'x'"),
        ("vcpu-map[1][1]", "4294967296"),
        ("probe-with-ssh", "'no'"),
    ]
    assert {problem.line for problem in error.problems} == {None}
    assert str(error).splitlines()[0] == "Start: 6 problems"
    assert "  vcpus: expected an integer from 0 to 4294967295; got -1" in str(error).splitlines()


# --- containers ---------------------------------------------------------------------------------

TITLES = [
    (Start(vm_name="a"), "start vm", "vm started"),
    (Stop(vm_name="a"), "stop vm", "vm stopped"),
    (Migrate(vm_name="a", destination="b"), "migrate vm", "vm migrated"),
    (Evacuate(destinations=["b"]), "evacuate node", "node evacuated"),
    (Repin(vm_name="a", vcpu_map=[[0]]), "repin vm", "vm repinned"),
    (Suspend(vm_name="a"), "suspend vm", "vm suspended"),
    (Resume(vm_name="a"), "resume vm", "vm resumed"),
    (Quit(), "quit", "quit"),
    (Cancel(id="7"), "cancel task", "task cancelled"),
]


@pytest.mark.parametrize(("member", "title", "answer"), TITLES)
def test_the_members_type_gives_the_titles(member, title, answer):
    container = TaskContainer(tasks=[member], id="7")
    assert container.task == title
    assert container == TaskContainer(task=title, tasks=[member], id="7")
    result = Result(vm_name="a", status="success")
    answered = ResultContainer.answer(container, [result])
    assert answered == ResultContainer(result=answer, results=[result], id="7")


def test_the_answer_to_a_query_may_be_a_plain_result():
    container = TaskContainer(tasks=[Query()], id="7")
    plain = Result(
        vm_name="n/a",
        status="error",
        details="no",
        time_measurement=TimeMeasurement({"overall": Timing(wall=1)}),
        process_id=1,
    )
    [result] = ResultContainer.answer(container, [plain]).results
    assert type(result) is NodeResult
    assert result.node is None
    assert all(getattr(result, name) == getattr(plain, name) for name in plain.__struct_fields__)
    assert result == NodeResult(
        status="error", details="no", time_measurement=plain.time_measurement, process_id=1
    )
    # Which is how it comes back.
    answer = ResultContainer.answer(container, [result])
    assert ResultContainer.load(answer.emit()) == answer == fastlib.load(answer.to_yaml())


def test_a_report_without_domains_has_none():
    assert report().domains == report().tasks == ()
    assert report() == report(domains=[], tasks=[])
    assert NodeReport.from_yaml("host: a\nhypervisor: b") == report()


OPTIONS = {
    "retry_counter": 1,
    "migration_type": "live",
    "rdma_migration": False,
    "pscom_hook_procs": "auto",
    "transport": "ssh",
    "bandwidth_limit": 1,
    "max_downtime": 2,
    "timeout": 3,
    "on_timeout": "pause",
    "auto_converge": True,
    "parallel_connections": 4,
    "compression": "zlib",
}


def test_a_migration_and_an_evacuation_have_the_same_options():
    assert MigrationOptions.__struct_fields__ == tuple(OPTIONS)
    options = MigrationOptions(**OPTIONS).emit()
    for kind in (MigrateParameter, EvacuateParameter):
        assert issubclass(kind, MigrationOptions)
        assert kind(**OPTIONS).emit() == options
        assert list(kind(**OPTIONS).emit()) == list(options)
    # What each has beyond them stands where the C++ peers have it.
    assert list(EvacuateParameter(**OPTIONS, overbooking=True, mode="auto").emit()) == [
        "mode", "overbooking", *options,
    ]  # fmt: skip
    migrate = MigrateParameter(**OPTIONS, vcpu_map=[], swap_with=SwapWith(vm_name="a"))
    assert list(migrate.emit()) == [*options, "swap-with", "vcpu-map"]


def test_an_answer_takes_any_iterable_and_no_id_of_its_own():
    container = TaskContainer(tasks=[Stop(regex=".*")])
    results = (Result(vm_name=name, status="success") for name in "ab")
    answered = ResultContainer.answer(container, results)
    assert [result.vm_name for result in answered.results] == ["a", "b"]
    assert answered.id is None


@pytest.mark.parametrize(
    ("build", "path", "words"),
    [
        (lambda: TaskContainer(tasks=[Stop(vm_name="a"), Suspend(vm_name="a")]), "tasks",
         "all members of a container are of one type; got Stop, Suspend"),
        (lambda: TaskContainer(task="start vm", tasks=[Stop(vm_name="a")]), "task",
         "expected 'stop vm', the members' title"),
        (lambda: TaskContainer(task=1, tasks=[Stop(vm_name="a")]), "task",
         "expected 'stop vm', the members' title"),
        (lambda: TaskContainer(tasks=[Task()]), "tasks",
         "Task is not declared as a task with a title"),
        (lambda: TaskContainer(tasks=["quit"]), "tasks",
         "str is not declared as a task with a title"),
        (lambda: TaskContainer(tasks="quit"), "tasks", "expected a list of tasks; got 'quit'"),
        (lambda: TaskContainer(tasks=Quit()), "tasks", "expected a list of tasks; got Quit()"),
        (lambda: TaskContainer(tasks=[Quit(), Quit()]), "tasks",
         "quit takes exactly one member; got 2"),
        (lambda: TaskContainer(tasks=[Repin(vm_name="a", vcpu_map=[])] * 2), "tasks",
         "repin vm takes exactly one member; got 2"),
        (lambda: TaskContainer(task="migrate vm", tasks=[]), "tasks",
         "migrate vm takes exactly one member; got 0"),
        (lambda: ResultContainer(result="vm migrated", results=[]), "results",
         "vm migrated has exactly one result; got 0"),
        (lambda: ResultContainer(result="vm migrated",
                                 results=[Result(vm_name="a", status="error")] * 2), "results",
         "vm migrated has exactly one result; got 2"),
    ],
)  # fmt: skip
def test_containers_that_cannot_be(build, path, words):
    assert refusal(build) == [(path, words)]


@pytest.mark.parametrize("title", ["", "no such task", "Start vm", 1, None, ["quit"]])
def test_a_container_without_members_needs_a_known_title(title):
    [(path, message)] = refusal(lambda: TaskContainer(task=title, tasks=[]))
    assert path == "task"
    assert message.startswith("expected one of " if title != "" else "give the title")
    assert "start vm" in message
    if title != "":
        assert message.endswith(f"got {title!r}")


def test_a_list_may_be_empty():
    # That is an error when it is executed, and one that the result can tell.
    container = TaskContainer(task="stop vm", tasks=[])
    assert container.to_yaml() == "---\ntask: stop vm\nlist: []\n---"
    assert TaskContainer.from_yaml(container.to_yaml()) == container
    assert ResultContainer.from_yaml("result: vm stopped\nlist: []").results == ()


@pytest.mark.parametrize(
    ("member", "outer"), list(itertools.product([None, True, False], [None, True, False]))
)
def test_an_inline_member_shares_concurrent_execution(member, outer):
    container = TaskContainer(
        tasks=[Migrate(vm_name="a", destination="b", concurrent_execution=member)],
        concurrent_execution=outer,
    )
    # The wire has one key for both; the member's word is the nearer one.
    shared = outer if member is None else member
    assert container.concurrent_execution is shared
    assert container.tasks[0].concurrent_execution is shared
    assert container.emit().get("concurrent-execution") is shared
    assert container.to_yaml().count("concurrent-execution") == (shared is not None)
    assert TaskContainer.from_yaml(container.to_yaml()) == container
    assert TaskContainer.load(container.emit()) == container


@pytest.mark.parametrize(
    ("member", "outer"), list(itertools.product([None, True, False], [None, True, False]))
)
def test_a_member_in_a_list_has_its_own_concurrent_execution(member, outer):
    container = TaskContainer(
        tasks=[Suspend(vm_name="a", concurrent_execution=member)], concurrent_execution=outer
    )
    assert container.concurrent_execution is outer
    assert container.tasks[0].concurrent_execution is member
    assert TaskContainer.from_yaml(container.to_yaml()) == container
    assert TaskContainer.load(container.emit()) == container


@pytest.mark.parametrize(
    "text",
    [
        "task: quit",
        "---\ntask: quit\n...\n",
        "---\ntask: quit\n---",
        "task: quit\nlist:\n  - ~\n",
        "task: quit\nlist:\n  -\n",
        "task: quit\nlist:\n  - null",
        "task: quit\nlist:\n  - {}",
        "{task: quit, list: [~]}",
        "list: [null]\ntask: quit",
    ],
)
def test_quit_is_spelled_both_ways_and_written_inline(text):
    container = TaskContainer.from_yaml(text)
    assert container == TaskContainer(tasks=[Quit()])
    assert container.to_yaml() == "---\ntask: quit\n---"
    assert fastlib.validate(text).problems == ()


def test_a_quit_in_a_list_keeps_what_it_says():
    inline = TaskContainer(tasks=[Quit(concurrent_execution=False, driver="qemu")], id="1")
    assert TaskContainer.from_yaml(inline.to_yaml()) == inline
    listed = (
        "task: quit\nlist:\n  - concurrent-execution: false\n    driver: qemu\nid: 1\n",
        "task: quit\nconcurrent-execution: false\nlist:\n  - driver: qemu\nid: 1\n",
    )
    for text in listed:
        assert TaskContainer.from_yaml(text) == inline
    assert TaskContainer.load({"task": "quit", "list": [None]}) == TaskContainer(tasks=[Quit()])


@pytest.mark.parametrize("text", ["task: quit\nlist: []", "task: quit\nlist: [~, ~]"])
def test_quit_is_one_member(text):
    assert found(text) == [("error", "type", "list")]


def test_a_null_is_an_empty_member_in_every_list():
    # So that the problem is what the member needs, not what it is.
    assert found("task: stop vm\nlist:\n  - ~") == [("error", "rule", "list[0]")]
    assert found("task: suspend vm\nlist:\n  - ~") == [("error", "missing", "list[0].vm-name")]


# --- normalisation ------------------------------------------------------------------------------


def test_lists_become_tuples():
    start = Start(
        vm_name="a",
        vcpu_map=[[0, 1], (2,)],
        memnode_map=([0],),
        pci_ids=[PciId(vendor=1, device=2)],
        devs=[PciAddress(bus=1, device=2, function=3)],
    )
    assert start.vcpu_map == ((0, 1), (2,))
    assert start.memnode_map == ((0,),)
    assert start.pci_ids == (PciId(vendor=1, device=2),)
    assert start.devs == (PciAddress(bus=1, device=2, function=3),)
    assert start == Start.from_yaml(start.to_yaml())
    assert Evacuate(destinations=["a", "b"]).destinations == ("a", "b")
    assert TaskContainer(tasks=[Quit()]).tasks == (Quit(),)
    assert Request(cores=range(3)).cores == (0, 1, 2)


def test_a_message_keeps_nothing_that_its_maker_can_change():
    row, categories, values = [0], {"a": "high"}, {"cpu": ["1"]}
    repin = Repin(vm_name="a", vcpu_map=[row])
    kpis = Kpis(categories=categories, repeat=1)
    report = KpiReport(source="a", kpis=values)
    row.append(1)
    categories["b"] = "low"
    values["cpu"].append("2")
    assert repin.vcpu_map == ((0,),)
    assert kpis.categories == {"a": "high"}
    assert report.kpis == {"cpu": ["1"]}


def test_a_tree_is_the_takers_to_change():
    container = TaskContainer(tasks=[Repin(vm_name="a", vcpu_map=[[0]])])
    container.emit()["vcpu-map"][0].append(1)
    report = KpiReport(source="a", kpis={"cpu": ["1"]})
    report.emit()["KPIS"]["cpu"].append("2")
    assert container.emit()["vcpu-map"] == [[0]]
    assert report.kpis == {"cpu": ["1"]}


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        (TaskContainer(tasks=[Quit()], id=""), TaskContainer(tasks=[Quit()])),
        (ResultContainer(result="quit", results=[], id=""),
         ResultContainer(result="quit", results=[])),
        (Result(vm_name="a", status="error", details=""), Result(vm_name="a", status="error")),
        (Result(vm_name="a", status="error", time_measurement=TimeMeasurement()),
         Result(vm_name="a", status="error")),
        (Start(vm_name="a", pci_ids=[], devs=()), Start(vm_name="a")),
        (Migrate(vm_name="a", destination="b", parameter=MigrateParameter()),
         Migrate(vm_name="a", destination="b")),
        (Evacuate(destinations=["b"], parameter=EvacuateParameter()),
         Evacuate(destinations=["b"])),
    ],
)  # fmt: skip
def test_empty_is_absent_where_the_peers_cannot_tell(given, absent):
    assert given == absent
    assert given.to_yaml() == absent.to_yaml()
    assert hash(given) == hash(absent)


@pytest.mark.parametrize(
    ("type", "text", "message"),
    [
        (TaskContainer, "task: quit\nid: ''", TaskContainer(tasks=[Quit()])),
        (Start, "vm-name: a\npci-ids: []\ndevs: []", Start(vm_name="a")),
        (Migrate, "vm-name: a\ndestination: b\nparameter: {}",
         Migrate(vm_name="a", destination="b")),
        (Result, "vm-name: a\nstatus: error\ndetails: ''\ntime-measurement: {}",
         Result(vm_name="a", status="error")),
    ],
)  # fmt: skip
def test_empty_is_absent_in_a_text_as_well(type, text, message):
    assert type.from_yaml(text) == message


def test_an_empty_map_is_a_map():
    assert Start(vm_name="a", vcpu_map=[]) != Start(vm_name="a")
    assert Start(vm_name="a", vcpu_map=[]).to_yaml() == "---\nvm-name: a\nvcpu-map: []\n---"
    assert Suspend(vm_name="").to_yaml() == '---\nvm-name: ""\n---'


def test_free_values_become_text_as_they_are_on_the_wire():
    report = KpiReport(source="a", kpis={"n": 1, "f": 0.5, "b": True, "l": (1, None), "m": {}})
    assert report.kpis == {"n": "1", "f": "0.5", "b": "true", "l": ["1", None], "m": {}}
    assert KpiReport.from_yaml(report.to_yaml()) == report
    assert KpiReport.load(report.emit()) == report
    values = []
    values.append(values)
    assert refusal(lambda: KpiReport(source="a", kpis=values))[0][0] == "KPIS"
