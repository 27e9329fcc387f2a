"""XML of domains as honest people write it, or as `virsh dumpxml --inactive` prints it."""

import re
from pathlib import Path

DESKTOP = """\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>desktop</name>
  <uuid>9c6a0b0e-7f8f-4f5c-9d59-3a1b0d1e5f77</uuid>
  <title>A desktop</title>
  <description>Runs /usr/bin/things &amp; more <!-- with a remark --></description>
  <metadata>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">
      <libosinfo:os id="http://debian.org/debian/12"/>
    </libosinfo:libosinfo>
  </metadata>
  <memory unit='KiB'>4194304</memory>
  <currentMemory unit='KiB'>4194304</currentMemory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <vcpu placement='static'>2</vcpu>
  <resource><partition>/machine</partition></resource>
  <sysinfo type='smbios'>
    <system><entry name='product'>OpenStack /usr/bin</entry></system>
    <oemStrings><entry>a=b,c</entry></oemStrings>
  </sysinfo>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' secure='no' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>
    <nvram template='/usr/share/OVMF/VARS.fd'>/var/lib/libvirt/qemu/nvram/d_VARS.fd</nvram>
    <boot dev='hd'/>
    <smbios mode='sysinfo'/>
  </os>
  <features>
    <acpi/>
    <apic/>
    <hyperv mode='custom'>
      <relaxed state='on'/>
      <vapic state='on'/>
      <spinlocks state='on' retries='8191'/>
      <stimer state='on'><direct state='on'/></stimer>
    </hyperv>
    <kvm><hidden state='on'/></kvm>
    <vmport state='off'/>
    <smm state='on'/>
  </features>
  <cpu mode='host-passthrough' check='none' migratable='on'/>
  <clock offset='timezone' timezone='Europe/Berlin'>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='pit' tickpolicy='delay'/>
    <timer name='hpet' present='no'/>
  </clock>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='/var/lib/libvirt/images/desktop.qcow2'/>
      <target dev='vda' bus='virtio'/>
      <serial>WD-1234</serial>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </disk>
    <controller type='usb' index='0' model='qemu-xhci' ports='15'>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </controller>
    <controller type='pci' index='1' model='pcie-root-port'>
      <model name='pcie-root-port'/>
      <target chassis='1' port='0x10'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0' multifunction='on'/>
    </controller>
    <interface type='network'>
      <mac address='52:54:00:8a:4b:1d'/>
      <source network='default'/>
      <target dev='vnet3'/>
      <model type='virtio'/>
      <address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>
    </interface>
    <serial type='pty'>
      <target type='isa-serial' port='0'><model name='isa-serial'/></target>
    </serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
      <address type='virtio-serial' controller='0' bus='0' port='1'/>
    </channel>
    <channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
    <input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>
    <input type='mouse' bus='ps2'/>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
    <graphics type='spice' autoport='yes'>
      <listen type='address'/>
      <image compression='off'/>
      <gl enable='no'/>
    </graphics>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1' passwd='a/b'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
    <sound model='ich9'/>
    <audio id='1' type='spice'/>
    <video>
      <model type='qxl' ram='65536' vram='65536' vgamem='16384' heads='1' primary='yes'/>
    </video>
    <redirdev bus='usb' type='spicevmc'><address type='usb' bus='0' port='2'/></redirdev>
    <watchdog model='i6300esb' action='reset'/>
    <memballoon model='virtio'><stats period='5'/></memballoon>
    <rng model='virtio'>
      <backend model='random'>/dev/urandom</backend>
      <rate bytes='1024' period='1000'/>
    </rng>
  </devices>
</domain>
"""
CLUSTER = """\
<domain type='kvm'>
  <name>compute-7</name>
  <memory unit='GiB'>8</memory>
  <memoryBacking>
    <hugepages><page size='1' unit='GiB' nodeset='0'/></hugepages>
    <locked/>
  </memoryBacking>
  <maxMemory slots='4' unit='GiB'>16</maxMemory>
  <vcpu placement='static' cpuset='0-3,^2' current='4'>4</vcpu>
  <iothreads>1</iothreads>
  <cputune>
    <vcpupin vcpu='0' cpuset='0'/>
    <emulatorpin cpuset='0-3'/>
    <iothreadpin iothread='1' cpuset='3'/>
  </cputune>
  <numatune>
    <memory mode='strict' nodeset='0'/>
    <memnode cellid='0' mode='strict' nodeset='0'/>
  </numatune>
  <os>
    <type arch='x86_64' machine='pc-i440fx-2.8'>hvm</type>
    <kernel>/var/lib/libvirt/images/vmlinuz</kernel>
    <initrd>/var/lib/libvirt/images/initrd</initrd>
    <cmdline>console=ttyS0 root=/dev/vda1 init=/sbin/init</cmdline>
  </os>
  <features><acpi/><apic eoi='on'/><pae/></features>
  <cpu mode='custom' match='exact' check='partial'>
    <model fallback='allow'>Haswell-noTSX</model>
    <vendor>Intel</vendor>
    <topology sockets='1' cores='4' threads='1'/>
    <feature policy='require' name='vmx'/>
    <numa><cell id='0' cpus='0-3' memory='8' unit='GiB' memAccess='shared'/></numa>
  </cpu>
  <clock offset='utc'/>
  <on_crash>restart</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native'/>
      <source file='/var/lib/libvirt/images/compute-7.img'/>
      <target dev='vda' bus='virtio'/>
      <iotune><total_iops_sec>500</total_iops_sec></iotune>
      <boot order='1'/>
    </disk>
    <disk type='volume' device='disk'>
      <driver name='qemu' type='raw'/>
      <source pool='default' volume='scratch 7.img'/>
      <target dev='vdb' bus='virtio'/>
      <shareable/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/var/lib/libvirt/images/top.qcow2'/>
      <backingStore type='file'>
        <format type='qcow2'/>
        <source file='/var/lib/libvirt/images/middle.qcow2'/>
        <backingStore type='file'>
          <format type='raw'/>
          <source file='/var/lib/libvirt/images/base/base.img'/>
          <backingStore/>
        </backingStore>
      </backingStore>
      <target dev='vdc' bus='virtio'/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:07'/>
      <source bridge='br0'/>
      <virtualport type='openvswitch'/>
      <vlan><tag id='42'/></vlan>
      <model type='virtio'/>
      <driver name='vhost' queues='4'/>
      <mtu size='9000'/>
      <filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.7'/></filterref>
    </interface>
    <serial type='file'>
      <source path='/var/lib/libvirt/images/compute-7.log' append='on'/>
      <target port='0'/>
    </serial>
    <memory model='dimm'>
      <source><pagesize unit='MiB'>2</pagesize><nodemask>0</nodemask></source>
      <target><size unit='MiB'>512</size><node>0</node></target>
    </memory>
    <shmem name='shared'>
      <model type='ivshmem-plain'/>
      <size unit='M'>64</size>
    </shmem>
    <panic model='isa'/>
  </devices>
</domain>
"""
INSTANCE = """\
<domain type='kvm'>
  <name>instance-0000a1f3</name>
  <uuid>0f0c7b3e-5a64-4d1a-9f07-9d7a0e6f7c11</uuid>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>web-1</nova:name>
    </nova:instance>
  </metadata>
  <memory unit='KiB'>2097152</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <defaultiothread thread_pool_min='1' thread_pool_max='8'/>
  <cputune><shares>2048</shares></cputune>
  <sysinfo type='smbios'>
    <system>
      <entry name='manufacturer'>OpenStack Foundation</entry>
      <entry name='uuid'>0f0c7b3e-5a64-4d1a-9f07-9d7a0e6f7c11</entry>
      <entry name='serial'>ds=nocloud-net;s=http://192.0.2.1/</entry>
    </system>
  </sysinfo>
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-8.2'>hvm</type>
    <firmware>
      <feature enabled='yes' name='enrolled-keys'/>
      <feature enabled='yes' name='secure-boot'/>
    </firmware>
    <boot dev='hd'/>
    <smbios mode='sysinfo'/>
  </os>
  <features><acpi/><apic/><vmcoreinfo state='on'/><smm state='on'/></features>
  <cpu mode='host-model' check='partial'>
    <topology sockets='2' dies='1' cores='1' threads='1'/>
  </cpu>
  <clock offset='localtime'>
    <timer name='hypervclock' present='yes'/>
  </clock>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' io='native' discard='unmap'>
        <iothreads><iothread id='1'><queue id='0'/></iothread></iothreads>
      </driver>
      <source file='/var/lib/libvirt/images/0f0c7b3e/disk'/>
      <target dev='vda' bus='virtio'/>
      <transient shareBacking='yes'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/>
      <source file='/var/lib/libvirt/images/0f0c7b3e/disk.config' startupPolicy='optional'/>
      <target dev='sda' bus='sata'/>
      <readonly/>
    </disk>
    <interface type='bridge'>
      <mac address='fa:16:3e:2b:00:01'/>
      <source bridge='br-int'/>
      <virtualport type='openvswitch'>
        <parameters interfaceid='3b8ef2c1-5d6a-4c0b-8f53-1d2e3f405162'/>
      </virtualport>
      <target dev='tap3b8ef2c1-5d'/>
      <model type='virtio'/>
      <coalesce><rx><frames max='7'/></rx></coalesce>
    </interface>
    <serial type='pty'>
      <log file='/var/lib/libvirt/images/0f0c7b3e/console.log' append='off'/>
      <target type='isa-serial' port='0'><model name='isa-serial'/></target>
    </serial>
    <channel type='spiceport'>
      <source channel='org.spice-space.webdav.0'/>
      <target type='virtio' name='org.spice-space.webdav.0'/>
    </channel>
    <tpm model='tpm-crb'>
      <backend type='emulator' version='2.0' persistent_state='yes'>
        <active_pcr_banks><sha256/></active_pcr_banks>
      </backend>
    </tpm>
    <graphics type='vnc'><listen type='socket'/></graphics>
    <video><driver name='qemu' iommu='on'/><model type='virtio' heads='1' primary='yes'/></video>
    <memory model='virtio-mem'>
      <target dynamicMemslots='yes'>
        <size unit='KiB'>1048576</size>
        <node>0</node>
        <block unit='KiB'>2048</block>
        <requested unit='KiB'>0</requested>
        <address base='0x140000000'/>
      </target>
    </memory>
    <rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>
  </devices>
</domain>
"""
HONEST = (DESKTOP, CLUSTER, INSTANCE)


def schema_names() -> tuple[list[str], list[str]]:
    """All names of elements and of attributes in libvirt's schema of domains, of version 9.0."""
    _, elements, attributes = re.split(
        r"\[\w+\]", (Path(__file__).parent / "schema_names.txt").read_text()
    )
    return elements.split(), attributes.split()
