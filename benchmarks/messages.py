"""The eight measured messages, from the shortest to the longest of a real cluster."""

from collections.abc import Callable

from fastlib import (
    DeviceIvshmem,
    Migrate,
    MigrateParameter,
    PciAddress,
    PciId,
    Quit,
    Result,
    ResultContainer,
    Start,
    Stop,
    SwapWith,
    TaskContainer,
)

Measured = TaskContainer | ResultContainer


def quit_message() -> TaskContainer:
    return TaskContainer(tasks=[Quit()])


def stop_two() -> TaskContainer:
    names = ("centos7113", "centos7114")
    return TaskContainer(tasks=[Stop(vm_name=name, force=False) for name in names], id="stop-7113")


def migrate_full() -> TaskContainer:
    """Every option that a migration has."""
    parameter = MigrateParameter(
        retry_counter=3,
        migration_type="live",
        rdma_migration=True,
        pscom_hook_procs="auto",
        transport="rdma",
        swap_with=SwapWith(
            vm_name="centos7114",
            pscom_hook_procs="2",
            vcpu_map=[[*range(first, first + 4)] for first in range(0, 16, 4)],
        ),
        vcpu_map=[[*range(first, first + 4)] for first in range(16, 32, 4)],
    )
    migrate = Migrate(
        concurrent_execution=True,
        time_measurement=True,
        driver="qemu",
        vm_name="centos7113",
        destination="pandora2",
        parameter=parameter,
    )
    return TaskContainer(tasks=[migrate], id="migrate-1234")


def start_devices() -> TaskContainer:
    """Two domains with passthrough devices, shared memory and pinning."""
    first = Start(
        vm_name="centos7113",
        vcpus=16,
        memory=16 * 1024 * 1024,
        memnode_map=[[0], [1]],
        ivshmem=DeviceIvshmem(id="ivshmem0", size="64M", path="/dev/shm/centos7113"),
        pci_ids=[PciId(vendor=0x15B3, device=0x1004), PciId(vendor=0x8086, device=0x1528)],
        vcpu_map=[[*range(16)]] * 16,
        probe_with_ssh=True,
        probe_hostname="centos7113.cluster",
    )
    second = Start(
        vm_name="centos7114",
        vcpus=8,
        memory=8 * 1024 * 1024,
        memnode_map=[[1]],
        ivshmem=DeviceIvshmem(id="ivshmem1", size="64M"),
        devs=[PciAddress(bus=0x81, device=0, function=function) for function in range(1, 3)],
        vcpu_map=[[cpu] for cpu in range(16, 24)],
        probe_with_ssh=False,
    )
    return TaskContainer(tasks=[first, second], concurrent_execution=True, id="start-7113")


_XML_HEAD = """\
<domain type='kvm'>
  <name>centos7113</name>
  <uuid>c0f1b8b4-3d5e-4d55-8c0e-0a5f7c0d7113</uuid>
  <memory unit='KiB'>16777216</memory>
  <currentMemory unit='KiB'>16777216</currentMemory>
  <memoryBacking>
    <hugepages/>
  </memoryBacking>
  <vcpu placement='static'>16</vcpu>
  <os>
    <type arch='x86_64' machine='pc-i440fx-2.9'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <cpu mode='host-passthrough' check='none'>
    <numa>
      <cell id='0' cpus='0-7' memory='8388608' unit='KiB'/>
      <cell id='1' cpus='8-15' memory='8388608' unit='KiB'/>
    </numa>
  </cpu>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='pit' tickpolicy='delay'/>
    <timer name='hpet' present='no'/>
  </clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-kvm</emulator>
"""
_XML_DISK = """\
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='/var/lib/libvirt/images/centos7113-{letter}.qcow2'/>
      <target dev='vd{letter}' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x{slot:02x}' function='0x0'/>
    </disk>
"""
_XML_INTERFACE = """\
    <interface type='bridge'>
      <mac address='52:54:00:71:13:{slot:02x}'/>
      <source bridge='br{slot}'/>
      <model type='virtio'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x{slot:02x}' function='0x0'/>
    </interface>
"""
_XML_TAIL = """\
    <serial type='pty'>
      <target port='0'/>
    </serial>
    <console type='pty'>
      <target type='serial' port='0'/>
    </console>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""


def start_xml() -> TaskContainer:
    """A domain of a libvirt XML of 4 KB."""
    disks = [_XML_DISK.format(letter=letter, slot=4 + n) for n, letter in enumerate("abcdef")]
    interfaces = [_XML_INTERFACE.format(slot=slot) for slot in range(10, 15)]
    xml = "".join([_XML_HEAD, *disks, *interfaces, _XML_TAIL])
    return TaskContainer(tasks=[Start(xml=xml, transient=True)], id="start-xml")


def results(count: int) -> ResultContainer:
    """Results of which every tenth is an error."""
    return ResultContainer(
        result="vm started", results=[_result(n) for n in range(count)], id=f"start-{count}"
    )


def _result(number: int) -> Result:
    name = f"vm{number:05}"
    if number % 10 != 9:
        return Result(vm_name=name, status="success")
    details = f"Domain {name} not found: no domain with matching name."
    return Result(vm_name=name, status="error", details=details)


def start_many(count: int) -> TaskContainer:
    """Defined domains of four pinned CPUs each."""
    return TaskContainer(
        tasks=[
            Start(
                vm_name=f"vm{n:05}",
                vcpus=4,
                memory=4 * 1024 * 1024,
                vcpu_map=[[cpu] for cpu in range(n * 4 % 64, n * 4 % 64 + 4)],
            )
            for n in range(count)
        ],
        id=f"start-{count}",
    )


MESSAGES: dict[str, Callable[[], Measured]] = {
    "quit": quit_message,
    "stop-2": stop_two,
    "migrate-full": migrate_full,
    "start-2-devices": start_devices,
    "start-4kb-xml": start_xml,
    "results-64": lambda: results(64),
    "results-10000": lambda: results(10_000),
    "start-1000": lambda: start_many(1_000),
}
"""What builds each message, by its name in the tables."""
