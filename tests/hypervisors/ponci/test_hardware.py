"""Read CPUs, NUMA nodes and huge pages from files like those of the kernel."""

from pathlib import Path

import pytest

from fastlib import HugePagesReport, NumaNodeReport
from fastlib.migfra.hypervisors.ponci.hardware import cpu_of, huge_pages, numa_nodes

X86 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 17\nmodel name\t: AMD EPYC: 7\n\n"
    "processor\t: 1\nvendor_id\t: other\nmodel name\t: other\n"
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (X86, ("AMD EPYC: 7", "AuthenticAMD")),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n\n", (None, None)),
        ("model name\t: \n", (None, None)),
        ("", (None, None)),
    ],
    ids=["x86", "arm", "no value", "empty"],
)
def test_model_of_the_first_cpu(text: str, found: tuple[str | None, str | None]) -> None:
    assert cpu_of(text) == found


def node(folder: Path, number: int, cpus: str, memory: int, free: int) -> Path:
    """Make the folder of a NUMA node."""
    made = folder / f"node{number}"
    made.mkdir(parents=True)
    (made / "cpulist").write_text(f"{cpus}\n")
    (made / "meminfo").write_text(
        f"Node {number} MemTotal:       {memory} kB\nNode {number} MemFree:  {free} kB\n"
        f"Node {number} MemUsed:  1 kB\n"
    )
    return made


def pages(folder: Path, size: int, **numbers: int) -> None:
    """Make the folder of huge pages of one size."""
    made = folder / f"hugepages-{size}kB"
    made.mkdir(parents=True)
    for name, number in numbers.items():
        (made / name).write_text(f"{number}\n")


def test_nodes_have_the_cpus_that_domains_can_get(tmp_path: Path) -> None:
    (tmp_path / "power").mkdir()
    ten = node(tmp_path, 10, "4-7,12", 300, 100)
    pages(ten / "hugepages", 1 << 20, nr_hugepages=2, free_hugepages=1)
    pages(ten / "hugepages", 2048, nr_hugepages=8, free_hugepages=0)
    node(tmp_path, 2, "0-3", 200, 50)
    node(tmp_path, 3, "", 400, 400)  # has only memory
    node(tmp_path, 4, "8", 1, 1)
    assert numa_nodes({1, 2, 4, 12}, {2, 3, 10}, tmp_path) == [
        NumaNodeReport(id=2, cpus=[1, 2], memory=200, free_memory=50),
        NumaNodeReport(id=3, cpus=[], memory=400, free_memory=400),
        NumaNodeReport(
            id=10,
            cpus=[4, 12],
            memory=300,
            free_memory=100,
            huge_pages=[
                HugePagesReport(size=2048, total=8, free=0),
                HugePagesReport(size=1 << 20, total=2, free=1),
            ],
        ),
    ]


def test_kernel_without_numa_or_huge_pages_reports_neither(tmp_path: Path) -> None:
    assert numa_nodes({0}, {0}, tmp_path / "absent") is None
    assert numa_nodes({0}, {0}, tmp_path) is None
    assert huge_pages(tmp_path / "absent") is None


def test_number_that_the_kernel_does_not_report_is_absent(tmp_path: Path) -> None:
    pages(tmp_path, 2048, nr_hugepages=3)
    assert huge_pages(tmp_path) == [HugePagesReport(size=2048, total=3)]
