"""The memory that a domain needs, compared with the memory nodes and huge pages of a host."""

from xml.etree.ElementTree import fromstring

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.virt.memory_needs import (
    HostMemory,
    HostNode,
    Need,
    is_particular,
    normal_memory,
    problem_of_memory,
    read_needs,
    with_released,
)

MIB = 1 << 10
GIB = 1 << 20
CELLS = """
<cpu><numa>
  <cell id='0' cpus='0' memory='1' unit='GiB'/>
  <cell id='1' cpus='1' memory='2' unit='GiB'/>
</numa></cpu>
"""
WHOLE = "<memory unit='GiB'>3</memory>"


def needs_of(*parts):
    return read_needs(fromstring(f"<domain>{''.join(parts)}</domain>"))


def need(part, size, nodes=None, page=None, *, is_huge=None):
    is_huge = page is not None if is_huge is None else is_huge
    bound = None if nodes is None else frozenset(nodes)
    return Need(part=part, size=size, nodes=bound, is_huge=is_huge, page=page)


def pages(*elements):
    return f"<memoryBacking><hugepages>{''.join(elements)}</hugepages></memoryBacking>"


def page(size, unit="MiB", nodeset=None):
    cells = "" if nodeset is None else f" nodeset='{nodeset}'"
    return f"<page size='{size}' unit='{unit}'{cells}/>"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([WHOLE], [need("its memory", 3 * GIB)]),
        ([WHOLE, CELLS], [need("NUMA cell 0", GIB), need("NUMA cell 1", 2 * GIB)]),
        ([WHOLE, pages()], [need("its memory", 3 * GIB, is_huge=True)]),
        ([WHOLE, pages(page(2))], [need("its memory", 3 * GIB, page=2 * MIB)]),
        ([WHOLE, pages(page(4, "KiB"))], [need("its memory", 3 * GIB)]),
        (
            [CELLS, pages(page(2), page(1, "GiB", "1"))],
            [need("NUMA cell 0", GIB, page=2 * MIB), need("NUMA cell 1", 2 * GIB, page=GIB)],
        ),
        (
            [CELLS, pages(page(2, nodeset="1"))],
            [need("NUMA cell 0", GIB), need("NUMA cell 1", 2 * GIB, page=2 * MIB)],
        ),
        (
            [CELLS, "<numatune><memory nodeset='0-1'/><memnode cellid='1' nodeset='1'/>"
             "</numatune>"],
            [need("NUMA cell 0", GIB, {0, 1}), need("NUMA cell 1", 2 * GIB, {1})],
        ),
        (
            [WHOLE, "<numatune><memory mode='preferred' nodeset='1'/></numatune>"],
            [need("its memory", 3 * GIB)],
        ),
        (
            [WHOLE, "<numatune><memory mode='restrictive' nodeset='1'/></numatune>"],
            [need("its memory", 3 * GIB, {1})],
        ),
        ([WHOLE, "<numatune><memory placement='auto'/></numatune>"], [need("its memory", 3 * GIB)]),
        (
            [CELLS, "<devices><memory model='dimm'><source><pagesize unit='MiB'>2</pagesize>"
             "<nodemask>1</nodemask></source><target><size unit='MiB'>512</size><node>0</node>"
             "</target></memory><memory model='nvdimm'><target><size>9</size></target></memory>"
             "</devices>"],
            [need("NUMA cell 0", GIB), need("NUMA cell 1", 2 * GIB),
             need("memory module 0", 512 * MIB, {1}, 2 * MIB)],
        ),
        (
            [CELLS, pages(page(2, nodeset="1")), "<devices><memory model='virtio-mem'><target>"
             "<size unit='GiB'>4</size><node>1</node><requested unit='MiB'>64</requested></target>"
             "</memory></devices>"],
            [need("NUMA cell 0", GIB), need("NUMA cell 1", 2 * GIB, page=2 * MIB),
             need("memory module 0", 64 * MIB, page=2 * MIB)],
        ),
    ],
)  # fmt: skip
def test_needs_follow_the_xml(parts, expected):
    assert needs_of(*parts) == expected


def test_memory_in_huge_pages_is_not_normal_memory():
    assert normal_memory(needs_of(CELLS, pages(page(2, nodeset="1")))) == GIB
    assert normal_memory(needs_of(WHOLE)) == 3 * GIB


def test_only_huge_pages_and_bound_memory_are_particular():
    assert not is_particular(needs_of(CELLS))
    assert is_particular(needs_of(CELLS, pages(page(2, nodeset="1"))))
    assert is_particular(needs_of(CELLS, "<numatune><memory nodeset='0'/></numatune>"))


@pytest.mark.parametrize("wrong", ["x", "-1", ""])
def test_wrong_page_size_is_an_error(wrong):
    with pytest.raises(HypervisorError, match="<page size>"):
        needs_of(WHOLE, pages(page(wrong)))


def host(*free_pages, caches=0, free=(GIB, 3 * GIB), size=2 * MIB):
    """Return a host of two nodes with 4 GiB each, and twice as many huge pages as are free."""
    counts = free_pages or (0, 0)
    return HostMemory(
        nodes={
            number: HostNode(
                total=4 * GIB,
                free=free[number],
                pages={size: 2 * count},
                free_pages={size: count},
            )
            for number, count in enumerate(counts)
        },
        caches=caches,
    )


def problem(needs, memory, **amounts):
    return problem_of_memory("vm1", "node02", needs, memory, **amounts)


def test_memory_must_be_free_on_its_nodes():
    needs = [need("NUMA cell 0", GIB, {0}), need("NUMA cell 1", GIB, {0})]
    assert problem(needs, host()) == (
        f"node02 has {GIB} KiB of memory free on its memory node 0, but vm1 needs {2 * GIB} KiB "
        "there; choose other nodes in memnode-map, or another host"
    )
    assert problem(needs, host(caches=GIB)) is None
    assert problem(needs, host(caches=GIB - 1)) is not None
    assert problem(needs, host(), nodes="total") is None
    assert problem([need("its memory", GIB, {0})], host()) is None


def test_parts_that_share_nodes_are_counted_together():
    needs = [need("NUMA cell 0", GIB, {0}), need("NUMA cell 1", 3 * GIB, {0, 1})]
    assert problem(needs, host()) is None
    needs.append(need("memory module 0", 1, {1}))
    assert "on its memory nodes 0,1, but vm1 needs" in problem(needs, host())
    needs[1] = need("NUMA cell 1", 3 * GIB)  # may be anywhere
    assert problem(needs, host()) is None


def test_memory_of_a_node_has_a_limit_even_with_caches():
    needs = [need("its memory", 5 * GIB, {0})]
    assert f"node02 has {4 * GIB} KiB" in problem(needs, host(caches=9 * GIB))
    text = problem(needs, host(), nodes="total")
    assert f"node02 has {4 * GIB} KiB of memory in total on its memory node 0" in text


def test_nodes_must_exist():
    assert problem([need("its memory", 1, {1, 5})], host()) == (
        "the memory of vm1 is bound to memory node 5, but node02 has 0,1; give a memnode-map with "
        "nodes that it has, or choose another host"
    )


def test_huge_pages_must_be_free():
    needs = [need("its memory", 8 * MIB, page=2 * MIB)]
    assert problem(needs, host(2, 1)) == (
        "node02 has 3 huge pages of 2048 KiB free on its memory nodes 0,1, but vm1 needs 4 there; "
        "reserve more on node02 in "
        "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages, or choose "
        "another host"
    )
    assert problem(needs, host(2, 2)) is None
    assert problem(needs, host(2, 1), pages="total") is None
    text = problem([need("its memory", 1 << 40, page=2 * MIB)], host(2, 1), pages="total")
    assert "node02 has 6 huge pages of 2048 KiB in total" in text


def test_huge_pages_must_be_free_on_the_nodes():
    needs = [need("NUMA cell 1", 3 * MIB, {1}, 2 * MIB)]
    text = problem(needs, host(9, 1))
    assert "has 1 huge pages of 2048 KiB free on its memory node 1, but vm1 needs 2 there" in text
    assert "/sys/devices/system/node/node1/" in text
    assert problem(needs, host(0, 2)) is None


def test_each_page_size_counts_for_itself():
    memory = host(1, 0, size=GIB)
    assert problem([need("its memory", GIB, page=2 * MIB)], memory) == (
        "vm1 needs huge pages of 2048 KiB, but node02 has sizes of 1048576 KiB only; change the "
        "page size in the domain's memoryBacking, or choose another host"
    )
    assert problem([need("its memory", GIB, page=GIB)], memory) is None


def test_pages_of_the_default_size_may_have_any_size():
    needs = [need("its memory", 4 * MIB, is_huge=True)]
    few = {2 * MIB: 1, GIB: 0}
    memory = HostMemory(nodes={0: HostNode(total=GIB, pages=few, free_pages=few)})
    assert "has 1 huge pages of 2048 KiB free" in problem(needs, memory)
    enough = {2 * MIB: 1, GIB: 1}
    memory = HostMemory(nodes={0: HostNode(total=GIB, pages=enough, free_pages=enough)})
    assert problem(needs, memory) is None


def test_host_without_huge_pages_is_refused():
    memory = HostMemory(nodes={0: HostNode(total=GIB, pages={}, free_pages={})})
    text = problem([need("its memory", 1, page=2 * MIB)], memory)
    assert text == "vm1 needs huge pages, but node02 has none; choose another host"


@pytest.mark.parametrize(
    "memory",
    [
        HostMemory(),
        HostMemory(nodes={0: HostNode(total=9 * GIB)}),
        HostMemory(nodes={0: HostNode(total=9 * GIB, pages={2 * MIB: 0})}),
    ],
)
def test_facts_that_are_not_known_refuse_nothing(memory):
    needs = [need("NUMA cell 0", GIB, {0}), need("NUMA cell 1", GIB, {0}, 2 * MIB)]
    assert problem(needs, memory) is None


# The memory that a domain leaves behind


def test_domain_releases_its_memory_on_each_node_where_it_may_have_been():
    memory = host(5, 6, free=(GIB, GIB))

    def free(*needs):
        nodes = with_released(memory, needs).nodes
        return [(node.free, node.free_pages[2 * MIB]) for node in nodes.values()]

    assert free() == [(GIB, 5), (GIB, 6)]
    assert free(need("a", 3 * MIB, [1])) == [(GIB, 5), (GIB + 3 * MIB, 6)]
    assert free(need("a", 3 * MIB)) == [(GIB + 3 * MIB, 5), (GIB + 3 * MIB, 6)]
    assert free(need("a", 3 * MIB, [0], page=2 * MIB)) == [(GIB, 7), (GIB, 6)]
    assert free(need("a", 4 * MIB, page=2 * MIB)) == [(GIB, 7), (GIB, 8)]
    assert free(need("a", 4 * MIB, is_huge=True)) == [(GIB, 7), (GIB, 8)]
    assert free(need("a", GIB, page=GIB)) == [(GIB, 5), (GIB, 6)]
    assert free(need("a", GIB, [9])) == [(GIB, 5), (GIB, 6)]
    assert free(need("a", MIB, [0]), need("b", MIB, [0])) == [(GIB + 2 * MIB, 5), (GIB, 6)]


def test_unknown_memory_stays_unknown_without_a_domain():
    memory = HostMemory(nodes={0: HostNode(total=GIB)})
    both = [need("a", MIB), need("b", 2 * MIB, page=2 * MIB)]
    assert with_released(memory, both) == memory
