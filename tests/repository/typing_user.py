"""Typical code of a user of fastlib; `test_typing.py` runs mypy over it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, assert_type

from msgspec import Meta

import fastlib
from fastlib import (
    DeviceIvshmem,
    Evacuate,
    EvacuateParameter,
    FastlibError,
    Limits,
    Message,
    MessageError,
    Migrate,
    MigrateParameter,
    MigrationType,
    PciAddress,
    PciId,
    Problem,
    Quit,
    Repin,
    Report,
    Result,
    ResultContainer,
    Start,
    Status,
    Stop,
    SwapWith,
    Task,
    TaskContainer,
    TimeMeasurement,
    Timing,
)
from fastlib.codec import Needs, OneOf, Rule, Wire
from fastlib.message import agent, application, mmbwmon, pscom, topics

# --- building messages --------------------------------------------------------------------------


def starts(names: list[str], cpus: range) -> TaskContainer:
    return TaskContainer(
        tasks=[
            Start(
                vm_name=name,
                vcpus=4,
                memory=4 * 1024 * 1024,
                vcpu_map=[[cpu] for cpu in cpus],
                memnode_map=((0,), [1, 2]),
                pci_ids=[PciId(vendor=0x15B3, device=0x1004)],
                devs=(PciAddress(bus=1, device=2, function=3), PciAddress.parse("01:02.3")),
                ivshmem=DeviceIvshmem(id="shm", size="64M"),
                probe_with_ssh=False,
            )
            for name in names
        ],
        id="task-1",
        concurrent_execution=True,
    )


def migrate(name: str, destination: str, how: MigrationType = "live") -> TaskContainer:
    parameter = MigrateParameter(
        migration_type=how,
        retry_counter=3,
        rdma_migration=True,
        pscom_hook_procs="auto",
        swap_with=SwapWith(vm_name="vm2", vcpu_map=[[0, 1]], memnode_map=[[1]]),
        memnode_map=((0,), [1]),
    )
    assert_type(parameter.migration_type, MigrationType | None)
    assert_type(parameter.swap_with, SwapWith | None)
    return TaskContainer(
        tasks=[Migrate(vm_name=name, destination=destination, parameter=parameter)]
    )


evacuate = Evacuate(destinations=["a", "b"], parameter=EvacuateParameter(mode="scatter"))
mixed: list[Task] = [Stop(regex="vm.*"), Quit(), evacuate]
containers = [TaskContainer(tasks=[task]) for task in mixed]
stops = [Stop(vm_name="a", force=True)]
container = TaskContainer(tasks=stops)
assert_type(container.tasks, Sequence[Task])
assert_type(container.id, str | None)

# --- reading and writing ------------------------------------------------------------------------

assert_type(TaskContainer.from_yaml("task: quit"), TaskContainer)
assert_type(TaskContainer.from_yaml(b"task: quit", unknown="error"), TaskContainer)
assert_type(TaskContainer.load({"task": "quit"}, limits=Limits(max_depth=8)), TaskContainer)
assert_type(Start.from_yaml("vm-name: a"), Start)
assert_type(Start.from_yaml("vm-name: a").vcpus, int | None)
assert_type(Start.from_yaml("vm-name: a").vm_name, str | None)
assert_type(Migrate.load({"vm-name": "a", "destination": "b"}).vm_name, str)
assert_type(PciAddress.parse("01:02.3"), PciAddress)
assert_type(container.emit(), Any)
assert_type(container.to_yaml(), str)
assert_type(container.to_yaml(style="flow"), str)
assert_type(fastlib.load("task: quit"), Message)

message = fastlib.load(b"task: quit")
match message:
    case TaskContainer(tasks=tasks, id=number):
        assert_type(tasks, Sequence[Task])
        assert_type(number, str | None)
    case ResultContainer(results=results):
        assert_type(results, Sequence[Result])
    case agent.Init(hostname=hostname):
        assert_type(hostname, str)
    case _:
        pass


def names(container: TaskContainer) -> Iterator[str]:
    for task in container.tasks:
        if isinstance(task, Migrate):
            yield task.destination
        elif isinstance(task, Start | Stop) and task.vm_name is not None:
            yield task.vm_name


def answer(container: TaskContainer) -> bytes:
    measurement = TimeMeasurement(detailed=True)
    with measurement.measure("overall") as same:
        assert_type(same, TimeMeasurement)
        same.tick("repin")
        same.tock("repin")
    assert_type(measurement.timings, Mapping[str, Timing])
    status: Status = "success"
    results = [Result(vm_name="a", status=status, time_measurement=measurement)]
    answered = ResultContainer.answer(container, results)
    assert_type(answered, ResultContainer)
    assert_type(answered.results[0].status, Status)
    assert_type(answered.results[0].time_measurement, TimeMeasurement | None)
    return answered.to_yaml().encode()


# --- errors -------------------------------------------------------------------------------------


def explain(text: str | bytes) -> str:
    report = fastlib.validate(text)
    assert_type(report, Report)
    assert_type(report.problems, tuple[Problem, ...])
    assert_type(fastlib.validate_all(text), list[Report])
    try:
        fastlib.load(text)
    except MessageError as error:
        assert_type(error.problems, tuple[Problem, ...])
        assert_type(error.line, int | None)
        return "\n".join(problem.path for problem in error.problems)
    except FastlibError as error:
        return str(error)
    return ""


# --- the other messages -------------------------------------------------------------------------

kpis = agent.Kpis(categories={"io": "high"}, repeat=5)
assert_type(agent.InitAgent(kpi=kpis).kpi.categories, Mapping[str, str])
agent.StopMonitoring(job_description=agent.JobDescription(job_id="1", process_id=2))
agent.Configuration(source="n1", status="denied")
agent.KpiReport(source="n1", kpis={"io": [1, 2]})
application.ApplicationStatus(source="app", migration=True, supported_kpi=["io"])
application.ApplicationKpis()
assert_type(mmbwmon.Reply(cores=[0, 1], result=1).result, float)
mmbwmon.Ack()
assert_type(pscom.PscomRequest(request="suspend").to_yaml(), str)
assert_type(topics.TASK(host="n1"), str)
assert_type(topics.RESULT.pattern(), str)
assert_type(topics.RESULT.parse("fast/migfra/n1/result"), dict[str, str] | None)
if (topic := topics.parse("fast/migfra/n1/result")) is not None:
    assert_type(topic.names, dict[str, str])

# --- own tasks ----------------------------------------------------------------------------------


class Window(Message):
    begin: str
    end: str | None = None


class Snapshot(Task, task="snapshot vm", result="vm snapshotted", layout="list", key="snapshots"):
    """Keep a domain's state."""

    rules: ClassVar[tuple[Rule, ...]] = (OneOf("vm_name", "regex"), Needs("purge", "vm_name"))

    vm_name: Annotated[str | None, Wire("Name of the domain.")] = None
    regex: str | None = None
    purge: bool | None = None
    keep: Annotated[int, Meta(ge=1, le=10), Wire("How many to keep.")] = 1
    window: Window | None = None


class Ping(
    Task, task="ping", result="pong", layout=("inline", "list"), result_layout=("inline", "list")
):
    pass


class Hello(Message, task="hello"):
    source: str


snapshot = Snapshot(vm_name="a", keep=3, driver="qemu", window=Window(begin="08:00"))
assert_type(snapshot.keep, int)
assert_type(Snapshot.from_yaml("vm-name: a"), Snapshot)
assert_type(Hello.load({"source": "s"}).source, str)
TaskContainer(tasks=[snapshot])
TaskContainer(tasks=[Ping(time_measurement=True)])
TaskContainer(tasks=(Repin(vm_name="a", vcpu_map=[[1]]),))
