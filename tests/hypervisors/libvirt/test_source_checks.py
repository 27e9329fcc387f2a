"""The check of the sources in a task's XML on the host: links, backing files, volumes of pools."""

import pytest

from fastlib import Start
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import DomainXmlOptions
from fastlib.migfra.hypervisors.libvirt.domain import source_checks
from fastlib.migfra.hypervisors.libvirt.domain.source_checks import check_files
from fastlib.migfra.virt import domain_xml_policy, xml_values
from fastlib.migfra.virt.domain_xml_policy import NamedSource, check_domain_xml
from fastlib.migfra.virt.xml_values import XmlPolicy
from tests.support.libvirt.driver import domain, run_scenario
from tests.support.libvirt.qcow2 import qcow2_head


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "base.img").write_bytes(bytes(512))
    (tmp_path / "secret").write_bytes(bytes(512))
    return folder


def check(images, path, format="raw") -> None:
    policy = XmlPolicy(directories=[str(images)])
    check_files([NamedSource(path=str(path), where="<source file>", format=format)], policy)


def qcow2(path, backing=None, format="raw", **parts):
    path.write_bytes(qcow2_head(backing, format, size=1 << 20, **parts))
    return path


def test_link_out_of_directory_is_refused(images):
    (images / "link").symlink_to(images.parent / "secret")
    (images / "folder").symlink_to("/etc")
    (images / "inner").symlink_to("base.img")
    check(images, images / "inner")
    for name in ("link", "folder/shadow"):
        with pytest.raises(HypervisorError, match=r"is a link to .* to domain-xml"):
            check(images, images / name)


def test_directory_may_be_a_link_itself(images):
    link = images.parent / "link"
    link.symlink_to(images)
    check_files(
        [NamedSource(path=f"{link}/base.img", where="x")], XmlPolicy(directories=[str(link)])
    )


@pytest.fixture
def variables(tmp_path, monkeypatch):
    """The folder in which libvirt keeps UEFI variables."""
    folder = tmp_path / "nvram"
    folder.mkdir()
    monkeypatch.setattr(source_checks, "VARIABLES_FOLDER", str(folder))
    for module in (xml_values, domain_xml_policy):
        monkeypatch.setattr(module, "VARIABLES_FOLDER", str(folder))
    return folder


EFI = "<os firmware='efi'><type>hvm</type></os>"
FLASH = (
    "<os><type>hvm</type><loader readonly='yes' type='pflash'>/usr/share/OVMF/a.fd</loader></os>"
)


NAMED = f"{FLASH[:-5]}<nvram>FOLDER/vm1_VARS.fd</nvram></os>"


@pytest.mark.parametrize(
    ("os", "ending"),
    [(EFI, "fd"), (EFI, "qcow2"), (FLASH, "fd"), (NAMED, "fd"), (EFI, None), (NAMED, None)],
)
def test_link_in_place_of_uefi_variables_is_refused(images, variables, os, ending):
    """QEMU writes these files. An attacker may make it write a link."""
    policy = XmlPolicy(directories=[str(images)])
    xml = f"<domain type='kvm'><name>vm1</name>{os.replace('FOLDER', str(variables))}</domain>"
    (variables / "vm2_VARS.fd").symlink_to("/etc/shadow")
    if ending is None:
        (variables / "vm1_VARS.fd").write_bytes(b"")
        check_files(check_domain_xml(xml, policy).files, policy)
        return
    (variables / f"vm1_VARS.{ending}").symlink_to(images.parent / "secret")
    sources = check_domain_xml(xml, policy)
    with pytest.raises(HypervisorError, match=r"nvram/vm1_VARS\.\w+ \(<os> <nvram>\) is a link to"):
        check_files(sources.files, policy)


def test_disk_must_not_be_where_uefi_variables_are(images, variables):
    (variables / "vm1_VARS.fd").write_bytes(b"")
    with pytest.raises(HypervisorError, match="which tasks must not use"):
        check(images, variables / "vm1_VARS.fd")


def test_links_of_devices_may_lead_to_other_devices():
    """LVM's devices are such links, and only root can make them."""
    policy = XmlPolicy(directories=["/dev/fd"])  # a link to /proc/self/fd
    check_files([NamedSource(path="/dev/fd/0", where="x")], policy)
    with pytest.raises(HypervisorError):
        check_files([NamedSource(path="/dev/sda", where="x")], policy)


@pytest.mark.parametrize(
    ("backing", "format"), [("base.img", "raw"), ("../images/base.img", "raw"), ("absent", "raw")]
)
def test_backing_file_inside_is_allowed(images, backing, format):
    top = qcow2(images / "top", backing, format)
    check(images, top, "qcow2")
    check(images, qcow2(images / "upper", str(top), "qcow2"), "qcow2")


@pytest.mark.parametrize(
    "parts",
    [
        {"backing": "../secret"},
        {"backing": "/etc/shadow"},
        {"backing": "file:/etc/shadow"},
        {"backing": 'json:{"driver": "nbd"}'},
        {"backing": "nbd://10.0.0.1/x"},
        {"backing": "/etc/shadow\0/../images/base.img"},
        {"data": "/etc/shadow"},
        {"data": "base.img"},
    ],
)
def test_image_that_names_a_file_outside_is_refused(images, parts):
    top = qcow2(images / "top", **parts)
    for image in (top, qcow2(images / "upper", "top", "qcow2")):
        with pytest.raises(HypervisorError, match=r"top .* names the file .* must not use"):
            check(images, image, "qcow2")
        check(images, image, "raw")  # then QEMU reads nothing of it


def test_backing_file_needs_a_known_format(images):
    for format in (None, "vmdk"):
        top = qcow2(images / "top", "base.img", format)
        with pytest.raises(HypervisorError, match="tasks may use raw and qcow2"):
            check(images, top, "qcow2")


def test_image_that_cannot_be_parsed_is_refused(images):
    far = bytearray(qcow2_head("x", "raw", size=1 << 20))
    far[8:16] = (1 << 30).to_bytes(8, "big")  # place of the backing file's name
    (images / "far").write_bytes(far)
    for name in ("base.img", "far"):
        with pytest.raises(HypervisorError, match="is not a valid qcow2 image"):
            check(images, images / name, "qcow2")


def test_image_that_the_daemon_cannot_read_is_refused(images):
    """libvirt may have another folder at this path than the daemon, such as another /tmp."""
    qcow2(images / "top", "absent", "qcow2")
    for name in ("top", "absent"):
        with pytest.raises(HypervisorError, match="absent: No such file or directory; let the"):
            check(images, images / name, "qcow2")


def test_name_of_backing_file_is_found_in_a_large_cluster(images):
    """The largest cluster has 2 MiB."""
    head = bytearray(qcow2_head(None, None, size=1 << 20).ljust(2 << 20, b"\0"))
    head[8:20] = (1_000_000).to_bytes(8, "big") + len(b"/etc/shadow").to_bytes(4, "big")
    head[1_000_000:1_000_011] = b"/etc/shadow"
    (images / "large").write_bytes(head)
    with pytest.raises(HypervisorError, match="names the file '/etc/shadow'"):
        check(images, images / "large", "qcow2")


def test_image_in_a_circle_ends(images):
    circle = qcow2(images / "circle", "circle", "qcow2")
    with pytest.raises(HypervisorError, match="has more than 200 backing files"):
        check(images, circle, "qcow2")


# The task


def disk(path) -> str:
    return domain().replace(
        "</domain>",
        f"<devices><disk type='file'><source file='{path}'/><target dev='vda'/></disk></devices>"
        "</domain>",
    )


def test_start_checks_xml_before_anything_is_made(images):
    (images / "link").symlink_to("/etc/shadow")
    options = DomainXmlOptions(directories=[str(images)])
    refused = {
        disk("/etc/shadow"): "'/etc/shadow' as <devices> <disk> <source file>",
        disk(images / "link"): "is a link to /etc/shadow",
        domain().replace("</domain>", "<seclabel type='none'/></domain>"): "<seclabel>",
        domain().replace(
            "</domain>",
            "<devices><disk type='volume'><source pool='default' volume='x'/><target dev='vda'/>"
            "</disk></devices></domain>",
        ): "the volume 'x' of the pool default cannot be used",
    }

    async def scenario(runner):
        for transient in (False, True):
            for xml, why in refused.items():
                task = Start(xml=xml, transient=transient, probe_with_ssh=False)
                with pytest.raises(HypervisorError, match=why):
                    await runner.do(task)
                assert await runner.state("vm1") is None
        await runner.do(Start(xml=disk(images / "base.img"), probe_with_ssh=False))
        assert await runner.state("vm1") == "running"

    run_scenario(scenario, images.parent, domain_xml=options)


def test_level_defined_only_starts_defined_domains(tmp_path):
    async def scenario(runner):
        with pytest.raises(HypervisorError, match="leave out xml"):
            await runner.do(Start(xml=domain(), probe_with_ssh=False))
        with pytest.raises(HypervisorError, match="vm1"):  # it is not defined
            await runner.do(Start(vm_name="vm1", probe_with_ssh=False))

    run_scenario(scenario, tmp_path, domain_xml=DomainXmlOptions(allow="defined-only"))


def test_level_any_hands_everything_to_libvirt(tmp_path):
    async def scenario(runner):
        await runner.do(Start(xml=disk("/etc/shadow"), probe_with_ssh=False))
        assert await runner.state("vm1") == "running"

    run_scenario(scenario, tmp_path, domain_xml=DomainXmlOptions(allow="any"))


@pytest.mark.parametrize("path", ["images", "/a/../b", ""])
def test_directory_of_policy_must_be_absolute(path):
    with pytest.raises(ValueError, match="must be an absolute path"):
        DomainXmlOptions(directories=[path])
