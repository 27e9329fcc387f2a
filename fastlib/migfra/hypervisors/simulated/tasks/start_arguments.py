"""The arguments of a start, from the fields and the XML of its task."""

from typing import Final, Self

import msgspec

from fastlib.message import Start
from fastlib.migfra.virt.new_disks import DiskPlan, plan_disks
from fastlib.migfra.virt.start_task import domain_of
from fastlib.migfra.virt.xml_values import XmlPolicy

_POLICY: Final = XmlPolicy(allow="any")
"""A cluster has no files. So tasks may name any."""
_FOLDER: Final = "/var/lib/libvirt/images"
"""The folder of new images without a path."""


class StartArguments(msgspec.Struct, frozen=True, kw_only=True):
    """The domain to start. None keeps the value of the definition."""

    name: str
    memory: int | None
    """KiB."""
    vcpus: int | None
    define: bool | None
    """None starts a defined domain, True defines a new one, False starts a transient one."""
    disks: tuple[DiskPlan, ...] = ()
    """The disks to create."""

    @classmethod
    def of_task(cls, task: Start) -> Self:
        """Read a task. Raises HypervisorError if it contradicts its XML, or for a size of 0."""
        described = domain_of(task)
        return cls(
            name=described.name,
            memory=described.memory if task.memory is None else task.memory,
            vcpus=described.vcpus if task.vcpus is None else task.vcpus,
            define=None if task.xml is None else not task.transient,
            disks=plan_disks(task, described.name, _POLICY, _FOLDER),
        )
