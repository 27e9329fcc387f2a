"""pydantic's models, behind PyYAML's C extension."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .base import Contender
from .pyyaml import dump, first_document

U32 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
U64 = Annotated[int, Field(ge=0, le=0xFFFF_FFFF_FFFF_FFFF)]
CpuMap = list[list[U32]]
MigrationType = Literal["live", "warm", "offline"]


def _kebab(name: str) -> str:
    return name if name == "retry_counter" else name.replace("_", "-")


class Wire(BaseModel):
    """Kebab-case on the wire."""

    model_config = ConfigDict(alias_generator=_kebab)


class Member(Wire):
    concurrent_execution: bool | None = None
    time_measurement: bool | None = None
    driver: str | None = None


class PciId(Wire):
    vendor: str
    device: str


class PciAddress(Wire):
    pci_addr: str


class Ivshmem(Wire):
    id: str
    size: str
    path: str | None = None


class Start(Member):
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


class Stop(Member):
    vm_name: str | None = None
    regex: str | None = None
    force: bool | None = None
    undefine: bool | None = None


class Named(Member):
    vm_name: str


class SwapWith(Wire):
    vm_name: str
    pscom_hook_procs: str | None = None
    vcpu_map: CpuMap | None = None


class MigrateParameter(Wire):
    retry_counter: U32 | None = None
    migration_type: MigrationType | None = None
    rdma_migration: bool | None = None
    pscom_hook_procs: str | None = None
    transport: str | None = None
    swap_with: SwapWith | None = None
    vcpu_map: CpuMap | None = None


class EvacuateParameter(Wire):
    mode: Literal["auto", "compact", "scatter"] | None = None
    overbooking: bool | None = None
    retry_counter: U32 | None = None
    migration_type: MigrationType | None = None
    rdma_migration: bool | None = None
    pscom_hook_procs: str | None = None
    transport: str | None = None


class TaskContainer(Wire):
    concurrent_execution: bool | None = None
    id: str | None = None
    host: str | None = None


class InlineTask(TaskContainer):
    time_measurement: bool | None = None
    driver: str | None = None


class StartTask(TaskContainer):
    task: Literal["start vm"]
    vm_configurations: list[Start]


class StopTask(TaskContainer):
    task: Literal["stop vm"]
    members: list[Stop] = Field(alias="list")


class SuspendTask(TaskContainer):
    task: Literal["suspend vm"]
    members: list[Named] = Field(alias="list")


class ResumeTask(TaskContainer):
    task: Literal["resume vm"]
    members: list[Named] = Field(alias="list")


class RepinTask(InlineTask):
    task: Literal["repin vm"]
    vm_name: str
    vcpu_map: CpuMap


class MigrateTask(InlineTask):
    task: Literal["migrate vm"]
    vm_name: str
    destination: str
    parameter: MigrateParameter | None = None


class EvacuateTask(InlineTask):
    task: Literal["evacuate node"]
    destinations: list[str]
    parameter: EvacuateParameter | None = None
    vm_name: str | None = None


class QuitTask(InlineTask):
    task: Literal["quit"]


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


class Result(Wire):
    vm_name: str
    status: Literal["success", "error"]
    details: str | None = None
    time_measurement: dict[str, float | str] | None = None
    process_id: U64 | None = None


class ResultContainer(Wire):
    id: str | None = None
    scheduler: str | None = None


class ListResult(ResultContainer):
    members: list[Result] = Field(alias="list")


class Started(ListResult):
    result: Literal["vm started"]


class Stopped(ListResult):
    result: Literal["vm stopped"]


class Suspended(ListResult):
    result: Literal["vm suspended"]


class Resumed(ListResult):
    result: Literal["vm resumed"]


class Repinned(ListResult):
    result: Literal["vm repinned"]


class Evacuated(ListResult):
    result: Literal["node evacuated"]


class HasQuit(ListResult):
    result: Literal["quit"]


class Migrated(ResultContainer):
    result: Literal["vm migrated"]
    vm_name: str
    status: Literal["success", "error"]
    details: str | None = None
    time_measurement: dict[str, float | str] | None = None
    process_id: U64 | None = None


AnyResult = Started | Stopped | Suspended | Resumed | Repinned | Evacuated | HasQuit | Migrated

_task: TypeAdapter[AnyTask] = TypeAdapter(Annotated[AnyTask, Field(discriminator="task")])
_result: TypeAdapter[AnyResult] = TypeAdapter(Annotated[AnyResult, Field(discriminator="result")])


def load_task(text: bytes) -> AnyTask:
    return _task.validate_python(first_document(text))


def load_result(text: bytes) -> AnyResult:
    return _result.validate_python(first_document(text))


def plain(message: BaseModel) -> dict[str, Any]:
    return message.model_dump(by_alias=True, exclude_none=True)


def emit(message: BaseModel) -> str:
    return dump(plain(message))


CONTENDER = Contender(
    name="pydantic",
    how="PyYAML's CSafeLoader, validate_python; model_dump, CSafeDumper",
    packages=("pydantic", "PyYAML"),
    load={"task": load_task, "result": load_result},
    plain=plain,
    emit=emit,
)
