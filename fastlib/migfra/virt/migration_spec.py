"""The migration spec: the domain, its source, its destination, and the options."""

from typing import Literal, Self

import msgspec

from fastlib.message import Migrate
from fastlib.message.numbers import CpuMap, NodeMap
from fastlib.message.tasks import MigrateParameter, MigrationOptions
from fastlib.migfra.errors import HypervisorError

from .names import check_name


class MigrationSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One domain, its source, its destination, and how it migrates."""

    name: str
    source: str
    destination: str
    parameter: MigrationOptions
    driver: str | None = None
    """The driver of the hypervisor. None means the configured one."""
    vcpu_map: CpuMap | None = None
    """The CPUs of the vCPUs on the destination."""
    memnode_map: NodeMap | None = None
    """The memory nodes of the domain's NUMA nodes on the destination."""
    pscom_hook_procs: str | None = None
    timer: str = "migrate"
    """Name of the timer of the whole migration."""
    check_room: bool = True
    """Whether to check the memory of the destination. False if the placement did that."""
    partner: str | None = None
    """In a swap, the domain that leaves the destination at the same time."""

    @property
    def kind(self) -> Literal["live", "warm", "offline"]:
        """The type of the migration: warm if the task does not name one."""
        return self.parameter.migration_type or "warm"

    @property
    def has_map(self) -> bool:
        """Whether the task says where the vCPUs or the memory are on the destination."""
        return self.vcpu_map is not None or self.memnode_map is not None

    @property
    def transport(self) -> str | None:
        """The transport to the hypervisor of the other host."""
        return self.parameter.transport

    @classmethod
    def from_task(cls, task: Migrate, source: str) -> Self:
        """Return the spec of the task's own domain. Raises HypervisorError for an invalid name."""
        parameter = task.parameter or MigrateParameter()
        return cls(
            name=check_name(task.vm_name),
            source=source,
            destination=task.destination,
            parameter=parameter,
            driver=task.driver,
            vcpu_map=parameter.vcpu_map,
            memnode_map=parameter.memnode_map,
            pscom_hook_procs=parameter.pscom_hook_procs,
        )

    def swap_specs(self, task: Migrate) -> tuple[Self, Self]:
        """Return the specs of a swap: of this domain, and of the one that moves here in return.

        Raises HypervisorError for a swap of a domain with itself.
        """
        assert task.parameter is not None
        partner = task.parameter.swap_with
        assert partner is not None
        name = check_name(partner.vm_name)
        if name == self.name:
            raise HypervisorError(f"{name} cannot be swapped with itself")
        there = msgspec.structs.replace(
            self, timer=f"migrate-{self.name}", check_room=False, partner=name
        )
        back = msgspec.structs.replace(
            there,
            name=name,
            source=self.destination,
            destination=self.source,
            vcpu_map=partner.vcpu_map,
            memnode_map=partner.memnode_map,
            pscom_hook_procs=partner.pscom_hook_procs,
            timer=f"migrate-{name}",
            partner=self.name,
        )
        return there, back
