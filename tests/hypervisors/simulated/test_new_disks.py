"""Disks that starts create in a simulated cluster, and their removal."""

import pytest

from fastlib import Migrate, NewDisk, Start, Stop
from fastlib.migfra import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from tests.support.migfra.simulation import cluster_of, simulated

XML = "<domain><name>{}</name></domain>"
GONE = {"force": True, "undefine": True, "remove_storage": True}
IMAGE = "/var/lib/libvirt/images/vm1-vda.qcow2"


def start(name="vm1", **disk):
    new = NewDisk(target="vda", **(disk or {"base": "/base"}))
    return Start(xml=XML.format(name), disks=[new], probe_with_ssh=False)


def in_cluster(scenario):
    simulated(cluster_of(("other", "a", {})), scenario)


def test_images_live_from_the_start_to_the_stop_on_any_host():
    async def scenario(simulation):
        a, b = simulation["a"], simulation["b"]
        assert await a.start(start(), Context("a")) == f"created vda ({IMAGE})"
        await a.migrate(Migrate(vm_name="vm1", destination="b"), Context("a"))
        await b.stop(Stop(vm_name="vm1"), Context("b"))
        again = Start(vm_name="vm1", probe_with_ssh=False)
        assert await b.start(again, Context("b")) is None
        assert await b.stop(Stop(vm_name="vm1", **GONE), Context("b")) == f"removed vda ({IMAGE})"
        # The path is free again.
        await a.start(start(), Context("a"))
        # Without remove-storage it stays, and nobody can take it.
        await a.stop(Stop(vm_name="vm1", undefine=True), Context("a"))
        with pytest.raises(HypervisorError, match=f"there is an image {IMAGE} already"):
            await a.start(start(), Context("a"))
        stopped = await a.stop(Stop(vm_name="other", **GONE), Context("a"))
        assert stopped == "no start has created images for other"

    in_cluster(scenario)


def test_refused_disk_leaves_no_domain():
    async def scenario(simulation):
        a = simulation["a"]
        await a.start(start(), Context("a"))
        for task, why in (
            (start("vm2", base=IMAGE), "is a disk of vm1, which may write it"),
            (start("vm2", base="/b", path=IMAGE), "there is an image .* already"),
            (start("vm2", base="/b", format="raw"), "a base and the format raw"),
        ):
            with pytest.raises(HypervisorError, match=why):
                await a.start(task, Context("a"))
        assert [domain.name for domain in simulation.cluster.domains()] == ["other", "vm1"]
        await a.stop(Stop(vm_name="vm1"), Context("a"))
        second = Start(vm_name="vm1", disks=[NewDisk(target="vda", size=1, path="/x")])
        with pytest.raises(HypervisorError, match="vm1 has a disk vda already"):
            await a.start(second, Context("a"))

    in_cluster(scenario)


def test_base_of_another_image_is_not_removed():
    async def scenario(simulation):
        a = simulation["a"]
        await a.start(start(), Context("a"))
        await a.stop(Stop(vm_name="vm1"), Context("a"))
        await a.start(start("vm2", base=IMAGE), Context("a"))
        await a.start(Start(vm_name="vm1", probe_with_ssh=False), Context("a"))
        with pytest.raises(HypervisorError, match=r"is the backing file of .*vm2-vda.qcow2"):
            await a.stop(Stop(vm_name="vm1", **GONE), Context("a"))
        assert simulation.where("vm1") == ("a", "running")
        await a.stop(Stop(vm_name="vm2", **GONE), Context("a"))
        await a.stop(Stop(vm_name="vm1", **GONE), Context("a"))
        with pytest.raises(HypervisorError, match="remove-storage needs undefine: true"):
            await a.stop(Stop(regex=".*", undefine=False, remove_storage=True), Context("a"))

    in_cluster(scenario)
