"""The meaning of the kernel's errors for the files of cgroups."""

import errno
import os
import sys
from pathlib import Path

import pytest

from fastlib.migfra.hypervisors.ponci.files import (
    BusyError,
    GoneError,
    GroupError,
    make,
    read,
    remove,
    tree,
    write,
)
from fastlib.migfra.hypervisors.ponci.freezers import V2Freezer
from fastlib.migfra.hypervisors.ponci.hierarchy import processes_below


def raising(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "kind", "why"),
    [
        (errno.ENOENT, GoneError, "is missing; another program has removed it"),
        (errno.ENODEV, GoneError, "is missing; another program has removed it"),
        (errno.EBUSY, BusyError, "is busy; it has processes or groups: end or move them"),
        (errno.EACCES, GroupError, r"this user must not read or change .* \(Permission denied\)"),
        (
            errno.EPERM,
            GroupError,
            r"this user must not read or change .* \(Operation not permitted\)",
        ),
        (errno.EROFS, GroupError, "is mounted read-only"),
        (errno.EAGAIN, GroupError, "would exceed the limit of groups"),
        (errno.EIO, GroupError, "Input/output error; find out what it is"),
    ],
)
def test_error_of_a_file_is_explained(monkeypatch, tmp_path, number, kind, why):
    monkeypatch.setattr(Path, "read_text", raising(number))
    with pytest.raises(GroupError, match=why) as caught:
        read(tmp_path / "file")
    assert type(caught.value) is kind
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("name", "number", "kind", "why"),
    [
        ("cpuset.cpus", errno.ENODEV, GoneError, "was removed by another program"),
        ("cpuset.cpus", errno.EBUSY, GroupError, "claims them, such as by cpu_exclusive"),
        ("cgroup.procs", errno.EBUSY, GroupError, "check the group and the kernel's log"),
    ],
)
def test_refused_value_is_explained(monkeypatch, tmp_path, name, number, kind, why):
    file = tmp_path / name
    file.write_text("")
    monkeypatch.setattr(os, "write", raising(number))
    with pytest.raises(GroupError, match=why) as caught:
        write(file, "1")
    assert type(caught.value) is kind


def test_missing_files_and_groups_raise_gone_error(tmp_path):
    with pytest.raises(GoneError):
        read(tmp_path / "missing")
    with pytest.raises(GoneError):
        write(tmp_path / "missing", "1")
    with pytest.raises(GoneError):
        make(tmp_path / "missing" / "group")
    remove(tmp_path / "missing")
    assert tree(tmp_path / "missing") == []


def test_make_returns_whether_the_group_is_new(tmp_path):
    assert make(tmp_path / "group")
    assert not make(tmp_path / "group")
    (tmp_path / "file").write_text("")
    with pytest.raises(GroupError, match="File exists"):
        make(tmp_path / "file")


def test_tree_lists_inner_groups_first(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert tree(tmp_path / "a") == [tmp_path / "a" / "b", tmp_path / "a"]


def test_tree_has_groups_nested_deeper_than_python_calls(tmp_path):
    depth = sys.getrecursionlimit() + 100
    names = ["a"] * depth
    where = os.open(tmp_path, os.O_RDONLY)
    for name in names:
        os.mkdir(name, dir_fd=where)
        inner = os.open(name, os.O_RDONLY, dir_fd=where)
        os.close(where)
        where = inner
    os.close(where)
    found = tree(tmp_path / "a")
    assert len(found) == depth
    assert found[-1] == tmp_path / "a"
    for group in found:
        remove(group)


def test_make_reports_a_group_that_was_removed_in_the_meantime(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "mkdir", raising(errno.EEXIST))
    with pytest.raises(GoneError, match="another program has just removed"):
        make(tmp_path / "group")


def test_missing_group_above_is_named(tmp_path):
    with pytest.raises(GoneError, match=f"the group {tmp_path}/a is missing; another program"):
        read(tmp_path / "a" / "b" / "cpuset.cpus")


def test_tree_explains_unreadable_group(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "scandir", raising(errno.EACCES))
    with pytest.raises(GroupError, match="this user must not read or change"):
        tree(tmp_path)


def test_remove_explains_group_with_files(tmp_path):
    (tmp_path / "group" / "inner").mkdir(parents=True)
    with pytest.raises(GroupError, match="Directory not empty"):
        remove(tmp_path / "group")


@pytest.mark.parametrize(
    ("number", "found"), [(errno.ENODEV, {1}), (errno.EOPNOTSUPP, {1}), (errno.EIO, None)]
)
def test_processes_of_groups_that_cannot_be_read(monkeypatch, tmp_path, number, found):
    """A group may disappear in the meantime, or have threads only. Other errors are raised."""
    (tmp_path / "below").mkdir()
    (tmp_path / "cgroup.procs").write_text("1\n")
    (tmp_path / "cgroup.threads").write_text("1\n")
    read_text = Path.read_text

    def partly(path, *arguments):
        if path.parent.name == "below":
            raise OSError(number, "")
        return read_text(path, *arguments)

    monkeypatch.setattr(Path, "read_text", partly)
    if found is None:
        with pytest.raises(GroupError):
            processes_below(tmp_path, V2Freezer(tmp_path))
    else:
        assert processes_below(tmp_path, V2Freezer(tmp_path)) == found
