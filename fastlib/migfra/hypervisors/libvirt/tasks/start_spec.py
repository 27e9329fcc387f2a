"""The plan of a task `start vm`: the domain and its requested properties."""

from collections.abc import Sequence
from typing import Self

import msgspec

from fastlib.message import PciAddress, PciId, Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import Changes
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import ivshmem_xml
from fastlib.migfra.hypervisors.libvirt.options import LibvirtOptions
from fastlib.migfra.virt.domain_xml_policy import NamedSources, check_domain_xml
from fastlib.migfra.virt.new_disks import DiskPlan, plan_disks
from fastlib.migfra.virt.probe_hosts import check_probe_host
from fastlib.migfra.virt.start_task import domain_of


class StartSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The domain to start."""

    name: str
    uuid: str | None
    """The UUID in the task's XML."""
    xml: str | None
    sources: NamedSources
    """The host's files and pools that the XML names, for the checks on the host."""
    transient: bool
    changes: Changes
    pci_ids: tuple[PciId, ...]
    pci_addresses: tuple[PciAddress, ...]
    ivshmem: str | None
    """XML of the device."""
    disks: tuple[DiskPlan, ...] = ()
    """The disks to create."""
    probe_host: str | None
    """The host that must answer on SSH. None does not wait for an answer."""

    @property
    def has_devices(self) -> bool:
        """Whether devices must be attached before it runs."""
        return bool(self.pci_ids or self.pci_addresses or self.ivshmem)

    @classmethod
    def of(cls, task: Start, options: LibvirtOptions | None) -> Self:
        """Return the plan of a task. `options` is None if the task has begun: then it was allowed.

        Raises HypervisorError if the task contradicts itself, or if the options do not allow it.
        """
        described = domain_of(task)
        sources = NamedSources()
        probe_host = None
        disks: tuple[DiskPlan, ...] = ()
        if options is not None:
            policy, folder = options.domain_xml.policy, options.image_directory
            disks = plan_disks(task, described.name, policy, folder)
        if options is not None and task.xml is not None:
            sources = check_domain_xml(task.xml, options.domain_xml.policy)
        if options is not None and task.probe_with_ssh is not False:
            probe_host = _probe_host(task, described.name, options.probe_hosts)
        return cls(
            name=described.name,
            uuid=described.uuid,
            xml=task.xml,
            sources=sources,
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
            disks=disks,
            probe_host=probe_host,
        )


def _probe_host(task: Start, name: str, allowed: Sequence[str]) -> str:
    """Return the host to probe. Raises HypervisorError if the task may not name it."""
    try:
        return check_probe_host(task.probe_hostname or name, name, allowed)
    except HypervisorError as error:
        raise HypervisorError(
            f"{name} could not be probed on SSH after its start: {error}; give probe-hostname, or "
            "probe-with-ssh: false"
        ) from None
