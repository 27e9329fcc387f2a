"""The reads and writes of cgroup v2, in a folder with fake files.

The laboratory's guest runs it on a real kernel that has v2 only.
"""

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.ponci.decisions import state_of
from fastlib.migfra.hypervisors.ponci.files import BusyError, GoneError
from fastlib.migfra.hypervisors.ponci.inspection import inspect
from fastlib.migfra.hypervisors.ponci.mounts import V2Mount
from fastlib.migfra.hypervisors.ponci.processes import describe_processes
from fastlib.migfra.hypervisors.ponci.v2 import V2

ROOT_FILES = {"cgroup.subtree_control": "memory\n", "cpuset.cpus.effective": "0-3\n",
              "cpuset.mems.effective": "0\n", "cgroup.procs": "", "cgroup.threads": ""}  # fmt: skip
GROUP_FILES = {**ROOT_FILES, "cgroup.type": "domain\n", "cgroup.events": "populated 0\nfrozen 0\n",
               "cgroup.freeze": "0\n", "cgroup.kill": "", "cpuset.cpus": "1\n",
               "cpuset.mems": "\n"}  # fmt: skip


def fake_group(path, files=GROUP_FILES, **changes):
    """Make a folder with the files of a group; `changes` are contents, None for a missing file."""
    path.mkdir(exist_ok=True)
    for name, text in {**files, **changes}.items():
        if text is not None:
            (path / name).write_text(text)
    return path


@pytest.fixture
def parent(tmp_path):
    """The parent group of the domains."""
    fake_group(tmp_path, ROOT_FILES)
    return fake_group(tmp_path / "migfra")


@pytest.fixture
def v2(tmp_path, parent):
    return V2(V2Mount(tmp_path), ["migfra"])


def test_prepare_delegates_cpuset_from_the_root_to_the_parent(tmp_path, parent, v2):
    v2.prepare()
    assert (tmp_path / "cgroup.subtree_control").read_text().startswith("+cpuset\n")
    assert (parent / "cgroup.subtree_control").read_text().startswith("+cpuset\n")


def test_prepare_keeps_delegated_cpuset(parent, v2):
    (parent / "cgroup.subtree_control").write_text("cpuset memory\n")
    v2.prepare()
    assert (parent / "cgroup.subtree_control").read_text() == "cpuset memory\n"


@pytest.mark.parametrize(
    ("kind", "processes", "why"),
    [
        ("domain", "7\n8\n", r"no processes of its own, .* it has 2;"),
        ("domain threaded", "7\n", r"no processes of its own, .* it has 1;"),
        ("domain threaded", "", "is of the type 'domain threaded'"),
        ("threaded", "7\n", "is of the type 'threaded'"),
        ("domain invalid", "", "is of the type 'domain invalid'"),
    ],
)
def test_prepare_refuses_parent_that_cannot_have_domains(parent, v2, kind, processes, why):
    fake_group(parent, **{"cgroup.type": kind, "cgroup.procs": processes})
    with pytest.raises(HypervisorError, match=why):
        v2.prepare()


@pytest.mark.parametrize(
    ("events", "freeze", "state", "requested", "hidden"),
    [
        ("frozen 0", "0", "running", False, False),
        ("frozen 0", "1", "freezing", True, False),
        ("frozen 1", "1", "paused", True, False),
        ("frozen 1", "0", "paused", False, True),  # a group is frozen above what is seen here
        ("populated 1", "0", "running", False, False),
        ("frozen 0", None, "running", False, False),  # before Linux 5.2
    ],
)
def test_state_follows_events_and_request(parent, v2, events, freeze, state, requested, hidden):
    fake_group(parent / "vm1", **{"cgroup.events": f"{events}\n", "cgroup.freeze": freeze})
    view = inspect(v2, "vm1")
    assert state_of(view) == state
    assert view.is_requested is requested
    assert view.above_is_hidden is hidden


def test_freeze_and_thaw_write_the_request(parent, v2):
    group = fake_group(parent / "vm1")
    assert v2.freezer.can_freeze(group)
    v2.freezer.freeze(group)
    assert (group / "cgroup.freeze").read_text() == "1\n"
    v2.freezer.thaw(group)
    assert (group / "cgroup.freeze").read_text() == "0\n"


def test_kill_returns_whether_the_kernel_can_kill(parent, v2):
    group = fake_group(parent / "vm1")
    assert v2.kill("vm1")
    assert (group / "cgroup.kill").read_text() == "1\n"
    (group / "cgroup.kill").unlink()
    assert not v2.kill("vm1")


def test_domains_are_groups_of_the_parent(parent, v2):
    assert v2.names() == []
    fake_group(parent / "vm2")
    fake_group(parent / "vm1", **{"cgroup.procs": "7\n0\n"})
    assert v2.names() == ["vm1", "vm2"]
    assert v2.exists("vm1")
    assert v2.defect("vm1") is None
    assert not v2.exists("vm3")
    assert v2.processes("vm1") == {0, 7}
    assert v2.sets("vm1").cpus == {1}
    assert v2.sets("vm1").nodes == frozenset()
    assert v2.available().cpus == {0, 1, 2, 3}


def test_names_are_empty_without_the_parent(tmp_path):
    fake_group(tmp_path, ROOT_FILES)
    assert V2(V2Mount(tmp_path), ["missing"]).names() == []


def test_create_refuses_domain_of_another_program(parent, v2):
    fake_group(parent / "vm1")
    with pytest.raises(HypervisorError, match="another program has just made vm1"):
        v2.create("vm1", None, None)
    assert v2.exists("vm1")


def test_failed_create_leaves_no_group(parent, v2):
    with pytest.raises(GoneError):  # a folder of this file system has no files of a cgroup
        v2.create("vm1", frozenset({1}), frozenset({0}))
    assert not v2.exists("vm1")


def test_failed_create_names_group_that_it_could_not_remove(parent, v2, monkeypatch):
    def busy(path):
        raise OSError(16, "busy")

    monkeypatch.setattr("pathlib.Path.rmdir", busy)
    with pytest.raises(HypervisorError, match=r"cpuset\.mems is missing.*; and .*vm1 is busy"):
        v2.create("vm1", None, frozenset({0}))


def test_missing_mount_is_reported(tmp_path):
    v2 = V2(V2Mount(tmp_path / "mount"), ["migfra"])
    with pytest.raises(GoneError, match=f"is no longer mounted at {tmp_path}/mount;"):
        v2.available()


def test_missing_parent_has_the_cpus_of_the_group_above(tmp_path):
    fake_group(tmp_path, ROOT_FILES)
    assert V2(V2Mount(tmp_path), ["a", "b"]).available().cpus == {0, 1, 2, 3}


def test_domain_that_changes_all_the_time_cannot_be_read(parent, v2, monkeypatch):
    def removed(name):
        raise GoneError(f"{name} is not there", None)

    fake_group(parent / "vm1")
    monkeypatch.setattr(v2, "defect", removed)
    with pytest.raises(GoneError, match="vm1 is not there"):
        inspect(v2, "vm1")


def test_freeze_is_impossible_before_linux_5_2(parent, v2):
    group = fake_group(parent / "vm1", **{"cgroup.freeze": None})
    assert not v2.freezer.can_freeze(group)
    assert state_of(inspect(v2, "vm1")) == "running"


def test_delete_fails_for_busy_group(parent, v2, monkeypatch):
    (parent / "vm1" / "below").mkdir(parents=True)
    v2.delete("vm1")
    assert not v2.exists("vm1")
    v2.delete("vm1")  # it is gone already
    (parent / "vm1").mkdir()

    def busy(path):
        raise OSError(16, "busy")

    monkeypatch.setattr("pathlib.Path.rmdir", busy)
    with pytest.raises(BusyError, match="is busy; it has processes or groups"):
        v2.delete("vm1")


@pytest.mark.parametrize(
    ("processes", "text"),
    [
        ({7}, "1 process (7)"),
        ({8, 7}, "2 processes (7, 8)"),
        (range(8), "8 processes (0, 1, 2, 3, 4, 5, 6, 7)"),
        (range(9), "9 processes (0, 1, 2, 3, 4, 5, 6, 7, …)"),
    ],
)
def test_describe_processes_names_the_first_eight(processes, text):
    assert describe_processes(processes) == text
