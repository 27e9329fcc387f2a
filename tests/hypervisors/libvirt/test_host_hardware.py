"""The hardware of a host: read from libvirt's XML of its capabilities, and from its counters."""

from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import pytest

from fastlib import HugePagesReport, NumaNodeReport
from fastlib.message.tasks import Query
from fastlib.migfra.hypervisors.libvirt.domain.host_hardware import (
    Hardware,
    described_hardware,
    read_hardware,
)
from tests.support.libvirt.driver import run_scenario
from tests.support.libvirt.fake_domain import refusal

Cell = tuple[int, list[int], dict[int, int]]
"""The id of a NUMA node, its CPUs, and the numbers of its pages by their size in KiB."""


def capabilities(*cells: Cell, model: str | None = None) -> str:
    """Return the XML of a host's capabilities, in the form of libvirt."""
    root = Element("capabilities")
    host = SubElement(root, "host")
    cpu = SubElement(host, "cpu")
    SubElement(cpu, "arch").text = "x86_64"
    if model is not None:
        SubElement(cpu, "model").text = model
        SubElement(cpu, "vendor").text = "AMD"
    SubElement(cpu, "pages", unit="KiB", size="4")
    topology = SubElement(SubElement(host, "topology"), "cells")
    for number, cpus, pages in cells:
        cell = SubElement(topology, "cell", id=str(number))
        SubElement(cell, "memory", unit="KiB").text = str(1000 + number)
        for size, total in pages.items():
            SubElement(cell, "pages", unit="KiB", size=str(size)).text = str(total)
        SubElement(SubElement(cell, "distances"), "sibling", id="0", value="10")
        listed = SubElement(cell, "cpus", num=str(len(cpus)))
        for cpu_id in cpus:
            SubElement(listed, "cpu", id=str(cpu_id), socket_id="0", siblings=str(cpu_id))
    return tostring(root, encoding="unicode")


@pytest.mark.parametrize(
    "cpus",
    [
        {0: [0, 1]},
        {0: [0, 1], 1: [2, 3]},
        {0: [0, 8], 1: [2, 10], 2: [4, 12], 3: [6, 14]},
        {0: [0, 1], 8: [4, 7, 100], 255: []},
    ],
    ids=["1 node", "2 nodes", "4 nodes", "missing numbers and a node without CPUs"],
)
def test_nodes_have_their_cpus_and_memory(cpus: dict[int, list[int]]) -> None:
    cells: list[Cell] = [(node, each[::-1], {4: 250}) for node, each in cpus.items()]
    found = described_hardware(capabilities(*reversed(cells), model="EPYC-Rome"))
    assert (found.cpu_model, found.cpu_vendor) == ("EPYC-Rome", "AMD")
    assert found.numa_nodes == tuple(
        NumaNodeReport(id=node, cpus=each, memory=1000 + node, huge_pages=[])
        for node, each in cpus.items()
    )


def test_normal_pages_are_not_huge_pages() -> None:
    xml = capabilities((0, [0], {1 << 20: 2, 4: 99, 2048: 7}), (1, [1], {64: 9, 1 << 19: 1}))
    nodes = described_hardware(xml).numa_nodes
    assert nodes is not None
    assert [node.huge_pages for node in nodes] == [
        (HugePagesReport(size=2048, total=7), HugePagesReport(size=1 << 20, total=2)),
        (HugePagesReport(size=1 << 19, total=1),),
    ]


def test_absent_facts_are_not_known() -> None:
    assert described_hardware("<capabilities><host/></capabilities>") == Hardware()
    bare = "<host><topology><cells><cell id='3'/></cells></topology></host>"
    assert described_hardware(f"<capabilities>{bare}</capabilities>") == Hardware(
        numa_nodes=(NumaNodeReport(id=3, cpus=[]),)
    )


class Host:
    """libvirt's calls about the hardware of a host with the nodes 0 and 4."""

    def __init__(self, **errors: Exception) -> None:
        self._errors = errors

    def _check(self, call: str) -> None:
        if call in self._errors:
            raise self._errors[call]

    def getCapabilities(self) -> str:
        self._check("capabilities")
        return capabilities((0, [0], {4: 9}), (4, [1], {4: 9, 2048: 7, 1 << 20: 2}))

    def getMemoryStats(self, node: int) -> dict[str, int]:
        self._check("stats")
        return {"total": 1000, "free": 100 + node}

    def getCellsFreeMemory(self, node: int, count: int) -> list[int]:
        self._check("cells")
        assert count == 1
        return [(200 + node) << 10]

    def getFreePages(self, sizes: list[int], node: int, count: int) -> dict[int, dict[int, int]]:
        self._check("pages")
        assert count == 1
        return {node: {size: size % 7 for size in sizes}}


def facts(**errors: Exception) -> tuple[list[Any], list[Any], str | None]:
    """Return the free memory of the nodes, the huge pages of node 4, and the problem."""
    found = read_hardware(Host(**errors))
    assert found.numa_nodes is not None
    pages = found.numa_nodes[1].huge_pages or ()
    return (
        [node.free_memory for node in found.numa_nodes],
        [(each.size, each.total, each.free) for each in pages],
        found.problem,
    )


def test_counters_of_each_node_are_read() -> None:
    assert facts() == ([100, 104], [(2048, 7, 2048 % 7), (1 << 20, 2, (1 << 20) % 7)], None)


def test_free_memory_is_read_in_another_way_if_the_driver_has_no_counters() -> None:
    free, _, problem = facts(stats=refusal("NO_SUPPORT", "not supported"))
    assert (free, problem) == ([200, 204], None)


def test_calls_that_a_driver_does_not_have_are_no_problem() -> None:
    lacks = refusal("NO_SUPPORT", "not supported")
    free, pages, problem = facts(stats=lacks, cells=lacks, pages=lacks)
    assert (free, problem) == ([None, None], None)
    assert pages == [(2048, 7, None), (1 << 20, 2, None)]
    assert read_hardware(Host(capabilities=lacks)) == Hardware()


def test_value_that_libvirt_cannot_read_is_absent_and_the_first_reason_is_kept() -> None:
    free, pages, problem = facts(
        stats=refusal("INTERNAL_ERROR", "no such cell"), pages=refusal("INTERNAL_ERROR", "no pages")
    )
    assert free == [200, 204]
    assert pages == [(2048, 7, None), (1 << 20, 2, None)]
    assert problem is not None
    assert "no such cell" in problem
    failed = read_hardware(Host(capabilities=refusal("INTERNAL_ERROR", "no XML")))
    assert failed.numa_nodes is None
    assert "no XML" in str(failed.problem)


def test_query_reports_the_hardware_of_the_test_driver(tmp_path: Any, caplog: Any) -> None:
    async def scenario(runner: Any) -> None:
        report = await runner.do(Query())
        assert report.cpu_model is None, "this driver has none"
        assert [(node.id, len(node.cpus)) for node in report.numa_nodes] == [(0, 8), (1, 8)]
        assert [node.memory for node in report.numa_nodes] == [2097152, 4194304]
        assert all(node.free_memory > 0 for node in report.numa_nodes)
        sizes = [(2048, 0, None), (1048576, 0, None)]
        assert [(each.size, each.total, each.free) for each in report.huge_pages] == sizes
        (pool,) = report.storage_pools
        assert (pool.name, pool.type, pool.path) == ("default-pool", "dir", "/default-pool")
        assert (pool.state, pool.capacity, pool.free) == ("running", 102400, 102400)

    run_scenario(scenario, tmp_path, local_uri="test:///default")
    assert "not known" not in caplog.text
