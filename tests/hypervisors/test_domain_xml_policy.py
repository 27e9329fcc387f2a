"""The allow-list of a task's XML accepts honest domains, and refuses everything outside it."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib import TaskContainer
from fastlib.migfra import HypervisorError
from fastlib.migfra.virt.domain_xml_policy import check_domain_xml
from fastlib.migfra.virt.xml_allow_list import ALLOWED, path_of
from fastlib.migfra.virt.xml_values import TEXT, VOLUME, Source, XmlPolicy
from tests.support.lab import guest
from tests.support.libvirt.domains import CLUSTER, DESKTOP, HONEST, schema_names
from tests.support.libvirt.driver import domain
from tests.support.strategies import examples

POLICY = XmlPolicy()
IMAGES = "/var/lib/libvirt/images"
ELEMENTS, ATTRIBUTES = schema_names()
ROOT = Path(__file__).parents[2]


def refusal(xml: str, policy: XmlPolicy = POLICY) -> str:
    with pytest.raises(HypervisorError) as caught:
        check_domain_xml(xml, policy)
    return str(caught.value)


# Honest domains


@pytest.mark.parametrize("xml", [*HONEST, domain()])
def test_honest_domain_passes(xml):
    check_domain_xml(xml, POLICY)


def test_examples_of_start_tasks_pass():
    text = (ROOT / "schemas/examples/start-vm.task.yaml").read_text()
    descriptions = [task.xml for task in TaskContainer.from_yaml(text).tasks if task.xml]
    assert descriptions
    for xml in descriptions:
        check_domain_xml(xml, POLICY)


def test_guests_of_laboratory_pass_with_their_folder():
    folder = Path("/srv/lab")
    policy = XmlPolicy(directories=["/srv/lab"])
    sizes = {"memory": 100, "vcpus": 2, "absent_vcpus": [1]}
    image = (folder / "kernel", folder / "initrd")
    made = guest.linux("größe 1", folder, image, dirty=1, rate=1, disk=None, **sizes)
    for xml in (made.xml, guest.bios("vm1", folder, **sizes).xml):
        check_domain_xml(xml, policy)
        refused = refusal(xml, XmlPolicy(directories=["/srv/lab"], emulators=[]))
        assert "<devices> <emulator>" in refused


def test_files_and_volumes_are_returned():
    found = check_domain_xml(CLUSTER, POLICY)
    assert {each.path for each in found.files} == {
        f"{IMAGES}/{name}"
        for name in (
            "vmlinuz", "initrd", "compute-7.img", "top.qcow2", "middle.qcow2", "base/base.img",
            "compute-7.log",
        )
    }  # fmt: skip
    assert {each.path for each in found.files if each.format == "qcow2"} == {
        f"{IMAGES}/top.qcow2",
        f"{IMAGES}/middle.qcow2",
    }
    assert [(each.pool, each.volume) for each in found.volumes] == [("default", "scratch 7.img")]


# Levels


def test_level_defined_only_refuses_all_xml():
    text = refusal(domain(), XmlPolicy(allow="defined-only"))
    assert "only domains that are defined" in text
    assert "domain-xml: {allow: checked}" in text


def test_level_any_refuses_nothing():
    check_domain_xml(with_device("<filesystem/>"), XmlPolicy(allow="any"))


# Attacks


def with_device(text: str) -> str:
    return CLUSTER.replace("<devices>", f"<devices>{text}", 1)


def at_top(text: str) -> str:
    return CLUSTER.replace("</domain>", f"{text}</domain>")


def disk(source: str, attributes: str = "type='file'", inside: str = "") -> str:
    return with_device(f"<disk {attributes}><source {source}/>{inside}<target dev='sdz'/></disk>")


QEMU = "xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'"
BRIDGE = "<interface type='bridge'><source bridge='br0'/>"
ATTACKS = [
    # Programs
    (with_device(f"{BRIDGE}<script path='/tmp/x'/></interface>"), "<devices> <interface> <script>"),
    (with_device(f"{BRIDGE}<downscript path='/tmp/x'/></interface>"), "<interface> <downscript>"),
    (with_device("<emulator>/tmp/x</emulator>"), "<devices> <emulator>"),
    (with_device("<emulator>/usr/bin/qemu-system-x86_64/../sh</emulator>"), "<emulator>"),
    (at_top(f"<q:commandline {QEMU}><q:arg value='-S'/></q:commandline>"), "<qemu:commandline>"),
    (at_top(f"<q:override {QEMU}/>"), "<qemu:override>"),
    (at_top(f"<q:capabilities {QEMU}/>"), "<qemu:capabilities>"),
    (at_top("<bootloader>/bin/sh</bootloader>"), "<bootloader>"),
    (CLUSTER.replace("<os>", "<os><init>/bin/sh</init>"), "<os> <init>"),
    (CLUSTER.replace("type='kvm'", "type='lxc'"), "<domain type>"),
    (with_device("<video><driver name='vhostuser'/></video>"), "<video> <driver name>"),
    # Files
    (disk("file='/etc/shadow'"), "<devices> <disk> <source file>"),
    (disk(f"file='{IMAGES}/../../../../etc/shadow'"), "<source file>"),
    (disk(f"file='{IMAGES}'"), "<source file>"),
    (disk(f"file='{IMAGES}-other/x'"), "<source file>"),
    (disk("file='x'"), "<source file>"),
    (disk("file=''"), "<source file>"),
    (disk("dev='/dev/sda'", "type='block'"), "<source dev>"),
    (disk(f"dir='{IMAGES}/x'", "type='dir'"), "<disk type>"),
    (disk("pool='root' volume='x'", "type='volume'"), "<source pool>"),
    (disk("pool='default' volume='../x'", "type='volume'"), "<source volume>"),
    (disk("protocol='nbd' name='x'", "type='network'"), "<disk type>"),
    (disk("protocol='rbd' name='x'"), "the attribute protocol at <devices> <disk> <source>"),
    (disk("type='pci'", "type='nvme'"), "<disk type>"),
    (disk("type='unix' path='/run/x'", "type='vhostuser'"), "<disk type>"),
    (disk(f"file='{IMAGES}/x'", "type='file' device='lun'"), "<disk device>"),
    (disk(f"file='{IMAGES}/x'", "type='file' rawio='yes'"), "the attribute rawio"),
    (disk(f"file='{IMAGES}/x'", inside="<driver type='vmdk'/>"), "<driver type>"),
    (
        disk(
            f"file='{IMAGES}/x'", inside="<backingStore type='file'><source file='/etc/shadow'/>"
            "</backingStore>",
        ),
        "<backingStore> <source file>",
    ),
    (disk(f"file='{IMAGES}/x'", inside="<mirror type='file' file='/etc/x'/>"), "<mirror>"),
    (disk(f"file='{IMAGES}/x'", inside="<auth username='a'/>"), "<disk> <auth>"),
    (disk(f"file='{IMAGES}/x'/><seclabel relabel='no'"), "<disk> <seclabel>"),
    (CLUSTER.replace(f"<kernel>{IMAGES}/vmlinuz", "<kernel>/etc/shadow"), "<os> <kernel>"),
    (CLUSTER.replace(f"<kernel>{IMAGES}/", f"<kernel> {IMAGES}/"), "<os> <kernel>"),
    (CLUSTER.replace(f"<kernel>{IMAGES}/", f"<kernel>{IMAGES}/<!-- x -->"), "a comment"),
    (CLUSTER.replace(f"<kernel>{IMAGES}/", f"<kernel>{IMAGES}/<a>x</a>"), "an element in <kernel>"),
    (CLUSTER.replace("<os>", "<os><dtb>/etc/shadow</dtb>"), "<os> <dtb>"),
    (CLUSTER.replace("<os>", "<os><acpi><table type='slic'>/x</table></acpi>"), "<os> <acpi>"),
    (CLUSTER.replace("<os>", "<os><nvram>/etc/shadow</nvram>"), "<os> <nvram>"),
    (CLUSTER.replace("<os>", "<os><nvram template='/etc/shadow'/>"), "<os> <nvram template>"),
    (DESKTOP.replace("<loader readonly='yes'", "<loader readonly='no'"), "<loader readonly>"),
    (DESKTOP.replace("<loader readonly='yes'", "<loader"), "without readonly='yes'"),
    (DESKTOP.replace("/usr/share/OVMF/OVMF_CODE", "/etc/OVMF_CODE"), "<os> <loader>"),
    (DESKTOP.replace("type='smbios'", "type='fwcfg'"), "<sysinfo type>"),
    (DESKTOP.replace("<entry>a=b", "<entry file='/etc/shadow'>a=b"), "the attribute file at"),
    (with_device("<serial type='file'><source path='/etc/cron.d/x'/></serial>"), "<source path>"),
    (with_device("<serial type='dev'><source path='/dev/sda'/></serial>"), "<serial type>"),
    (with_device("<parallel type='pipe'/>"), "<parallel type>"),
    (with_device("<console type='pty'><log file='/etc/x'/></console>"), "<log file>"),
    (with_device("<channel type='pty'><log file='/x'/></channel>"), "<channel> <log>"),
    (with_device("<rng><backend model='random'>/dev/sda</backend></rng>"), "<rng> <backend>"),
    (with_device("<memory model='nvdimm'><source><path>/x</path></source></memory>"), "<memory"),
    (with_device("<memory model='dimm'><source><path>/x</path></source></memory>"), "<path>"),
    (with_device("<filesystem type='mount'><source dir='/'/></filesystem>"), "<filesystem>"),
    (with_device(f"{BRIDGE}<rom file='/etc/shadow'/></interface>"), "the attribute file"),
    (with_device("<audio id='1' type='file' path='/etc/x'/>"), "<audio type>"),
    (with_device("<pstore backend='acpi-erst'><path>/x</path></pstore>"), "<pstore>"),
    (with_device("<lease><lockspace>x</lockspace></lease>"), "<lease>"),
    (CLUSTER.replace("<on_crash>restart", "<on_crash>coredump-restart"), "<on_crash>"),
    (with_device("<watchdog model='i6300esb' action='dump'/>"), "<watchdog action>"),
    (DESKTOP.replace("Europe/Berlin", "../../etc/shadow"), "<clock timezone>"),
    (CLUSTER.replace("<memoryBacking>", "<memoryBacking><source type='file'/>"), "<source type>"),
    # Sockets, other hosts, networks
    (with_device("<serial type='unix'><source mode='bind' path='/x'/></serial>"), "<serial type>"),
    (with_device("<channel type='unix'><source path='/run/x'/></channel>"), "the attribute path"),
    (with_device("<channel type='unix'><target name='../x'/></channel>"), "<target name>"),
    (with_device("<console type='tcp'><source host='h' service='1'/></console>"), "<console type>"),
    (with_device("<graphics type='vnc' socket='/run/x'/>"), "the attribute socket"),
    (with_device("<graphics type='sdl' xauth='/root/x'/>"), "<graphics type>"),
    (with_device("<graphics type='spice'><gl rendernode='/dev/x'/></graphics>"), "rendernode"),
    (with_device("<interface type='ethernet'><target dev='t'/></interface>"), "<interface type>"),
    (with_device("<interface type='direct'><source dev='eth0'/></interface>"), "<interface type>"),
    (with_device("<interface type='user'/>"), "<interface type>"),
    (with_device("<interface><mac address='52:54:00:6b:3c:58'/></interface>"), "without a type"),
    (with_device(f"{BRIDGE}<source dev='eth0'/></interface>"), "the attribute dev"),
    (with_device(f"{BRIDGE}<target dev='eth0'/></interface>"), "<interface> <target dev>"),
    (with_device(f"{BRIDGE}<target dev='tap0'/></interface>"), "<interface> <target dev>"),
    (
        with_device("<graphics type='vnc'><listen type='socket' socket='/run/x'/></graphics>"),
        "the attribute socket at <devices> <graphics> <listen>",
    ),
    (with_device(f"{BRIDGE}<backend tap='/dev/x'/></interface>"), "<interface> <backend>"),
    (with_device("<interface><source bridge='../x'/></interface>"), "<source bridge>"),
    (with_device("<rng><backend model='egd' type='tcp'/></rng>"), "<backend"),
    (with_device("<redirdev bus='usb' type='tcp'/>"), "<redirdev type>"),
    (with_device("<smartcard mode='host'/>"), "<smartcard>"),
    (with_device("<vsock model='virtio'><cid auto='yes'/></vsock>"), "<vsock>"),
    (with_device("<tpm><backend type='external'><source path='/x'/></backend></tpm>"), "<backend"),
    (with_device("<shmem name='x'><server path='/run/x'/></shmem>"), "<shmem> <server>"),
    (with_device("<shmem name='../x'/>"), "<shmem name>"),
    (with_device("<crypto model='virtio'/>"), "<crypto>"),
    # Devices of the host
    (with_device("<hostdev mode='subsystem' type='pci'/>"), "<devices> <hostdev>"),
    (with_device("<interface type='hostdev'/>"), "<interface type>"),
    (with_device("<interface type='vdpa'/>"), "<interface type>"),
    (with_device("<tpm><backend type='passthrough'/></tpm>"), "<tpm> <backend type>"),
    (with_device("<input type='evdev'><source dev='/dev/input/event0'/></input>"), "<input"),
    (with_device("<input type='passthrough'/>"), "<input type>"),
    # Who the domain is to the host
    (at_top("<seclabel type='none'/>"), "<seclabel>"),
    (at_top("<resource><partition>/system.slice</partition></resource>"), "<partition>"),
    (at_top("<idmap/>"), "<idmap>"),
    (at_top("<launchSecurity type='sev'/>"), "<launchSecurity>"),
    (at_top("<keywrap/>"), "<keywrap>"),
    (CLUSTER.replace("<cputune>", "<cputune><vcpusched scheduler='fifo'/>"), "<vcpusched>"),
    (at_top("<blkiotune><device><path>/x</path></device></blkiotune>"), "<blkiotune> <device>"),
    (CLUSTER.replace("<features>", "<features><capabilities/>"), "<features> <capabilities>"),
    # Ways around
    (at_top("<x:devices xmlns:x='urn:x'><filesystem/></x:devices>"), "<urn:x:devices>"),
    (at_top("<devices xmlns='urn:x'><filesystem/></devices>"), "<urn:x:devices>"),
    (with_device("text<!-- -->"), "text in <devices>"),
    (CLUSTER.replace("<features><acpi/>", "<features><acpi/>text"), "text beside elements"),
    (with_device("<sound model='ich9'>/etc/shadow</sound>"), "text in <devices> <sound>"),
    (CLUSTER.replace("<domain type", "<domain x='y' type"), "the attribute x at <domain>"),
]  # fmt: skip


@pytest.mark.parametrize(("xml", "named"), ATTACKS, ids=[named for _, named in ATTACKS])
def test_attack_is_refused_by_name(xml, named):
    assert named in refusal(xml)


def test_refusal_has_the_remedy():
    for xml in (
        ATTACKS[0][0],
        with_device("<interface type='direct'/>"),
        with_device("<interface type='network'><source network='my net'/></interface>"),
    ):
        assert "let the operator set domain-xml: {allow: any}" in refusal(xml)
    assert "add its folder to domain-xml: {directories: …}" in refusal(disk("file='/x/y'"))
    assert "add the pool to domain-xml: {pools: …}" in refusal(disk("pool='x' volume='y'"))
    loader = refusal(DESKTOP.replace("/usr/share/OVMF/OVMF_CODE", "/usr/lib/firmware/CODE"))
    assert "by <os firmware='efi'>" in loader
    assert "directories: …" not in loader  # who may add a folder there may overwrite its files


@pytest.mark.parametrize(
    "inside",
    [
        "<seclabel type='dynamic' model='dac' relabel='yes'/>",
        "<devices><console type='pty' tty='/dev/pts/3'/></devices>",
        "<devices><serial type='pty'><source path='/dev/pts/3'/></serial></devices>",
    ],
)
def test_refusal_of_running_domains_xml_says_how_to_print_it(inside):
    assert "virsh dumpxml --inactive" in refusal(f"<domain id='3'>{inside}</domain>")
    assert "virsh dumpxml" not in refusal(f"<domain>{inside}</domain>")


# The table as a whole


def skeleton(path: str, attribute: str, value: str) -> str:
    """A domain that has one element with one attribute, or with text if that is empty."""
    root = element = ElementTree.Element("domain")
    for tag in path.split("/") if path else ():
        element = ElementTree.SubElement(element, tag)
    if attribute:
        element.set(attribute, value)
    else:
        element.text = value
    return ElementTree.tostring(root, encoding="unicode")


EVERY_VALUE = [
    (path, name, kind) for path, attributes in ALLOWED.items() for name, kind in attributes.items()
]
PAYLOADS = ("/etc/shadow", "../../etc/shadow", f"{IMAGES}/../x", "a\nb", "a,b=c", "file:/x", "-o x")


def test_only_free_text_and_volumes_may_name_a_place_outside():
    for path, name, kind in EVERY_VALUE:
        if kind in (TEXT, VOLUME):
            continue
        for value in PAYLOADS:
            assert kind.problem(value, POLICY) is not None, (path, name, value)
        refusal(skeleton(path, name, PAYLOADS[0]))


def test_every_path_is_returned_for_the_checks_on_the_host():
    sources = [(path, name) for path, name, kind in EVERY_VALUE if isinstance(kind, Source)]
    assert sources
    for path, name in sources:
        found = check_domain_xml(skeleton(path, name, f"{IMAGES}/x"), POLICY)
        # libvirt chooses a file for the variables of firmware if the XML has none.
        chosen = "/var/lib/libvirt/qemu/nvram/"
        paths = [each.path for each in found.files if not each.path.startswith(chosen)]
        assert paths == [f"{IMAGES}/x"], (path, name)


DANGEROUS = {
    "script", "downscript", "hostdev", "filesystem", "seclabel", "bootloader", "init",
    "initarg", "commandline", "lease", "pstore", "vsock", "smartcard", "crypto", "idmap", "auth",
    "reservations", "mirror", "launchSecurity", "vcpusched", "server", "dataStore",
    "rendernode", "socket", "logFile", "protocol", "rawio", "sgio", "dir", "service", "xauth",
    "initiator", "query", "tap", "vhost", "bootargs",
}  # fmt: skip


def test_list_has_none_of_the_dangerous_names():
    named = {tag for path in ALLOWED for tag in path.split("/")}
    named |= {name for _, name, _ in EVERY_VALUE}
    assert named & DANGEROUS == set()


def leads_away(value: str) -> bool:
    safe = (f"{IMAGES}/", "/usr/share/OVMF/", "/var/lib/libvirt/qemu/nvram/")
    known = ("/machine", "/dev/urandom", "/dev/random", "/dev/hwrng", "Europe/Berlin")
    known += tuple(POLICY.emulators)
    return "/" in value and (
        not (value.startswith(safe) or value in known) or ".." in value.split("/")
    )


def accepted_outside(xml: str) -> Iterator[str]:
    """Return parts of accepted XML that are not in the list, and paths to other places.

    The method is different from that of the check.
    """
    free = ("title", "description", "cmdline", "entry", "name")
    stack = [((), ElementTree.fromstring(xml))]
    while stack:
        tags, element = stack.pop()
        declared = ALLOWED.get(path_of(tags))
        if declared is None:
            yield f"element {tags}"
            continue
        if tags == ("devices", "interface") and element.get("type") is None:
            yield "an interface of the type user"
        for name, value in element.items():
            if name not in declared:
                yield f"attribute {name} of {tags}"
            if name != "passwd" and leads_away(value):
                yield f"{name}={value} of {tags}"
        text = (element.text or "").strip()
        if element.tag not in free and leads_away(text):
            yield f"{text} in {tags}"
        if tags != ("metadata",):
            stack += [((*tags, child.tag), child) for child in element]


def test_honest_domains_have_nothing_outside():
    assert [found for xml in HONEST for found in accepted_outside(xml)] == []


@st.composite
def changed_domains(draw: st.DrawFn) -> str:
    """An honest domain with elements and attributes of libvirt's schema at random places."""
    root = ElementTree.fromstring(draw(st.sampled_from(HONEST)))
    places = list(root.iter())
    values = st.sampled_from(
        (*PAYLOADS, "yes", "file", "1", "unix", "network", f"{IMAGES}/x", "/dev/sda", "host")
    )
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places))
        if draw(st.booleans()):
            place.set(draw(st.sampled_from(ATTRIBUTES)), draw(values))
            continue
        new = ElementTree.Element(draw(st.sampled_from(ELEMENTS)))
        for name in draw(st.lists(st.sampled_from(ATTRIBUTES), max_size=2, unique=True)):
            new.set(name, draw(values))
        if draw(st.booleans()):
            new.text = draw(values)
        place.insert(draw(st.integers(0, len(place))), new)
        places.append(new)
    return ElementTree.tostring(root, encoding="unicode")


@pytest.mark.timeout(3600)  # for the long series
@given(xml=changed_domains())
@examples(60, 20_000)
def test_policy_refuses_everything_outside_its_list(xml):
    try:
        check_domain_xml(xml, POLICY)
    except HypervisorError:
        return
    assert list(accepted_outside(xml)) == []


def test_names_of_schema_are_refused_unless_the_list_has_them():
    """The test has a sample of all pairs of an element of the list and an element of the schema."""
    refused = 0
    for path, name in list(product(sorted(ALLOWED), ELEMENTS))[::199]:
        tags = [*path.split("/"), name] if path else [name]
        if path_of(tags) not in ALLOWED and path != "metadata" and "" not in ALLOWED[path]:
            assert f"<{name}>" in refusal(skeleton("/".join(tags), "", ""))
            refused += 1
    assert refused > 200
