"""The messages as plain msgspec structs, into which PyYAML and rapidyaml load.

PCI ids and addresses stay the text that they are on the wire, and the rules between fields are
left out, for every contender alike: that is less work than fastlib does.
"""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

U32 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
U64 = Annotated[int, Meta(ge=0)]  # msgspec has no bounds beyond 63 bits
CpuMap = list[list[U32]]
MigrationType = Literal["live", "warm", "offline"]


class Wire(msgspec.Struct, kw_only=True, rename="kebab", omit_defaults=True):
    """Kebab-case on the wire, absent fields left out."""


class Member(Wire, kw_only=True):
    concurrent_execution: bool | None = None
    time_measurement: bool | None = None
    driver: str | None = None


class PciId(Wire, kw_only=True):
    vendor: str
    device: str


class PciAddress(Wire, kw_only=True):
    pci_addr: str


class Ivshmem(Wire, kw_only=True):
    id: str
    size: str
    path: str | None = None


class Start(Member, kw_only=True):
    vm_name: str | None = None
    vcpus: U32 | None = None
    memory: U64 | None = None
    memnode_map: CpuMap | None = None
    xml: str | None = None
    ivshmem: Ivshmem | None = None
    transient: bool | None = None
    pci_ids: list[PciId] | None = None
    devs: list[PciAddress] | None = None
    vcpu_map: CpuMap | None = None
    probe_with_ssh: bool | None = None
    probe_hostname: str | None = None


class Stop(Member, kw_only=True):
    vm_name: str | None = None
    regex: str | None = None
    force: bool | None = None
    undefine: bool | None = None


class Named(Member, kw_only=True):
    vm_name: str


class SwapWith(Wire, kw_only=True):
    vm_name: str
    pscom_hook_procs: str | None = None
    vcpu_map: CpuMap | None = None


class MigrateParameter(Wire, kw_only=True):
    retry_counter: U32 | None = msgspec.field(default=None, name="retry_counter")
    migration_type: MigrationType | None = None
    rdma_migration: bool | None = None
    pscom_hook_procs: str | None = None
    transport: str | None = None
    swap_with: SwapWith | None = None
    vcpu_map: CpuMap | None = None


class EvacuateParameter(Wire, kw_only=True):
    mode: Literal["auto", "compact", "scatter"] | None = None
    overbooking: bool | None = None
    retry_counter: U32 | None = msgspec.field(default=None, name="retry_counter")
    migration_type: MigrationType | None = None
    rdma_migration: bool | None = None
    pscom_hook_procs: str | None = None
    transport: str | None = None


class TaskContainer(Wire, tag_field="task", kw_only=True):
    concurrent_execution: bool | None = None
    id: str | None = None
    host: str | None = None


class InlineTask(TaskContainer, kw_only=True):
    time_measurement: bool | None = None
    driver: str | None = None


class StartTask(TaskContainer, tag="start vm", kw_only=True):
    vm_configurations: list[Start]


class StopTask(TaskContainer, tag="stop vm", kw_only=True):
    members: list[Stop] = msgspec.field(name="list")


class SuspendTask(TaskContainer, tag="suspend vm", kw_only=True):
    members: list[Named] = msgspec.field(name="list")


class ResumeTask(TaskContainer, tag="resume vm", kw_only=True):
    members: list[Named] = msgspec.field(name="list")


class RepinTask(InlineTask, tag="repin vm", kw_only=True):
    vm_name: str
    vcpu_map: CpuMap


class MigrateTask(InlineTask, tag="migrate vm", kw_only=True):
    vm_name: str
    destination: str
    parameter: MigrateParameter | None = None


class EvacuateTask(InlineTask, tag="evacuate node", kw_only=True):
    destinations: list[str]
    parameter: EvacuateParameter | None = None
    vm_name: str | None = None


class QuitTask(InlineTask, tag="quit", kw_only=True):
    pass


AnyTask = (
    StartTask
    | StopTask
    | SuspendTask
    | ResumeTask
    | RepinTask
    | MigrateTask
    | EvacuateTask
    | QuitTask
)


class Result(Wire, kw_only=True):
    vm_name: str
    status: Literal["success", "error"]
    details: str | None = None
    time_measurement: dict[str, float | str] | None = None
    process_id: U64 | None = None


class ResultContainer(Wire, tag_field="result", kw_only=True):
    id: str | None = None
    scheduler: str | None = None


class ListResult(ResultContainer, kw_only=True):
    members: list[Result] = msgspec.field(name="list")


class Started(ListResult, tag="vm started", kw_only=True):
    pass


class Stopped(ListResult, tag="vm stopped", kw_only=True):
    pass


class Suspended(ListResult, tag="vm suspended", kw_only=True):
    pass


class Resumed(ListResult, tag="vm resumed", kw_only=True):
    pass


class Repinned(ListResult, tag="vm repinned", kw_only=True):
    pass


class Evacuated(ListResult, tag="node evacuated", kw_only=True):
    pass


class HasQuit(ListResult, tag="quit", kw_only=True):
    pass


class Migrated(ResultContainer, tag="vm migrated", kw_only=True):
    vm_name: str
    status: Literal["success", "error"]
    details: str | None = None
    time_measurement: dict[str, float | str] | None = None
    process_id: U64 | None = None


AnyResult = Started | Stopped | Suspended | Resumed | Repinned | Evacuated | HasQuit | Migrated


_tasks: dict[str, type[TaskContainer]] = {c.__struct_config__.tag: c for c in get_args(AnyTask)}
_results: dict[str, type[ResultContainer]] = {
    c.__struct_config__.tag: c for c in get_args(AnyResult)
}


def to_task(tree: Any) -> TaskContainer:
    """The typed message of a plain tree.

    `msgspec.convert` with the union itself would look at all its types anew in each call, which
    takes 6 us.
    """
    return msgspec.convert(tree, _tasks[tree["task"]])


def to_result(tree: Any) -> ResultContainer:
    """The typed message of a plain tree."""
    return msgspec.convert(tree, _results[tree["result"]])
