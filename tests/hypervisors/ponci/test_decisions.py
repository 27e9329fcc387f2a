"""The state of a domain and the refusals of tasks, by the kernel's files of its groups."""

from pathlib import Path

import pytest

from fastlib.migfra.hypervisors.ponci import decisions
from fastlib.migfra.hypervisors.ponci.domain_view import (
    DomainView,
    ForeignFreeze,
    FreezeRequest,
    GroupView,
)

TOP = Path("/freezer/migfra/vm1")
CPUSET = Path("/cpuset/migfra/vm1")
PARENT = FreezeRequest(TOP.parent, "thaw the parent")
ROOT = FreezeRequest(TOP.parent.parent, "thaw the root")
OTHER = FreezeRequest(Path("/freezer/other"), "thaw the other")
KILLABLE = ForeignFreeze(OTHER, frozenset({7}), kills_frozen=True)
STUCK = ForeignFreeze(OTHER, frozenset({7}), kills_frozen=False)


def group(below="", threads=(), requested=False, frozen=False, told=None):
    return GroupView(
        path=TOP / below,
        requested=requested,
        told=requested or frozen if told is None else told,
        frozen=frozen,
        threads=frozenset(threads),
    )


def view(*groups, **facts):
    given = {"name": "vm1", "there": (CPUSET, TOP), "groups": groups or (group(),)} | facts
    return DomainView(**given)


@pytest.mark.parametrize(
    ("domain", "state"),
    [
        (view(), "running"),
        (view(group(threads={1})), "running"),
        (view(group(requested=True, frozen=True)), "paused"),
        (view(group(threads={1}, requested=True)), "freezing"),
        (view(group(threads={1}, frozen=True), above=(PARENT,)), "paused"),
        (view(group(threads={1}, told=True), above=(PARENT,)), "freezing"),
        (view(group(threads={1}, frozen=True), above_is_hidden=True), "paused"),
        # Something inside of it is frozen.
        (view(group(), group("a", {1}, requested=True, frozen=True)), "paused"),
        (view(group(threads={2}), group("a", {1}, requested=True, frozen=True)), "partly paused"),
        (view(group(threads={2}), group("a", requested=True, frozen=True)), "running"),
        (view(group(), group("a", {1}, requested=True)), "freezing"),
        (view(group(), group("a", requested=True), group("a/b", {1}, told=True)), "freezing"),
        # Threads that its own groups do not freeze.
        (view(group(frozen=True, requested=True), loose=frozenset({7})), "partly paused"),
        (view(loose=frozenset({7}), elsewhere=(STUCK,)), "paused"),
        (view(group(threads={7, 8}), elsewhere=(KILLABLE,)), "partly paused"),
        (view(group(threads={7}), elsewhere=(KILLABLE,)), "paused"),
        # Those of another PID namespace are all 0.
        (view(group(threads={0}), group("a", {0}, requested=True, frozen=True)), "partly paused"),
        (view(there=(CPUSET,), missing=(TOP,), groups=()), "incomplete"),
        (view(group(requested=True, frozen=True), defect="its cpuset is empty"), "incomplete"),
    ],
)
def test_state_reports_whether_processes_run(domain, state):
    assert decisions.state_of(domain) == state


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (view(group(threads={1})), False),
        (view(group(), group("a", requested=True, frozen=True)), True),
        (view(group(requested=True)), True),
        (view(group(threads={1}, told=True), above=(PARENT,)), True),
        (view(above_is_hidden=True), True),
        (view(group(threads={7}), elsewhere=(KILLABLE,)), True),
    ],
)
def test_empty_frozen_groups_count_as_frozen(domain, expected):
    assert decisions.freezes(domain) is expected


def test_inner_groups_are_thawed_before_outer_ones():
    domain = view(
        group(requested=True),
        group("a", told=True),
        group("a/b", requested=True),
        group("c", requested=True),
    )
    assert decisions.to_thaw(domain) == [TOP / "c", TOP / "a/b", TOP]
    assert domain.requested_inside == (TOP / "a/b", TOP / "c")


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        (view(group(requested=True, frozen=True)), None),
        (
            view(above=(PARENT,)),
            "vm1 cannot run: /freezer/migfra, which is above it, is frozen; thaw that group first "
            "(thaw the parent), then resume vm1",
        ),
        (
            view(above=(PARENT, ROOT)),
            "vm1 cannot run: /freezer/migfra and /freezer, which are above it, are frozen; thaw "
            "those groups first (thaw the parent && thaw the root), then resume vm1",
        ),
        (
            view(above_is_hidden=True, root=Path("/freezer")),
            "vm1 cannot run: a group above /freezer is frozen, which cannot be seen from here; "
            "thaw that group first, on the host of this container, then resume vm1",
        ),
        (
            view(elsewhere=(KILLABLE,)),
            "vm1 cannot run as a whole: its thread 7 is frozen by /freezer/other, which is not a "
            "part of it; thaw that group first (thaw the other), then resume vm1",
        ),
    ],
)
def test_resume_names_frozen_groups_outside_of_the_domain(domain, why):
    assert decisions.why_not_resumable(domain) == why


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, None),
        ({"above": (PARENT,), "kills_frozen": True}, None),
        ({"above": (PARENT,), "processes": frozenset()}, None),
        (
            {"above": (PARENT,)},
            "vm1 cannot be stopped: /freezer/migfra, which is above it, is frozen, and with "
            "cgroup v1 a frozen process does not end; thaw that group first (thaw the parent), "
            "then stop vm1 again",
        ),
        ({"elsewhere": (KILLABLE,)}, None),
        (
            {"elsewhere": (KILLABLE, STUCK), "kills_frozen": True},
            "vm1 cannot be stopped: its thread 7 is frozen by /freezer/other, and with cgroup v1 "
            "a frozen process does not end; thaw that group first (thaw the other), then stop vm1 "
            "again",
        ),
    ],
)
def test_kill_is_refused_if_a_group_outside_keeps_processes(facts, why):
    domain = view(**{"kills_frozen": False, "processes": frozenset({7})} | facts)
    assert decisions.why_not_killable(domain) == why


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"there": ()}, None),
        ({}, "vm1 exists on node01 already, as /cpuset/migfra/vm1; stop it first"),
        (
            {"there": (TOP,), "missing": (CPUSET,)},
            "vm1 exists on node01 already, but incomplete: it has /freezer/migfra/vm1 and not "
            "/cpuset/migfra/vm1; stop it first",
        ),
        (
            {"there": (), "above": (PARENT,)},
            "vm1 could not run: /freezer/migfra, which is above it, is frozen; thaw that group "
            "first (thaw the parent), then start vm1",
        ),
    ],
)
def test_start_is_refused_with_the_paths_that_exist(facts, why):
    assert decisions.why_not_startable(view(**facts), "node01") == why


def test_incomplete_domain_names_its_missing_groups():
    assert decisions.why_incomplete(view()) is None
    assert decisions.why_incomplete(view(there=(TOP,), missing=(CPUSET,))) == (
        "vm1 is incomplete: it has /freezer/migfra/vm1 but not /cpuset/migfra/vm1; stop it, then "
        "start it again"
    )


def test_many_frozen_threads_are_named_in_part():
    many = ForeignFreeze(OTHER, frozenset(range(20)), kills_frozen=True)
    said = decisions.why_not_resumable(view(elsewhere=(many,)))
    assert "its threads 0, 1, 2, 3, 4, 5, 6, 7, … are frozen by /freezer/other" in said
