"""Generated messages, valid and not: schemas say the same of them as fastlib.

An invalid message is a valid one after a change somewhere in its tree. What a schema cannot say is
named here, by what a schema is asked: the value that a reader made of a text, not the text.
"""

import copy
import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fastlib import FastlibError, ResultContainer, Stop, Suspend, TaskContainer
from fastlib.codec.instants import READ_PATTERN
from fastlib.codec.scalars import FLOAT_PATTERN
from fastlib.codec.shapes import Instant
from fastlib.message.node import Presence
from fastlib.schema import document, family_document, find_kind
from fastlib.testing import strategies as fast
from tests.support.schema.readers import READERS, Unreadable, as_json, names, validator
from tests.support.strategies import examples

# The types whose messages travel, each with the name of its schemas: a container's is that of its
# family. They are made here, as other tests may have declared tasks since.
TYPES: dict[Any, str] = {}
for name in names():
    kind = find_kind(name)
    TYPES[kind.cls] = kind.family or name


def judges(cls, directions):
    """Return the validators of a type, also with declarations of other tests."""
    name = TYPES[cls]
    make = family_document if name in ("task", "result") else lambda n, d: document(find_kind(n), d)
    return [validator(make(name, direction)) for direction in directions]


@pytest.mark.parametrize("cls", TYPES, ids=TYPES.values())
def test_written_messages_validate(cls):
    emit, load = judges(cls, ("emit", "load"))

    @examples(everyday=4, nightly=1000)
    @given(fast.from_message(cls))
    def check(message):
        tree = as_json(message.emit())
        emit.validate(tree)
        load.validate(tree)
        text = message.to_yaml()
        for name, read in READERS.items():
            try:
                instance = read(text)
            except Unreadable:  # ruamel.yaml misreads some escapes
                assert name == "yaml12"
                continue
            load.validate({} if instance is None else instance)

    check()


# --- what is wrong ----------------------------------------------------------------------------

LEAVES = [
    None, "", "x", "yes", "no", "0x10", "08", "010", "1.5", "-1", "~", "a b", True, False, -1, 0, 1,
    7, 300, 2**16, 2**32, 2**64, 10**30, 0.5, -1.5, [], {}, [None], [[]], ["a"], {"a": "b"},
    {"vm-name": "a"}, {"task": "quit"}, "live", "success",
]  # fmt: skip
KEYS = ["x", "vm-name", "list", "task", "name", "dev", "retry-counter", "vm-configurations", "id"]


def places(tree, path=()):
    """The path of each node of a tree."""
    yield path
    steps = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree if isinstance(tree, list) else ())
    )
    for step, below in steps:
        yield from places(below, (*path, step))


def at(tree, path):
    for step in path:
        tree = tree[step]
    return tree


def leaves():
    return st.sampled_from(LEAVES).map(copy.deepcopy)


@st.composite
def changed(draw, cls):
    """The tree of a message, after one change or two."""
    tree = copy.deepcopy(draw(fast.from_message(cls, texts=fast.PLAIN_TEXTS)).emit())
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(tree))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                tree = draw(leaves())
            continue
        above, step = at(tree, path[:-1]), path[-1]
        change = draw(st.sampled_from(["leaf", "leaf", "remove", "rename", "wrap", "add", "twice"]))
        if change == "leaf":
            above[step] = draw(leaves())
        elif change == "wrap":
            above[step] = [above[step]]
        elif change == "remove":
            del above[step]
        elif isinstance(above, list):
            above.append(above[step])
        elif change == "rename":
            above[draw(st.sampled_from(KEYS))] = above.pop(step)
        elif change == "twice":
            above[f"{step}x"] = above[step]
        else:
            above[draw(st.sampled_from(KEYS))] = draw(leaves())
    return tree


def beyond_schemas(problem):
    """Return the rules that a schema cannot express if a reader has guessed types."""
    if problem.got is None:  # a key is missing
        return False
    # A pattern cannot say which minute is the last of a day in UTC, and which year it is in UTC.
    if problem.expected == Instant.expected:
        return re.search(READ_PATTERN, problem.got.strip("'")) is not None
    # Nor can it say which numbers are too large for 64 bits.
    if problem.expected.startswith("a number"):
        return is_too_large(problem.got.strip("'"))
    # A number may stand for a PCI address, as to YAML 1.1 `08:00.0` is one.
    return problem.path.endswith(("pci-addr", "addr")) and "PCI address" in problem.message


def is_too_large(number):
    """Return whether a text is that of a number beyond those of 64 bits."""
    return re.fullmatch(FLOAT_PATTERN, number) is not None and math.isinf(float(number))


@pytest.mark.parametrize("cls", TYPES, ids=TYPES.values())
def test_changed_messages_validate_only_if_they_are_read(cls):
    (load,) = judges(cls, ("load",))
    seen = {"read": 0, "refused": 0}

    @examples(everyday=30, nightly=2000)
    @given(changed(cls))
    def check(tree):
        text = yaml.safe_dump(tree, allow_unicode=True)
        instance = READERS["yaml11"](text)
        try:
            cls.from_yaml(text)
        except FastlibError as refused:
            error = refused
        else:
            error = None
        if error is None:
            load.validate(instance)
            seen["read"] += 1
        elif not all(map(beyond_schemas, getattr(error, "problems", ()))):
            assert not load.is_valid(instance), f"{text}\n{error}"
            seen["refused"] += 1

    check()
    assert seen["refused"] >= 2
    assert seen["read"] >= 1


@pytest.mark.parametrize("text", ["2026-11-29T06:30:60Z", "0001-01-01T00:30:00+01:00"])
def test_times_that_only_a_reader_refuses_validate(text: str) -> None:
    tree = {"task": "stop vm", "list": [{"vm-name": "a"}], "expires": text}
    with pytest.raises(FastlibError, match="expires: expected a time") as refused:
        TaskContainer.from_yaml(yaml.safe_dump(tree))
    assert all(map(beyond_schemas, refused.value.problems))
    (load,) = judges(TaskContainer, ("load",))
    load.validate(tree)


def test_message_without_a_required_time_does_not_validate() -> None:
    history = {"host": "a", "time": "2026-01-01T00:00:00Z", "orders": []}
    result = {"vm-name": "n/a", "status": "success", "history": history}
    tree = {"result": "history queried", "list": [result]}
    with pytest.raises(FastlibError, match=r"history\.since: missing; expected a time") as refused:
        ResultContainer.from_yaml(yaml.safe_dump(tree))
    assert not any(map(beyond_schemas, refused.value.problems))
    (load,) = judges(ResultContainer, ("load",))
    assert not load.is_valid(tree)


@pytest.mark.parametrize("text", ["1e400", "-1e400"])
def test_numbers_that_only_a_reader_refuses_validate(text: str) -> None:
    tree = {"status": "online", "started": text}
    with pytest.raises(FastlibError, match="started: expected a number") as refused:
        Presence.from_yaml(yaml.safe_dump(tree))
    assert all(map(beyond_schemas, refused.value.problems))
    (load,) = judges(Presence, ("load",))
    load.validate(tree)


@pytest.mark.parametrize("cls", TYPES, ids=TYPES.values())
def test_mutated_messages_do_not_validate(cls):
    """This holds for mistakes that are errors; those with only a warning validate."""
    (load,) = judges(cls, ("load",))

    @examples(everyday=6, nightly=2000)
    @given(fast.invalid(cls))
    def check(made):
        if made.mistake == "duplicate":
            return  # to a schema there are no keys twice
        try:
            cls.from_yaml(made.text)
        except FastlibError as refused:
            if all(map(beyond_schemas, getattr(refused, "problems", ()))):
                return
        instance = READERS["text"](made.text)
        assert load.is_valid(instance) == (made.severity == "warning"), made

    check()


def test_changes_break_every_keyword_of_the_schemas():
    found = set()

    @examples(everyday=100, nightly=300)
    @given(st.tuples(changed(Stop), changed(Suspend)))
    def collect(trees):
        for cls, tree in zip((Stop, Suspend), trees, strict=True):
            try:
                cls.from_yaml(yaml.safe_dump(tree))
            except FastlibError as error:
                found.update(problem.code for problem in error.problems)

    collect()
    assert found >= {"missing", "rule", "value", "type"}
