"""Images with unusual names, of unusual kinds, and of an unusual user: copied and removed."""

from pathlib import Path

import pytest

from fastlib import NewDisk
from tests.support.lab.bios_guests import define, disk_xml
from tests.support.lab.fleet import PATIENCE, assert_error, assert_success
from tests.support.lab.local_disks import FOLDER, images_on, make_folder, outside, remove_images
from tests.support.waiting import wait_until

pytestmark = pytest.mark.laboratory
IMAGE = FOLDER / "vm1.qcow2"


@pytest.fixture
def daemon_options():
    return {"image-directory": FOLDER}


@pytest.fixture
def hosts(fleet):
    """hostA and hostB, with empty folders for images. Afterwards these are removed."""
    for host in fleet.lab.hosts:
        remove_images(host)
        make_folder(host)
    yield fleet.lab.host("hostA"), fleet.lab.host("hostB")
    fleet.reset()
    for host in fleet.lab.hosts:
        remove_images(host)


def create(host, path, *options, size="8M", format="qcow2"):
    host.run(["qemu-img", "create", "-q", "-f", format, *options, path, size])


def run(fleet, *disks):
    """Let vm1, which has no operating system, run on hostA."""
    define(fleet, "vm1", *disks)
    fleet.lab.host("hostA").virsh("start", "vm1")


def migrate(fleet, **options):
    options = {"copy_storage": "all", "source_disks": "remove", **options}
    return fleet.client.migrate("vm1", "hostA", "hostB", migration_type="live", **options)


def test_names_that_programs_treat_specially_are_only_names(fleet, hosts):
    names = [
        "a b",
        "c,format=raw",
        "<d>&\"'",
        "\u00fc\u4e2d",
        "%65",
        "f:g;h",
        "\\n",
        "[i]{j}*?",
        "-k",
    ]
    paths = [FOLDER / name for name in names]
    for path in paths:
        create(hosts[0], path, size="1M")
    targets = [f"vd{letter}" for letter in "abcdefghi"]
    run(fleet, *map(disk_xml, paths, targets, ["qcow2"] * len(paths)))
    assert_success(migrate(fleet).result(PATIENCE))
    assert images_on(hosts[0]) == []
    assert images_on(hosts[1]) == sorted(names)


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_link_at_the_destination_is_not_followed(fleet, hosts, format):
    """It leads to a file that is missing, so libvirt does not list it."""
    here, there = hosts
    create(here, IMAGE, format=format)
    there.run(["ln", "-s", FOLDER / "target", IMAGE])
    run(fleet, disk_xml(IMAGE, format=format))
    assert_error(migrate(fleet).result(PATIENCE), f"there is a file {IMAGE} already")
    assert images_on(there) == [IMAGE.name]
    assert outside(there, IMAGE).is_symlink()
    assert fleet.lab.running_on("vm1") == ["hostA"]


def test_file_with_the_data_of_an_image_is_named_and_stays(fleet, hosts):
    here, there = hosts
    data = FOLDER / "data.raw"
    create(here, IMAGE, "-o", f"data_file={data},data_file_raw=on")
    run(fleet, disk_xml(IMAGE, format="qcow2"))
    result = migrate(fleet).result(PATIENCE)
    assert_success(result)
    assert result.details == (
        f"copied vda ({IMAGE}); removed the images on hostA; hostA keeps files with the data of "
        f"images: {data} of vda; remove them there if nothing else needs them"
    )
    assert images_on(here) == [data.name]
    assert images_on(there) == [IMAGE.name]
    assert "data file" not in there.run(["qemu-img", "info", "-U", IMAGE]).stdout


def test_file_system_that_becomes_full_ends_the_copy_only(fleet, hosts):
    here, there = hosts
    there.run(["mount", "-t", "tmpfs", "-o", "size=112m", "small", FOLDER])
    create(here, IMAGE, size="100M")
    here.run(["qemu-io", "-c", "write -q 0 96M", IMAGE])
    run(fleet, disk_xml(IMAGE, format="qcow2"))
    # QEMU copies 16 MiB at once. Then it pauses for 4 s, again and again.
    handle = migrate(fleet, bandwidth_limit=4)
    wait_until(
        lambda: handle.done() or getattr(handle.progress, "disk_transferred", None),
        "the disk is copied",
        PATIENCE,
    )
    there.run(["sh", "-c", f"cat /dev/zero > {FOLDER}/others"], check=False)
    assert_error(handle.result(PATIENCE), "No space left on device", "vm1 runs on hostA$")
    assert images_on(there) == ["others"]
    assert images_on(here) == [IMAGE.name]


# QEMU as a user of its own


USER, OTHER_GROUP = 1500, 1600
KVM = "/dev/kvm"


@pytest.fixture
def own_user(fleet, hosts):
    """Let QEMU on both hosts be a user of its own."""
    conf = "/etc/libvirt/qemu.conf"
    usual = hosts[0].run(["cat", conf]).stdout
    assert 'user = "root"' in usual
    changed = usual.replace('user = "root"', f'user = "+{USER}"')
    changed = changed.replace('group = "root"', f'group = "+{OTHER_GROUP}"')

    # If that user cannot open it, libvirt probes QEMU for each definition, which takes seconds.
    has_kvm = Path(KVM).exists()
    for host in hosts if has_kvm else ():
        for command in "mknod -m 666 /var/lib/kvm c 10 232", f"mount --bind /var/lib/kvm {KVM}":
            host.run(command.split())

    def configure(text):
        fleet.reset()
        for host in hosts:
            host.run(["tee", conf], input=text)
            host.libvirtd.kill()
            host.libvirtd.start()

    def with_ownership(dynamic):
        configure(changed.replace("dynamic_ownership = 0", f"dynamic_ownership = {dynamic}"))

    yield with_ownership
    for host in hosts if has_kvm else ():
        host.run(["umount", KVM])
        host.run(["rm", "/var/lib/kvm"])
    configure(usual)


def owner_of(host, path):
    state = outside(host, path).stat()
    return state.st_uid, state.st_gid, state.st_mode & 0o7777


@pytest.mark.parametrize("dynamic", [1, 0])
def test_images_belong_to_the_user_of_qemu(fleet, hosts, own_user, dynamic):
    """libvirt gives them to it while the domain runs, or they are its own before."""
    own_user(dynamic)
    here, there = hosts
    base, made = FOLDER / "base.qcow2", FOLDER / "vm1-vda.qcow2"
    create(here, base)
    here.run(["chmod", "644", base])
    if not dynamic:
        for host in hosts:
            host.run(["chown", f"{USER}:{OTHER_GROUP}", FOLDER])
    disks = [NewDisk(target="vda", base=str(base)), NewDisk(target="vdb", size=4, format="raw")]
    xml = fleet.lab.define_guest("vm1", bios=True).xml
    started = fleet.client.start("hostA", xml=xml, disks=disks, probe_with_ssh=False)
    assert_success(started.result(PATIENCE))
    assert owner_of(here, made) == (USER, OTHER_GROUP, 0o600)
    assert_success(migrate(fleet).result(PATIENCE))
    assert images_on(here) == [base.name]
    for path in made, FOLDER / "vm1-vdb.raw":
        assert owner_of(there, path) == (USER, OTHER_GROUP, 0o600)
    assert fleet.lab.running_on("vm1") == ["hostB"]
    options = {"force": True, "undefine": True, "remove_storage": True}
    assert_success(fleet.client.stop("hostB", "vm1", **options).result(PATIENCE))
    assert images_on(there) == []
