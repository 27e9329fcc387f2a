"""The keys that make an order act once and in time, beside the keys of the C++ peers."""

import contextlib
import re
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

import fastlib
from fastlib import (
    Cancel,
    DeclarationError,
    Evacuate,
    Message,
    Migrate,
    Quit,
    Result,
    ResultContainer,
    Start,
    Stop,
    TaskContainer,
)
from fastlib.codec.derivation import shape_of
from fastlib.codec.fast_reader import UNSUPPORTED, read_fast
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.message.node import Presence, Progress
from fastlib.testing.golden import rows
from tests.support.declarations import declare, round_trips

EXPIRES = datetime(2026, 11, 29, 6, 30, tzinfo=UTC)
KEYS = {"expires", "executed", "idempotency-key"}
ADDED: dict[type[Message], dict[str, Any]] = {
    TaskContainer: {"expires": EXPIRES, "idempotency_key": "5d9c2f4e"},
    ResultContainer: {"executed": EXPIRES, "idempotency_key": "5d9c2f4e"},
}
LINES = {
    TaskContainer: 'expires: "2026-11-29T06:30:00Z"\nidempotency-key: 5d9c2f4e\n',
    ResultContainer: 'executed: "2026-11-29T06:30:00Z"\nidempotency-key: 5d9c2f4e\n',
}
WRITTEN_BY_PEERS = [
    row for row in rows() if row.cls in ADDED and row.ok and isinstance(row.echo, str)
]
"""Containers that a peer has written."""


@pytest.mark.parametrize(
    "tasks",
    [
        [Start(vm_name="a"), Start(vm_name="b")],
        [Stop(regex=".*")],
        [Migrate(vm_name="a", destination="b")],
        [Evacuate(destinations=["b"])],
        [Quit()],
        [Cancel(id="c")],
    ],
    ids=lambda tasks: tasks[0].declaration.task,
)
def test_keys_of_a_task_container_travel_in_every_layout(tasks: list[Any]) -> None:
    container = TaskContainer(tasks=tasks, id="a", expires=EXPIRES, idempotency_key="5d9c2f4e")
    round_trips(container)
    fast = read_fast(shape_of(TaskContainer), container.to_yaml(), DEFAULT_LIMITS)
    assert fast == container
    assert fast is not UNSUPPORTED


@pytest.mark.parametrize("title", ["vm stopped", "vm migrated", "unknown"])
def test_keys_of_a_result_container_travel_in_every_layout(title: str) -> None:
    results = [Result(vm_name="a", status="success")]
    round_trips(
        ResultContainer(result=title, results=results, executed=EXPIRES, idempotency_key="5d9c")
    )


def test_keys_are_written_after_those_of_the_peers() -> None:
    container = TaskContainer(
        tasks=[Migrate(vm_name="a", destination="b")],
        id="a",
        host="c",
        expires=EXPIRES,
        idempotency_key="k",
    )
    assert list(container.emit())[-2:] == ["expires", "idempotency-key"]
    answer = ResultContainer.answer(container, [Result(vm_name="a", status="success")])
    answer = msgspec.structs.replace(answer, executed=EXPIRES)
    assert list(answer.emit())[-2:] == ["executed", "idempotency-key"]


def test_answer_echoes_the_key() -> None:
    results = [Result(vm_name="a", status="success")]
    for key in ("k", None):
        container = TaskContainer(tasks=[Stop(vm_name="a")], idempotency_key=key, expires=EXPIRES)
        answer = ResultContainer.answer(container, results)
        assert (answer.idempotency_key, answer.executed) == (key, None)


@pytest.mark.parametrize("text", ["''", '""'])
def test_empty_key_is_absent(text: str) -> None:
    container = fastlib.load(f"task: quit\nidempotency-key: {text}\n")
    assert (
        container
        == TaskContainer(tasks=[Quit()])
        == TaskContainer(tasks=[Quit()], idempotency_key="")
    )


@pytest.mark.parametrize(
    "key", ["42", "0x1f", "true", "~", "null", "1e5", "a: b", " a", "é", "a\nb"]
)
def test_key_is_always_text(key: str) -> None:
    container = TaskContainer(tasks=[Quit()], idempotency_key=key)
    assert round_trips(container).idempotency_key == key


# --- beside the C++ peers -------------------------------------------------------------------------


def test_peers_use_none_of_the_keys() -> None:
    used: set[str] = set()
    for row in WRITTEN_BY_PEERS:
        assert isinstance(row.echo, str)
        with contextlib.suppress(fastlib.FastlibError):  # a peer writes some that nobody can read
            used |= keys(row.cls.from_yaml(row.echo).emit())
        used |= set(re.findall(r"^[ -]*([a-z_-]+):", row.echo, re.MULTILINE))
    assert {"task", "result", "id", "list", "vm-name", "retry_counter"} <= used
    assert not used & KEYS


def keys(tree: Any) -> set[str]:
    """Return all keys of a tree."""
    if isinstance(tree, dict):
        return set(tree).union(*map(keys, tree.values()))
    return set().union(*map(keys, tree)) if isinstance(tree, list) else set()


def test_keys_do_not_change_other_parts_of_messages_of_peers() -> None:
    checked = 0
    for row in WRITTEN_BY_PEERS:
        assert isinstance(row.echo, str)
        try:
            before: Any = row.cls.from_yaml(row.echo)
        except fastlib.FastlibError:
            continue  # a peer writes some texts that nobody can read
        body, mark, rest = row.echo.rpartition("---")
        assert mark
        after = row.cls.from_yaml(f"{body}{LINES[row.cls]}---{rest}")
        assert after == msgspec.structs.replace(before, **ADDED[row.cls])
        checked += 1
    assert checked > 20


def test_containers_of_peers_have_none_of_the_keys() -> None:
    for row in WRITTEN_BY_PEERS:
        try:
            container: Any = row.cls.from_yaml(row.text)
        except fastlib.FastlibError:
            continue
        assert all(getattr(container, name) is None for name in ADDED[row.cls])


# --- names that members cannot have ---------------------------------------------------------------


@pytest.mark.usefixtures("isolated_registry")
@pytest.mark.parametrize("attribute", ["expires", "idempotency_key"])
def test_inline_task_cannot_have_a_container_key(attribute: str) -> None:
    with pytest.raises(DeclarationError, match=attribute.replace("_", "[-_]")):
        declare({attribute: str}, task="a", result="b", layout="inline")


@pytest.mark.usefixtures("isolated_registry")
def test_listed_task_can_have_the_name_of_a_container_key() -> None:
    listed = declare({"expires": str}, name="Listed", task="a", result="b", layout="list")
    container = TaskContainer(tasks=[listed(expires="never")], expires=EXPIRES)
    text = container.to_yaml()
    assert TaskContainer.from_yaml(text) == container


@pytest.mark.usefixtures("isolated_registry")
@pytest.mark.parametrize("attribute", ["executed", "idempotency_key"])
def test_inline_result_cannot_have_a_container_key(attribute: str) -> None:
    kind = declare({attribute: str | None}, base=Result, members={attribute: None})
    with pytest.raises(DeclarationError, match=attribute.replace("_", "[-_]")):
        declare(task="a", result="b", result_layout="inline", result_type=kind)


# --- progress and presence ------------------------------------------------------------------------


def test_progress_and_presence_travel() -> None:
    for message in (
        Progress(phase="memory", idempotency_key="k"),
        Presence(status="offline", client_id="fast-migfra-a", instance="9a1f"),
        Presence(status="online", degraded="no space: free some", time=EXPIRES, instance="0"),
    ):
        for style in ("block", "literal", "flow"):
            text = message.to_yaml(style=style)  # type: ignore[arg-type]
            assert type(message).from_yaml(text) == message


def test_last_will_of_an_older_daemon_has_no_instance() -> None:
    presence = Presence.from_yaml("status: offline\n")
    assert (presence.instance, presence.time, presence.degraded) == (None, None, None)


@pytest.mark.parametrize("status", ["degraded", "starting"])
def test_status_has_two_words_as_older_clients_know_no_other(status: str) -> None:
    with pytest.raises(fastlib.ValidationError, match="expected one of online, offline"):
        Presence.from_yaml(f"status: {status}\n")
