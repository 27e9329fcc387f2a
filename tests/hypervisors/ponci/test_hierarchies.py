"""The hierarchy of a machine by its mounts, and the kernel's lists of numbers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.ponci.freezers import V1Freezer, V2Freezer, freezers
from fastlib.migfra.hypervisors.ponci.id_lists import parse_id_list
from fastlib.migfra.hypervisors.ponci.mounts import (
    V1Mounts,
    V2Mount,
    find_hierarchy,
    parse_mounts,
)
from fastlib.number_ranges import number_ranges

PURE_V2 = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:4 - cgroup2 cgroup2 rw,nsdelegate
"""
PURE_V1 = """\
30 23 0:26 / /sys/fs/cgroup ro,nosuid shared:8 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
32 30 0:28 / /sys/fs/cgroup/cpuset rw shared:10 - cgroup cgroup rw,cpuset
33 30 0:29 / /sys/fs/cgroup/freezer rw shared:11 - cgroup cgroup rw,freezer
"""
HYBRID = PURE_V1 + "34 30 0:30 / /sys/fs/cgroup/unified rw shared:12 - cgroup2 cgroup2 rw\n"
TOGETHER = r"""
30 23 0:26 / /cg\040roups/all rw - cgroup none rw,cpuset,freezer,cpu
""".lstrip()
CONTAINER = """\
900 899 0:29 /docker/4f2 /sys/fs/cgroup/freezer ro - cgroup cgroup rw,freezer
901 899 0:28 /docker/4f2 /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset
902 899 0:28 / /host/cpuset rw - cgroup cgroup rw,cpuset
"""
TWICE = """\
30 23 0:26 / /ro rw - cgroup2 cgroup2 ro
31 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw
32 23 0:26 /docker/4f2 /delegated rw,nosuid - cgroup2 cgroup2 rw
"""
ALL = frozenset({"cpuset", "cpu", "memory"})
NONE: frozenset[str] = frozenset({"hugetlb"})
CGROUP = Path("/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("mountinfo", "controllers", "found"),
    [
        (PURE_V2, ALL, V2Mount(CGROUP)),
        (PURE_V1, NONE, V1Mounts(CGROUP / "cpuset", CGROUP / "freezer")),
        (HYBRID, NONE, V1Mounts(CGROUP / "cpuset", CGROUP / "freezer")),
        (HYBRID, ALL, V2Mount(CGROUP / "unified")),
        (TOGETHER, NONE, V1Mounts(Path("/cg roups/all"), Path("/cg roups/all"))),
        (CONTAINER, NONE, V1Mounts(Path("/host/cpuset"), CGROUP / "freezer", "/docker/4f2")),
        (TWICE, ALL, V2Mount(Path("/delegated"), "/docker/4f2")),
        (TWICE.replace("rw,nosuid", "ro"), ALL, V2Mount(Path("/ro"))),
    ],
    ids=[
        "v2",
        "v1",
        "hybrid",
        "hybrid with all in v2",
        "one tree of v1",
        "container",
        "writable mount",
        "no writable mount",
    ],
)
def test_hierarchy_with_cpuset_is_found(mountinfo, controllers, found):
    assert find_hierarchy(parse_mounts(mountinfo), lambda mount: controllers) == found


@pytest.mark.parametrize(
    ("mountinfo", "found"),
    [
        (PURE_V2, [V2Freezer]),
        (PURE_V1, [V1Freezer]),
        (HYBRID, [V1Freezer, V2Freezer]),
        (TWICE, [V2Freezer]),
        (PURE_V1.replace("freezer", "pids"), []),
    ],
)
def test_each_version_has_one_freezer(mountinfo, found):
    assert [type(each) for each in freezers(parse_mounts(mountinfo))] == found


@pytest.mark.parametrize(
    ("freezer", "lines", "group"),
    [
        (V1Freezer(Path("/f")), "5:cpu:/x\n4:freezer,cpuset:/a b/c:d\n0::/y", "/f/a b/c:d"),
        (V1Freezer(Path("/f"), "/docker"), "4:freezer:/docker/a", "/f/a"),
        (V1Freezer(Path("/f"), "/docker"), "4:freezer:/docker", "/f"),
        (V1Freezer(Path("/f"), "/docker"), "4:freezer:/dock/a", None),
        (V1Freezer(Path("/f"), "/docker"), "0::/docker/a", None),
        (V2Freezer(Path("/u")), "4:freezer:/a\n1:name=systemd:/c\n0::/b", "/u/b"),
        (V2Freezer(Path("/u"), "/.."), "0::/../b", "/u/b"),  # in a cgroup namespace
    ],
)
def test_group_of_a_thread_is_found_where_it_is_mounted(monkeypatch, freezer, lines, group):
    monkeypatch.setattr("fastlib.migfra.hypervisors.ponci.freezers.read", lambda path: lines)
    found = freezer.group_at(freezer.path_of(1))
    assert found == (None if group is None else Path(group))


@pytest.mark.parametrize(
    ("mountinfo", "words"),
    [
        ("", "no cgroups are mounted; .*mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
        (PURE_V2, "the cgroup v2 at /sys/fs/cgroup has no controller cpuset.*CONFIG_CPUSETS"),
        (
            PURE_V1.replace("freezer", "pids"),
            "has the controller cpuset at /sys/fs/cgroup/cpuset, but ponci also needs freezer; "
            "mount it: mkdir -p /sys/fs/cgroup/freezer && mount -t cgroup -o freezer",
        ),
        (
            PURE_V1.replace("cpuset", "pids"),
            "has the controller freezer at /sys/fs/cgroup/freezer, but ponci also needs cpuset",
        ),
    ],
)
def test_missing_controller_is_named(mountinfo, words):
    with pytest.raises(HypervisorError, match=words):
        find_hierarchy(parse_mounts(mountinfo), lambda mount: NONE)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", set()), ("\n", set()), ("0\n", {0}), ("0-3,7", {0, 1, 2, 3, 7}), ("5,9-10", {5, 9, 10})],
)
def test_id_list_is_parsed(text, numbers):
    assert parse_id_list(text) == numbers
    assert number_ranges(numbers) == text.strip()


@given(st.sets(st.integers(0, 200)))
def test_every_id_list_reads_back(numbers):
    assert parse_id_list(number_ranges(numbers)) == numbers


def test_id_list_is_written_with_ranges():
    assert number_ranges([3, 1, 2, 2, 9]) == "1-3,9"
