"""Every message through its constructor: which values are accepted, and which are refused."""

import copy
import enum
import math
import pickle
import re
from pathlib import Path

import msgspec
import pytest

from fastlib import (
    Cancel,
    DeviceIvshmem,
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    PciAddress,
    PciId,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
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
from tests.support.problems import kinds_of_problems, refusal


def job(**kwargs):
    return JobDescription(**{"job_id": "1", "process_id": 1} | kwargs)


def info(**kwargs):
    return SystemInfo(**{"threads": 1, "smt": 1, "numa": 1, "bandwidth": []} | kwargs)


def report(**kwargs):
    return NodeReport(**{"host": "a", "hypervisor": "b"} | kwargs)


def test_fields_are_given_by_keyword():
    with pytest.raises(TypeError):
        Suspend("vm1")


def test_unknown_or_missing_field_is_a_type_error():
    with pytest.raises(TypeError, match="vm: unknown argument"):
        Suspend(vm="vm1")
    with pytest.raises(TypeError, match="vm_name: missing"):
        Suspend()


def test_message_is_immutable():
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


def test_changed_copy_is_checked():
    start = Start(vm_name="a")
    assert msgspec.structs.replace(start, vcpus=2) == Start(vm_name="a", vcpus=2)
    assert refusal(lambda: msgspec.structs.replace(start, vcpus=-1))[0][0] == "vcpus"


def test_repr_shows_only_given_fields():
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


def test_integer_of_derived_type_is_stored_as_integer():
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
def test_text_field_takes_only_text(build, path):
    for value in (1, 1.5, True, b"bytes", ["list"], {"a": "b"}, Path("path")):
        [(where, message)] = refusal(lambda value=value: build(value))
        assert where == path
        assert message.startswith("expected text; got ")
    # No encoding can say a lone surrogate, and so no peer could be told.
    assert refusal(lambda: build("a\ud800b"))[0] == (
        path,
        "expected text without lone surrogates; got 'a\\ud800b'",
    )


def test_text_of_derived_type_is_stored_as_text():
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
def test_boolean_field_takes_only_booleans(build, path):
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
def test_unknown_choice_is_refused(build, path, words):
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
def test_number_field_takes_only_numbers(build, path):
    for value in (0.5, -1.5, math.inf, 3):
        assert build(value) == value
        assert type(build(value)) is float
    for value in ("1.5", True, [1.5], 10**400):
        [(where, message)] = refusal(lambda value=value: build(value))
        assert where == path
        assert re.match("expected a number(, in [a-z%]+)?; got ", message)


def test_message_with_nan_equals_itself():
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
def test_list_field_takes_sequences_but_no_text(build, path):
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
def test_value_of_wrong_type_is_refused_with_its_path(build, problem):
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
def test_broken_rule_between_fields_is_refused(build, problems):
    assert refusal(build) == problems


def test_kept_rules_between_fields_are_accepted():
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
def test_rules_between_fields_are_checked_on_load(type, text, rule):
    assert kinds_of_problems(text, type) == [rule]
    with pytest.raises(ValidationError):
        type.from_yaml(text)


def test_constructor_reports_every_problem():
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


def test_report_has_no_domains_by_default():
    assert report().domains == report().tasks == ()
    assert report() == report(domains=[], tasks=[])
    assert NodeReport.from_yaml("host: a\nhypervisor: b") == report()
