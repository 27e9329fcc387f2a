"""Declarations that cannot work are refused with an error that names the mistake."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

import fastlib
import fastlib.message.describe
from fastlib import (
    DeclarationError,
    Message,
    Result,
    Stop,
)
from fastlib.codec import OneOf, Wire
from fastlib.message import task
from tests.support.declarations import declare, registered_titles

pytestmark = pytest.mark.usefixtures("isolated_registry")

BROKEN = {
    "a task's title is taken": lambda: declare(task="start vm", result="b"),
    "a message's title is taken": lambda: declare(task="init agent", result="b"),
    "the result's title is taken": lambda: declare(task="a", result="vm started"),
    "no such layout": lambda: declare(task="a", result="b", layout="lsit"),
    "no layout": lambda: declare(task="a", result="b", layout=()),
    "one of the layouts is none": lambda: declare(task="a", result="b", layout=("list", "table")),
    "no such result layout": lambda: declare(task="a", result="b", result_layout="lsit"),
    "no title": lambda: declare(task="", result="b"),
    "no result title": lambda: declare(task="a", result=""),
    "a title that is no text": lambda: declare(task=1, result="b"),
    "a list key that is the container's": lambda: declare(task="a", result="b", key="id"),
    "a list key that is the title's": lambda: declare(task="a", result="b", key="task"),
    "an inline key that is the container's": lambda: declare(
        hints={"id": str}, task="a", result="b", layout="inline"
    ),
    "an inline key that is the title's": lambda: declare(
        hints={"task": str}, task="a", result="b", layout="inline"
    ),
    "an inline key that is the container's host": lambda: declare(
        hints={"host": str | None},
        task="a",
        result="b",
        layout=("list", "inline"),
        members={"host": None},
    ),
    "an inline alias that is the container's": lambda: declare(
        hints={"number": Annotated[str, Wire(aliases=("id",))]},
        task="a",
        result="b",
        layout="inline",
    ),
    "an inline attribute that is the container's": lambda: declare(
        hints={"host": str},
        members={"host": msgspec.field(name="target")},
        task="a",
        result="b",
        layout="inline",
    ),
    "a member's key that is the list's": lambda: declare(
        hints={"list": Sequence[str]}, task="a", result="b", layout=("inline", "list")
    ),
    "a key for two fields": lambda: declare(
        hints={"vm_name": str, "name": Annotated[str, Wire(aliases=("vm-name",))]},
        task="a",
        result="b",
    ),
    "an integer without a range": lambda: declare(hints={"size": int}, task="a", result="b"),
    "an integer with half a range": lambda: declare(
        hints={"size": Annotated[int, Meta(ge=0)]}, task="a", result="b"
    ),
    "a set": lambda: declare(hints={"names": set[str]}, task="a", result="b"),
    "a complex number": lambda: declare(hints={"number": complex}, task="a", result="b"),
    "bytes": lambda: declare(
        hints={"data": bytes | None}, members={"data": None}, task="a", result="b"
    ),
    "one of two types": lambda: declare(hints={"size": str | bool}, task="a", result="b"),
    "keys that are no text": lambda: declare(
        hints={"names": Mapping[bool, str]}, task="a", result="b"
    ),
    "a literal that is no text": lambda: declare(
        hints={"size": Literal[1, 2]}, task="a", result="b"
    ),
    "deep in a list": lambda: declare(
        hints={"sizes": Sequence[Sequence[int]]}, task="a", result="b"
    ),
    "a message with a title that is taken": lambda: declare(base=Message, task="quit"),
    "a message without a title": lambda: declare(base=Message, task=""),
    "a message with a field of no type": lambda: declare(
        base=Message, hints={"x": object}, task="a"
    ),
    "a message with a field for its title": lambda: declare(
        base=Message, hints={"task": str}, task="a"
    ),
    "results of no type": lambda: declare(task="a", result="b", result_type=None),
    "results that are no results": lambda: declare(task="a", result="b", result_type=Stop),
    "a result with an integer without a range": lambda: declare(
        task="a",
        result="b",
        result_type=declare({"size": int | None}, base=Result, members={"size": None}),
    ),
    "a result that a failure does not have": lambda: declare(
        task="a", result="b", result_type=declare({"size": str}, base=Result)
    ),
    "an inline result's key that is the container's": lambda: declare(
        task="a",
        result="b",
        result_layout="inline",
        result_type=declare({"id": str | None}, base=Result, members={"id": None}),
    ),
    "a result's key that is the list's": lambda: declare(
        task="a",
        result="b",
        result_layout=("inline", "list"),
        result_type=declare({"list": str | None}, base=Result, members={"list": None}),
    ),
    "a field that hides a method": lambda: declare(hints={"load": float}, task="a", result="b"),
    "a message's field that hides a method": lambda: declare(
        base=Message, hints={"emit": str}, task="a"
    ),
    "a field that hides the declaration": lambda: declare(
        hints={"declaration": str}, task="a", result="b"
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_declaration_is_refused_and_leaves_nothing(reason):
    before = registered_titles(), list(task.declarations())
    with pytest.raises(DeclarationError) as caught:
        BROKEN[reason]()
    assert str(caught.value)
    assert (registered_titles(), list(task.declarations())) == before


@pytest.mark.parametrize("reason", BROKEN)
def test_validate_never_raises_after_a_broken_declaration(reason):
    with contextlib.suppress(DeclarationError):
        BROKEN[reason]()
    for title in ("a", "1", "no such title"):
        for rest in ("", "list: []", "list:\n  - vm-name: a\n", "id: 7", "vm-name: a", "x: b"):
            fastlib.validate(f"task: {title}\n{rest}")


@pytest.mark.parametrize(
    ("reason", "key"),
    [
        ("an integer without a range", "size"),
        ("a set", "names"),
        ("deep in a list", "sizes"),
        ("a key for two fields", "vm-name"),
        ("an inline key that is the container's", "id"),
        ("a literal that is no text", "size"),
        ("a result with an integer without a range", "size"),
        ("a result that a failure does not have", "size"),
        ("an inline result's key that is the container's", "id"),
        ("a result's key that is the list's", "list"),
    ],
)
def test_error_names_the_broken_declaration_and_its_key(reason, key):
    with pytest.raises(DeclarationError, match=rf"(?s)Broken.*\b{key}\b"):
        BROKEN[reason]()


def test_error_about_a_taken_title_names_both_declarations():
    with pytest.raises(DeclarationError, match=r"'task: quit'.*fastlib\.message\.tasks\.Quit"):
        declare(task="quit", result="b")


@pytest.mark.parametrize(
    "broken",
    [
        lambda: declare(task="a"),
        lambda: declare(result="b"),
        lambda: declare(task="a", result="b", colour="red"),
        lambda: declare(base=Message, task="a", result="b"),
        lambda: declare(base=Message, layout="list"),
    ],
)
def test_misspelt_class_statement_is_a_type_error(broken):
    before = registered_titles()
    with pytest.raises(TypeError):
        broken()
    assert registered_titles() == before


MISTAKEN = {
    "a default of the wrong kind": (
        lambda: declare({"x": int}, members={"x": "a"}, task="a", result="b"),
        "range",
    ),
    "a default outside its set": (
        lambda: declare({"x": Literal["a", "b"]}, members={"x": "c"}, task="a", result="b"),
        r"Broken\.x: its default does not fit: expected one of a, b; got 'c'",
    ),
    "None for what is not optional": (
        lambda: declare({"x": str}, members={"x": None}, task="a", result="b"),
        r"Broken\.x: its default",
    ),
    "a rule about no field": (
        lambda: declare(
            {"x": str | None},
            members={"x": None, "rules": (OneOf("x", "yy"),)},
            task="a",
            result="b",
        ),
        "'yy', which is not a field",
    ),
    "aliases that are one text": (lambda: Wire("doc", aliases="x"), "aliases="),
    "a key that is not text": (lambda: declare(task="a", result="b", key=3), "a key must be text"),
    "a mutable message": (lambda: declare(task="a", result="b", frozen=False), "does not change"),
    "a check of its own": (
        lambda: declare(members={"__post_init__": lambda self: None}, task="a", result="b"),
        "write a Rule instead",
    ),
    "a missing keyword": (lambda: declare(task="a"), "Broken: .*'result'"),
    "a misspelt keyword": (lambda: declare(tsk="a", result="b"), "Broken: .*'tsk'"),
}


@pytest.mark.parametrize("mistake", MISTAKEN)
def test_mistake_in_a_declaration_is_refused(mistake):
    make, words = MISTAKEN[mistake]
    with pytest.raises(DeclarationError, match=words):
        make()


def test_broken_rule_names_a_misspelt_key():
    report = fastlib.validate("task: stop vm\nlist:\n  - vm-nam: vm1\n")
    [error] = report.errors
    assert error.message == "needs vm-name or regex; there is 'vm-nam' instead"
