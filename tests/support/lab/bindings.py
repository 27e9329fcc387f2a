"""What the vCPUs and the memory of a domain are bound to, and what its process may use."""

import xml.etree.ElementTree as ElementTree

from .host import Host


def assert_bound(host: Host, name: str, pins: list[str], nodes: list[str] | None) -> None:
    """Check a running domain and its definition.

    `pins` are the CPUs of the first vCPUs. `nodes` are those of the whole memory or of each cell.
    """
    for which in ([], ["--inactive"]):
        root = ElementTree.fromstring(host.virsh("dumpxml", name, *which))
        found = {pin.get("vcpu"): pin.get("cpuset") for pin in root.iterfind("cputune/vcpupin")}
        assert found == {str(vcpu): cpus for vcpu, cpus in enumerate(pins)}, which
        cells = root.findall("numatune/memnode") or root.findall("numatune/memory")
        strict = [each.get("nodeset") for each in cells if each.get("mode") == "strict"]
        assert strict == (nodes or []), which
    listed = host.virsh("vcpuinfo", name, "--pretty")
    lines = [line for line in listed.splitlines() if line.startswith("CPU Affinity:")]
    assert [line.split()[2] for line in lines[: len(pins)]] == pins


def assert_never_paused(host: Host, name: str) -> None:
    """Check that a domain runs since it has arrived: nothing has paused and resumed it."""
    assert host.virsh("domstate", name, "--reason").strip() == "running (migrated)"
