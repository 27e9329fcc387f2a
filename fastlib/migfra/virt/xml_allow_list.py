"""The elements and attributes of a domain's XML that a task may use at the level `checked`.

Each element is declared by its path below `<domain>`, with its attributes and the type of each
value. The key `""` is the type of the element's text. All others are refused.

None of these may be added, because each of them names a file, a program, a socket, a device or
another host: `script`, `qemu:*`, `seclabel`, `filesystem`, `hostdev`, `backend` of an interface,
`acpi` tables, `bootloader`, `init`, `auth`, `reservations`, sources of `memory`, `rom file`,
`rendernode`; types such as `network`, `nvme`, `ethernet`, `direct`, `user`, `tcp`, `unix` with a
path, `egd`, `passthrough`, and actions that write dumps.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from .xml_values import (
    ADDRESS,
    CPUS,
    EMULATOR,
    FILE,
    FIRMWARE,
    LABEL,
    NUMBER,
    POOL,
    SHARED_MEMORY,
    TAP,
    TEXT,
    TIME_ZONE,
    VARIABLES,
    VOLUME,
    WORD,
    OneOf,
    Value,
)

Attributes = Mapping[str, Value]

FREE: Final = "metadata"
"""The element whose content libvirt stores and does not read."""
RECURSIVE: Final = "backingStore"
"""The element that may contain itself."""

_FORMAT: Final = OneOf("raw", "qcow2")
"""The formats of images. Others name further files in ways that fastlib cannot follow."""
_SIZE: Final[Attributes] = {"": NUMBER, "unit": WORD}
_NUMBER: Final[Attributes] = {"": NUMBER}
_STATE: Final[Attributes] = {"state": WORD}
_AFTER: Final[Attributes] = {"": OneOf("destroy", "restart", "preserve", "rename-restart")}
"""The actions without coredump-*: dumps fill a disk of the host."""


def _words(names: str) -> dict[str, Value]:
    return dict.fromkeys(names.split(), WORD)


def _with_states(parent: str, names: str) -> dict[str, Attributes]:
    return {f"{parent}/{name}": _STATE for name in names.split()}


def _empty(parent: str, names: str) -> dict[str, Attributes]:
    return {f"{parent}/{name}": {} for name in names.split()}


_GENERAL: Final[Mapping[str, Attributes]] = {
    "": {"type": OneOf("kvm", "qemu", "xen", "test"), "id": NUMBER},
    "name": {"": TEXT},
    "uuid": {"": LABEL},
    "genid": {"": LABEL},
    "title": {"": TEXT},
    "description": {"": TEXT},
    FREE: {},
    "memory": {**_SIZE, "dumpCore": WORD},
    "currentMemory": _SIZE,
    "maxMemory": {**_SIZE, "slots": NUMBER},
    "vcpu": {"": NUMBER, "placement": WORD, "cpuset": CPUS, "current": NUMBER},
    "vcpus": {},
    "vcpus/vcpu": _words("id enabled hotpluggable order"),
    "iothreads": _NUMBER,
    "defaultiothread": _words("thread_pool_min thread_pool_max"),
    "iothreadids": {},
    "iothreadids/iothread": _words("id thread_pool_min thread_pool_max"),
    "resource": {},
    "resource/partition": {"": OneOf("/machine")},
    **dict.fromkeys(("on_poweroff", "on_reboot", "on_crash"), _AFTER),
    "pm": {},
    "pm/suspend-to-mem": _words("enabled"),
    "pm/suspend-to-disk": _words("enabled"),
    "clock": {**_words("offset basis adjustment start"), "timezone": TIME_ZONE},
    "clock/timer": _words("name track tickpolicy frequency mode present"),
    "clock/timer/catchup": _words("threshold slew limit"),
    "sysinfo": {"type": OneOf("smbios")},
    **_empty("sysinfo", "bios system baseBoard chassis oemStrings"),
    **{
        f"sysinfo/{table}/entry": {"": TEXT, "name": WORD}
        for table in ("bios", "system", "baseBoard", "chassis", "oemStrings")
    },
}

_TUNING: Final[Mapping[str, Attributes]] = {
    "cputune": {},
    **{
        f"cputune/{name}": _NUMBER
        for name in (
            "shares", "period", "quota", "global_period", "global_quota", "emulator_period",
            "emulator_quota", "iothread_period", "iothread_quota",
        )
    },
    "cputune/vcpupin": {"vcpu": NUMBER, "cpuset": CPUS},
    "cputune/emulatorpin": {"cpuset": CPUS},
    "cputune/iothreadpin": {"iothread": NUMBER, "cpuset": CPUS},
    "numatune": {},
    "numatune/memory": {"mode": WORD, "nodeset": CPUS, "placement": WORD},
    "numatune/memnode": {"cellid": NUMBER, "mode": WORD, "nodeset": CPUS},
    "memtune": {},
    **{
        f"memtune/{name}": _SIZE
        for name in ("hard_limit", "soft_limit", "swap_hard_limit", "min_guarantee")
    },
    "blkiotune": {},
    "blkiotune/weight": _NUMBER,
    "memoryBacking": {},
    **_empty("memoryBacking", "hugepages nosharepages locked discard"),
    "memoryBacking/hugepages/page": {"size": NUMBER, "unit": WORD, "nodeset": CPUS},
    "memoryBacking/source": {"type": OneOf("anonymous", "memfd")},
    "memoryBacking/access": _words("mode"),
    "memoryBacking/allocation": _words("mode threads"),
}  # fmt: skip

_BOOT: Final[Mapping[str, Attributes]] = {
    "os": {"firmware": OneOf("bios", "efi")},
    "os/type": {"": OneOf("hvm", "linux", "xen", "xenpvh"), "arch": WORD, "machine": WORD},
    "os/boot": _words("dev"),
    "os/bootmenu": _words("enable timeout"),
    "os/bios": _words("useserial rebootTimeout"),
    "os/smbios": {"mode": OneOf("emulate", "sysinfo")},
    # The code must be read only, or QEMU would open it for writing.
    "os/loader": {
        "": FIRMWARE,
        "readonly": OneOf("yes"),
        "type": OneOf("rom", "pflash"),
        **_words("secure stateless format"),
    },
    "os/nvram": {
        "": VARIABLES,
        "template": FIRMWARE,
        **_words("format templateFormat"),
    },
    "os/firmware": {},
    "os/firmware/feature": _words("enabled name"),
    "os/kernel": {"": FILE},
    "os/initrd": {"": FILE},
    "os/dtb": {"": FILE},
    "os/cmdline": {"": TEXT},
}

_FEATURES: Final[Mapping[str, Attributes]] = {
    "features": {},
    **_empty("features", "acpi pae viridian kvm xen"),
    "features/apic": _words("eoi"),
    **_with_states(
        "features",
        "hap pvspinlock pmu vmport smm vmcoreinfo htm nested-hv ccf-assist ras ps2",
    ),
    "features/gic": _words("version"),
    "features/smm/tseg": _SIZE,
    "features/ioapic": _words("driver"),
    "features/hpt": _words("resizing"),
    "features/hpt/maxpagesize": _SIZE,
    "features/msrs": _words("unknown"),
    "features/async-teardown": _words("enabled"),
    **{f"features/{name}": _words("value") for name in ("cfpc", "sbbc", "ibs")},
    "features/hyperv": _words("mode"),
    **_with_states(
        "features/hyperv",
        "relaxed vapic vpindex runtime synic stimer reset frequencies reenlightenment tlbflush ipi "
        "evmcs avic emsr_bitmap xmm_input",
    ),
    "features/hyperv/spinlocks": {"state": WORD, "retries": NUMBER},
    "features/hyperv/vendor_id": {"state": WORD, "value": LABEL},
    "features/hyperv/stimer/direct": _STATE,
    "features/hyperv/tlbflush/direct": _STATE,
    "features/hyperv/tlbflush/extended": _STATE,
    **_with_states("features/kvm", "hidden hint-dedicated poll-control pv-ipi"),
    "features/kvm/dirty-ring": {"state": WORD, "size": NUMBER},
    "cpu": _words("mode match check migratable"),
    "cpu/model": {"": WORD, "fallback": WORD, "vendor_id": LABEL},
    "cpu/vendor": {"": WORD},
    "cpu/topology": _words("sockets dies clusters cores threads"),
    "cpu/feature": _words("policy name"),
    "cpu/cache": _words("level mode"),
    "cpu/maxphysaddr": _words("mode bits limit"),
    "cpu/numa": {},
    "cpu/numa/cell": {
        "id": NUMBER,
        "cpus": CPUS,
        "memory": NUMBER,
        **_words("unit memAccess discard"),
    },
    "cpu/numa/cell/distances": {},
    "cpu/numa/cell/distances/sibling": _words("id value"),
}

_SOURCE: Final[Attributes] = {
    "file": FILE,
    "dev": FILE,
    "pool": POOL,
    "volume": VOLUME,
    "startupPolicy": WORD,
    "index": NUMBER,
}
_DISK_TYPE: Final = OneOf("file", "block", "volume")
_DISKS: Final[Mapping[str, Attributes]] = {
    "disk": {
        "type": _DISK_TYPE,
        "device": OneOf("disk", "cdrom", "floppy"),
        **_words("snapshot model"),
    },
    "disk/driver": {
        "type": _FORMAT,
        **_words(
            "name cache error_policy rerror_policy io ioeventfd event_idx copy_on_read discard "
            "iothread queues queue_size detect_zeroes discard_no_unref iommu ats packed page_per_vq"
        ),
    },
    "disk/driver/iothreads": {},
    "disk/driver/iothreads/iothread": _words("id"),
    "disk/driver/iothreads/iothread/queue": _words("id"),
    "disk/driver/metadata_cache": {},
    "disk/driver/metadata_cache/max_size": _SIZE,
    "disk/source": _SOURCE,
    "disk/backingStore": {"type": _DISK_TYPE, "index": NUMBER},
    "disk/backingStore/format": {"type": _FORMAT},
    "disk/backingStore/source": _SOURCE,
    "disk/target": _words("dev bus tray removable rotation_rate"),
    "disk/iotune": {},
    **{
        f"disk/iotune/{way}_{unit}_sec{suffix}": _NUMBER
        for way in ("total", "read", "write")
        for unit in ("bytes", "iops")
        for suffix in ("", "_max", "_max_length")
    },
    "disk/iotune/size_iops_sec": _NUMBER,
    "disk/iotune/group_name": {"": WORD},
    **_empty("disk", "readonly shareable"),
    "disk/transient": _words("shareBacking"),
    **{f"disk/{name}": {"": LABEL} for name in ("serial", "wwn", "vendor", "product")},
    "disk/geometry": _words("cyls heads secs trans"),
    "disk/blockio": _words("logical_block_size physical_block_size discard_granularity"),
    "controller": _words("type index model ports vectors"),
    "controller/model": _words("name"),
    "controller/target": _words("chassisNr chassis port busNr index hotplug memReserve"),
    "controller/target/node": _NUMBER,
    "controller/driver": _words(
        "queues cmd_per_lun max_sectors ioeventfd iothread iommu ats packed page_per_vq"
    ),
    "controller/pcihole64": _SIZE,
    "controller/master": _words("startport"),
}

_OFFLOADS: Final = _words("csum gso tso4 tso6 ecn ufo mrg_rxbuf")
_INTERFACES: Final[Mapping[str, Attributes]] = {
    # Clusters connect domains to bridges, so a task can choose any bridge of the host.
    "interface": {"type": OneOf("network", "bridge"), "trustGuestRxFilters": WORD},
    "interface/mac": _words("address type check"),
    "interface/source": _words("network bridge portgroup portid"),
    "interface/model": _words("type"),
    "interface/driver": {
        "name": OneOf("vhost", "qemu"),
        **_words(
            "txmode ioeventfd event_idx queues rx_queue_size tx_queue_size rss rss_hash_report "
            "iommu ats packed page_per_vq"
        ),
    },
    "interface/driver/host": _OFFLOADS,
    "interface/driver/guest": _OFFLOADS,
    "interface/target": {"dev": TAP},
    "interface/link": _STATE,
    "interface/mtu": _words("size"),
    "interface/bandwidth": {},
    "interface/bandwidth/inbound": _words("average peak burst floor"),
    "interface/bandwidth/outbound": _words("average peak burst"),
    "interface/vlan": _words("trunk"),
    "interface/vlan/tag": _words("id nativeMode"),
    "interface/virtualport": {"type": OneOf("openvswitch")},
    "interface/virtualport/parameters": _words("interfaceid profileid"),
    "interface/filterref": _words("filter"),
    "interface/filterref/parameter": {"name": WORD, "value": ADDRESS},
    "interface/port": _words("isolated"),
    "interface/rom": _words("bar enabled"),
    **_empty("interface", "coalesce coalesce/rx"),
    "interface/coalesce/rx/frames": _words("max"),
    "interface/tune": {},
    "interface/tune/sndbuf": _NUMBER,
}

_SERIAL: Final = ("serial", "console", "parallel")
_CONSOLES: Final[Mapping[str, Attributes]] = {
    **{name: {"type": OneOf("pty", "null", "file")} for name in _SERIAL},
    **{f"{name}/source": {"path": FILE, "append": WORD} for name in _SERIAL},
    # OpenStack keeps the output of a domain's console there.
    **{f"{name}/log": {"file": FILE, "append": WORD} for name in _SERIAL},
    # libvirt chooses the path of a channel's socket, by the channel's name.
    "channel": {"type": OneOf("pty", "null", "unix", "spicevmc", "spiceport")},
    "channel/source": {"mode": OneOf("bind"), "channel": WORD},
    **{f"{name}/target": _words("type port name") for name in (*_SERIAL, "channel")},
    "serial/target/model": _words("name"),
    "graphics": {
        "type": OneOf("vnc", "spice"),
        "listen": ADDRESS,
        "passwd": TEXT,
        **_words(
            "port autoport tlsPort websocket keymap passwdValidTo connected sharePolicy "
            "defaultMode powerControl"
        ),
    },
    "graphics/listen": {
        # libvirt chooses the path of a socket. Tasks cannot name one.
        "type": OneOf("address", "network", "none", "socket"),
        "address": ADDRESS,
        "network": WORD,
    },
    "graphics/channel": _words("name mode"),
    **{f"graphics/{name}": _words("compression") for name in ("image", "jpeg", "zlib", "playback")},
    "graphics/streaming": _words("mode"),
    "graphics/mouse": _words("mode"),
    "graphics/clipboard": _words("copypaste"),
    "graphics/filetransfer": _words("enable"),
    "graphics/gl": {"enable": OneOf("no")},
    "video": {},
    # The name vhostuser is left out, because it starts another program.
    "video/driver": {"name": OneOf("qemu"), **_words("iommu ats packed page_per_vq")},
    "video/model": _words("type vram vgamem ram vram64 heads primary blob edid"),
    "video/model/acceleration": _words("accel3d accel2d"),
    "video/model/resolution": _words("x y"),
    "input": {"type": OneOf("tablet", "mouse", "keyboard"), **_words("bus model")},
    "hub": _words("type"),
    "sound": _words("model multichannel streams"),
    "sound/codec": _words("type"),
    "sound/audio": _words("id"),
    "audio": {"id": NUMBER, "type": OneOf("none", "spice")},
    "redirdev": {"bus": OneOf("usb"), "type": OneOf("spicevmc")},
}

_OTHERS: Final[Mapping[str, Attributes]] = {
    "watchdog": {
        "model": WORD,
        "action": OneOf("reset", "shutdown", "poweroff", "pause", "none", "inject-nmi"),
    },
    "memballoon": _words("model autodeflate freePageReporting"),
    "memballoon/stats": _words("period"),
    "memballoon/driver": _words("iommu ats packed page_per_vq"),
    "rng": _words("model"),
    "rng/rate": _words("bytes period"),
    "rng/backend": {
        "": OneOf("/dev/urandom", "/dev/random", "/dev/hwrng"),
        "model": OneOf("random", "builtin"),
    },
    "rng/driver": _words("iommu ats packed page_per_vq"),
    "panic": _words("model"),
    "iommu": _words("model"),
    "iommu/driver": _words("intremap caching_mode eim iotlb aw_bits dma_translation"),
    # libvirt chooses the path of swtpm, by the domain's UUID.
    "tpm": _words("model"),
    "tpm/backend": {"type": OneOf("emulator"), **_words("version persistent_state")},
    **_empty("tpm/backend", "active_pcr_banks"),
    **_empty("tpm/backend/active_pcr_banks", "sha1 sha256 sha384 sha512"),
    "memory": {"model": OneOf("dimm", "virtio-mem"), **_words("access discard")},
    "memory/source": {},
    "memory/source/pagesize": _SIZE,
    "memory/source/nodemask": {"": CPUS},
    "memory/target": _words("dynamicMemslots"),
    "memory/target/address": _words("base"),
    "memory/target/size": _SIZE,
    "memory/target/block": _SIZE,
    "memory/target/requested": _SIZE,
    "memory/target/current": _SIZE,
    "memory/target/node": _NUMBER,
    # The same as `ivshmem` of a task.
    "shmem": {"name": SHARED_MEMORY, "role": WORD},
    "shmem/model": {"type": OneOf("ivshmem-plain")},
    "shmem/size": _SIZE,
    "nvram": {},
}

_OF_EACH_DEVICE: Final[Mapping[str, Attributes]] = {
    "alias": _words("name"),
    "boot": _words("order"),
    "acpi": _words("index"),
    "address": _words(
        "type domain bus slot function multifunction controller target unit port cssid ssid devno "
        "reg iobase irq base"
    ),
}


def _devices(*tables: Mapping[str, Attributes]) -> dict[str, Attributes]:
    """Return the paths of devices, each with the elements that every device may have."""
    found: dict[str, Attributes] = {"devices": {}, "devices/emulator": {"": EMULATOR}}
    for table in tables:
        found |= {f"devices/{path}": attributes for path, attributes in table.items()}
        for device in {path.partition("/")[0] for path in table}:
            for path, attributes in _OF_EACH_DEVICE.items():
                found.setdefault(f"devices/{device}/{path}", attributes)
    return found


ALLOWED: Final[Mapping[str, Attributes]] = {
    **_GENERAL,
    **_TUNING,
    **_BOOT,
    **_FEATURES,
    **_devices(_DISKS, _INTERFACES, _CONSOLES, _OTHERS),
}
"""The attributes of each element that a task may use, by the element's path."""


def path_of(tags: Sequence[str]) -> str:
    """Return the key of an element in `ALLOWED`. `tags` lead from below `<domain>` down to it."""
    kept: list[str] = []
    for tag in tags:
        if not (tag == RECURSIVE and kept and kept[-1] == RECURSIVE):
            kept.append(tag)
    return "/".join(kept)
