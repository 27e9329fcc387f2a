"""The plan of a task `start vm`: the domain, and what is asked for it."""

from typing import Self

import msgspec

from fastlib.message import PciAddress, PciId, Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import Changes
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import ivshmem_xml
from fastlib.migfra.virt.host_names import check_host
from fastlib.migfra.virt.start_task import domain_of


class StartSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The domain to start."""

    name: str
    uuid: str | None
    """The UUID in the task's XML."""
    xml: str | None
    transient: bool
    changes: Changes
    pci_ids: tuple[PciId, ...]
    pci_addresses: tuple[PciAddress, ...]
    ivshmem: str | None
    """XML of the device."""
    probe_host: str | None
    """The host that must answer on SSH. None does not wait for that."""

    @property
    def has_devices(self) -> bool:
        """Whether something is to be attached before it runs."""
        return bool(self.pci_ids or self.pci_addresses or self.ivshmem)

    @classmethod
    def of(cls, task: Start) -> Self:
        """Return the plan of a task. Raises HypervisorError if the task contradicts itself."""
        described = domain_of(task)
        return cls(
            name=described.name,
            uuid=described.uuid,
            xml=task.xml,
            transient=bool(task.transient),
            changes=Changes(
                memory=task.memory,
                vcpus=task.vcpus,
                vcpu_map=task.vcpu_map,
                memnode_map=task.memnode_map,
            ),
            pci_ids=tuple(task.pci_ids or ()),
            pci_addresses=tuple(task.devs or ()),
            ivshmem=None if task.ivshmem is None else ivshmem_xml(task.ivshmem),
            probe_host=None if task.probe_with_ssh is False else _probe_host(task, described.name),
        )


def _probe_host(task: Start, name: str) -> str:
    """The host to probe. Raises HypervisorError before anything is started for it."""
    asked = task.probe_hostname or name
    try:
        host = check_host(asked).strip("[]")
        host.encode("idna")  # the resolver refuses an empty part, and one of over 63 characters
    except (HypervisorError, UnicodeError) as error:
        why = error if isinstance(error, HypervisorError) else f"{asked[:60]!r} is no host name"
        raise HypervisorError(
            f"{name} could not be probed on SSH after its start: {why}; give probe-hostname, or "
            "probe-with-ssh: false"
        ) from None
    return host
