"""mashumaro's generated code over dataclasses, behind PyYAML's C extension."""

from dataclasses import dataclass
from typing import Any, Literal

from mashumaro import DataClassDictMixin
from mashumaro.config import BaseConfig
from mashumaro.types import Discriminator

from .base import Contender
from .pyyaml import dump, first_document

CpuMap = list[list[int]]
MigrationType = Literal["live", "warm", "offline"]

WIRE_KEYS = {
    "concurrent_execution": "concurrent-execution",
    "members": "list",
    "memnode_map": "memnode-map",
    "migration_type": "migration-type",
    "pci_addr": "pci-addr",
    "pci_ids": "pci-ids",
    "probe_hostname": "probe-hostname",
    "probe_with_ssh": "probe-with-ssh",
    "process_id": "process-id",
    "pscom_hook_procs": "pscom-hook-procs",
    "rdma_migration": "rdma-migration",
    "swap_with": "swap-with",
    "time_measurement": "time-measurement",
    "vcpu_map": "vcpu-map",
    "vm_configurations": "vm-configurations",
    "vm_name": "vm-name",
}


@dataclass(kw_only=True)
class Wire(DataClassDictMixin):
    """Kebab-case on the wire, absent fields left out."""

    class Config(BaseConfig):
        aliases = WIRE_KEYS
        serialize_by_alias = True
        omit_none = True


@dataclass(kw_only=True)
class Member(Wire):
    concurrent_execution: bool | None = None
    time_measurement: bool | None = None
    driver: str | None = None


@dataclass(kw_only=True)
class PciId(Wire):
    vendor: str
    device: str


@dataclass(kw_only=True)
class PciAddress(Wire):
    pci_addr: str


@dataclass(kw_only=True)
class Ivshmem(Wire):
    id: str
    size: str
    path: str | None = None


@dataclass(kw_only=True)
class Start(Member):
    vm_name: str | None = None
    vcpus: int | None = None
    memory: int | None = None
    memnode_map: CpuMap | None = None
    xml: str | None = None
    ivshmem: Ivshmem | None = None
    transient: bool | None = None
    pci_ids: list[PciId] | None = None
    devs: list[PciAddress] | None = None
    vcpu_map: CpuMap | None = None
    probe_with_ssh: bool | None = None
    probe_hostname: str | None = None


@dataclass(kw_only=True)
class Stop(Member):
    vm_name: str | None = None
    regex: str | None = None
    force: bool | None = None
    undefine: bool | None = None


@dataclass(kw_only=True)
class Named(Member):
    vm_name: str


@dataclass(kw_only=True)
class SwapWith(Wire):
    vm_name: str
    pscom_hook_procs: str | None = None
    vcpu_map: CpuMap | None = None


@dataclass(kw_only=True)
class MigrateParameter(Wire):
    retry_counter: int | None = None
    migration_type: MigrationType | None = None
    rdma_migration: bool | None = None
    pscom_hook_procs: str | None = None
    transport: str | None = None
    swap_with: SwapWith | None = None
    vcpu_map: CpuMap | None = None


@dataclass(kw_only=True)
class EvacuateParameter(Wire):
    mode: Literal["auto", "compact", "scatter"] | None = None
    overbooking: bool | None = None
    retry_counter: int | None = None
    migration_type: MigrationType | None = None
    rdma_migration: bool | None = None
    pscom_hook_procs: str | None = None
    transport: str | None = None


@dataclass(kw_only=True)
class TaskContainer(Wire):
    concurrent_execution: bool | None = None
    id: str | None = None
    host: str | None = None

    class Config(Wire.Config):
        discriminator = Discriminator(field="task", include_subtypes=True)


@dataclass(kw_only=True)
class InlineTask(TaskContainer):
    time_measurement: bool | None = None
    driver: str | None = None


@dataclass(kw_only=True)
class StartTask(TaskContainer):
    task: Literal["start vm"] = "start vm"
    vm_configurations: list[Start]


@dataclass(kw_only=True)
class StopTask(TaskContainer):
    task: Literal["stop vm"] = "stop vm"
    members: list[Stop]


@dataclass(kw_only=True)
class SuspendTask(TaskContainer):
    task: Literal["suspend vm"] = "suspend vm"
    members: list[Named]


@dataclass(kw_only=True)
class ResumeTask(TaskContainer):
    task: Literal["resume vm"] = "resume vm"
    members: list[Named]


@dataclass(kw_only=True)
class RepinTask(InlineTask):
    task: Literal["repin vm"] = "repin vm"
    vm_name: str
    vcpu_map: CpuMap


@dataclass(kw_only=True)
class MigrateTask(InlineTask):
    task: Literal["migrate vm"] = "migrate vm"
    vm_name: str
    destination: str
    parameter: MigrateParameter | None = None


@dataclass(kw_only=True)
class EvacuateTask(InlineTask):
    task: Literal["evacuate node"] = "evacuate node"
    destinations: list[str]
    parameter: EvacuateParameter | None = None
    vm_name: str | None = None


@dataclass(kw_only=True)
class QuitTask(InlineTask):
    task: Literal["quit"] = "quit"


@dataclass(kw_only=True)
class Result(Wire):
    vm_name: str
    status: Literal["success", "error"]
    details: str | None = None
    time_measurement: dict[str, float | str] | None = None
    process_id: int | None = None


@dataclass(kw_only=True)
class ResultContainer(Wire):
    id: str | None = None
    scheduler: str | None = None

    class Config(Wire.Config):
        discriminator = Discriminator(field="result", include_subtypes=True)


@dataclass(kw_only=True)
class ListResult(ResultContainer):
    members: list[Result]


@dataclass(kw_only=True)
class Started(ListResult):
    result: Literal["vm started"] = "vm started"


@dataclass(kw_only=True)
class Stopped(ListResult):
    result: Literal["vm stopped"] = "vm stopped"


@dataclass(kw_only=True)
class Suspended(ListResult):
    result: Literal["vm suspended"] = "vm suspended"


@dataclass(kw_only=True)
class Resumed(ListResult):
    result: Literal["vm resumed"] = "vm resumed"


@dataclass(kw_only=True)
class Repinned(ListResult):
    result: Literal["vm repinned"] = "vm repinned"


@dataclass(kw_only=True)
class Evacuated(ListResult):
    result: Literal["node evacuated"] = "node evacuated"


@dataclass(kw_only=True)
class HasQuit(ListResult):
    result: Literal["quit"] = "quit"


@dataclass(kw_only=True)
class Migrated(ResultContainer):
    result: Literal["vm migrated"] = "vm migrated"
    vm_name: str
    status: Literal["success", "error"]
    details: str | None = None
    time_measurement: dict[str, float | str] | None = None
    process_id: int | None = None


def load_task(text: bytes) -> TaskContainer:
    return TaskContainer.from_dict(first_document(text))


def load_result(text: bytes) -> ResultContainer:
    return ResultContainer.from_dict(first_document(text))


def emit(message: Any) -> str:
    return dump(message.to_dict())


CONTENDER = Contender(
    name="mashumaro",
    how="PyYAML's CSafeLoader, from_dict; to_dict, CSafeDumper",
    packages=("mashumaro", "PyYAML"),
    load={"task": load_task, "result": load_result},
    plain=lambda message: message.to_dict(),
    emit=emit,
)
