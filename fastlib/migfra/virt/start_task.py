"""Read the domain of a task `start vm` from its fields and its XML."""

from fastlib.message import Start
from fastlib.migfra.errors import HypervisorError

from .domain_xml import DomainXml, read_domain
from .names import check_name


def domain_of(task: Start) -> DomainXml:
    """Return the name of the domain, and the values of the XML if the task has one.

    Raises HypervisorError if the task contradicts its XML, or for a size of 0.
    """
    for key, number in (("vcpus", task.vcpus), ("memory", task.memory)):
        if number == 0:
            raise HypervisorError(f"{key} must be at least 1, not 0")
    if task.xml is None:
        assert task.vm_name is not None
        return DomainXml(name=check_name(task.vm_name))
    described = read_domain(task.xml)
    if task.vm_name is not None and task.vm_name != described.name:
        raise HypervisorError(
            f"vm-name is {task.vm_name!r}, but the XML says {described.name!r}; leave out vm-name, "
            "or change one of the two"
        )
    return described
