"""The arguments of a start, from the fields and the XML of its task."""

from typing import Self

import msgspec

from fastlib.message import Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.domain_xml import read_domain
from fastlib.migfra.virt.names import check_name


class StartArguments(msgspec.Struct, frozen=True, kw_only=True):
    """The domain to start. None leaves what is defined."""

    name: str
    memory: int | None
    """KiB."""
    vcpus: int | None
    define: bool | None
    """None starts a defined domain, True defines a new one, False starts a transient one."""

    @classmethod
    def of_task(cls, task: Start) -> Self:
        """Read a task. Raises HypervisorError if it contradicts its XML, or for a size of 0."""
        for what, number in (("vcpus", task.vcpus), ("memory", task.memory)):
            if number == 0:
                raise HypervisorError(f"{what} is 0, with which no domain can be started")
        if task.xml is None:
            assert task.vm_name is not None
            name = check_name(task.vm_name)
            return cls(name=name, memory=task.memory, vcpus=task.vcpus, define=None)
        described = read_domain(task.xml)
        if task.vm_name is not None and task.vm_name != described.name:
            raise HypervisorError(
                f"vm-name is {task.vm_name!r}, but the XML says {described.name!r}"
            )
        return cls(
            name=described.name,
            memory=described.memory if task.memory is None else task.memory,
            vcpus=described.vcpus if task.vcpus is None else task.vcpus,
            define=not task.transient,
        )
