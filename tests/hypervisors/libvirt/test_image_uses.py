"""The uses of images by domains, before an image is removed, at the driver `test` of libvirt."""

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.image_sources import path_of
from fastlib.migfra.hypervisors.libvirt.domain.image_users import check_inactive
from fastlib.migfra.hypervisors.libvirt.domain.image_uses import uses_of
from fastlib.migfra.hypervisors.libvirt.domain.xml import parse

libvirt = pytest.importorskip("libvirt")
FOLDER = "/default-pool"
IMAGE = f"{FOLDER}/a.img"
XML = """
<domain type='test'><name>vm9</name><memory>1024</memory><os><type>hvm</type></os><devices>
<disk type='volume'><source pool='default-pool' volume='a.img'/><target dev='vda'/></disk>
</devices></domain>
"""


@pytest.fixture
def connection():
    opened = libvirt.open("test:///default")
    yield opened
    opened.close()


@pytest.mark.parametrize("pool_is_active", [True, False])
def test_volume_of_a_pool_is_a_use_also_while_its_pool_is_inactive(connection, pool_is_active):
    connection.defineXML(XML)
    if not pool_is_active:
        connection.storagePoolLookupByName("default-pool").destroy()
    [use] = uses_of(connection, [IMAGE], is_local=False)[IMAGE]
    assert (use.name, use.target, use.is_active, use.writes) == ("vm9", "vda", False, True)


def test_active_domain_keeps_its_volume(connection):
    check_inactive(connection, IMAGE)
    connection.createXML(XML)
    with pytest.raises(HypervisorError, match=f"{IMAGE} belongs to vm9"):
        check_inactive(connection, IMAGE)


@pytest.mark.parametrize(
    "path",
    [f"/{IMAGE}", f"{FOLDER}/./a.img", f"{FOLDER}/../{FOLDER}//a.img", "//default-pool/a.img"],
)
def test_path_in_another_spelling_is_the_same_image(connection, path):
    """libvirt keeps the spelling of a definition."""
    disk = f"type='file'><source file='{path}'/>"
    volume = "type='volume'><source pool='default-pool' volume='a.img'/>"
    connection.createXML(XML.replace(volume, disk))
    assert path in connection.lookupByName("vm9").XMLDesc(0)
    with pytest.raises(HypervisorError, match=f"{IMAGE} belongs to vm9"):
        check_inactive(connection, IMAGE)
    [use] = uses_of(connection, [IMAGE], is_local=False)[IMAGE]
    assert use.name == "vm9"


def test_volume_of_an_unknown_pool_is_no_file(connection):
    assert path_of(connection, parse("<source pool='gone' volume='a.img'/>")) is None


def test_connection_that_fails_is_no_sign_of_an_unused_image(connection):
    """An image that is taken for unused is removed."""
    source = parse("<source pool='default-pool' volume='a.img'/>")
    closed = libvirt.open("test:///default")
    closed.close()
    with pytest.raises(libvirt.libvirtError):
        path_of(closed, source)
