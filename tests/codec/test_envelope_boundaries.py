"""Containers by themselves: titles, layouts, and every advice for a key in a wrong place."""

from typing import Any

import pytest

from fastlib.codec.composer import compose
from fastlib.codec.envelope import MAX_TITLES, Envelope, Members, Variant
from fastlib.codec.errors import Problem
from fastlib.codec.extensions import extensions_of
from fastlib.codec.limits import Limits
from fastlib.codec.load_context import INVALID, MAX_SUGGESTIONS, LoadContext
from fastlib.codec.shapes import InvalidValue
from fastlib.message import Extension, Task
from tests.support.boxes import KINDS, Box, Item, Thing, box, record_of, variant


def load(text: str, shape: Any = None) -> tuple[Any, list[Problem]]:
    context = LoadContext("Case", Limits())
    root = compose(text, Limits(), "Case")
    assert root is not None
    return (shape or box()).load(root, context, ("x",)), context.problems


def short(problems: list[Problem]) -> list[tuple[Any, ...]]:
    return [(each.code, each.path, each.line, each.column, each.message) for each in problems]


def refused(text: str) -> list[tuple[Any, ...]]:
    value, problems = load(text)
    assert value is INVALID
    return short(problems)


NAME = Thing(name="a", shared="s")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{kind: one, name: a, shared: s, number: 7}",
         Box(kind="one", members=(NAME,), number="7")),
        ("{number: 7, label: a, shared: s, kind: 'one'}",
         Box(kind="one", members=(NAME,), number="7")),
        ("{kind: one}", Box(kind="one", members=(Thing(),))),
        ("{kind: many, list: [{word: a}, {}], number: 7, shared: s}",
         Box(kind="many", members=(Item(word="a"), Item()), number="7", shared="s")),
        ("{kind: many, list: []}", Box(kind="many", members=())),
        ("{kind: many, list: [{word: a}, ~]}",
         Box(kind="many", members=(Item(word="a"), Item()))),
        ("{kind: inline first, word: a, shared: s}",
         Box(kind="inline first", members=(Item(word="a"),), shared="s")),
        ("{kind: inline first, list: [{word: a}], shared: s}",
         Box(kind="inline first", members=(Item(word="a"),), shared="s")),
        ("{kind: list first, word: a, number: 7}",
         Box(kind="list first", members=(Item(word="a"),), number="7")),
        ("{kind: list first, entries: [{word: a}, {word: b}]}",
         Box(kind="list first", members=(Item(word="a"), Item(word="b")))),
    ],
)  # fmt: skip
def test_members_are_loaded_in_each_layout(text: str, value: Box) -> None:
    found, problems = load(text)
    assert problems == []
    assert found == value
    assert [type(each) for each in found.members] == [type(each) for each in value.members]


KNOWN = "also entries, inline first, list first, many, one"


@pytest.mark.parametrize(
    ("text", "problem", "suggestion"),
    [
        ("- a", ("type", "x", "expected a mapping with the key 'kind'; got a list"), None),
        ("~", ("value", "x", "expected a mapping with the key 'kind'; got null"), None),
        ("kind: [one]", ("type", "x.kind", "expected text; got a list"), None),
        ("kind: ~", ("value", "x.kind", "expected text; got null"), None),
        ("kind: on", ("value", "x.kind", f"expected one of {KNOWN}; got 'on'"), "one"),
        ("kind: zzzz", ("value", "x.kind", f"expected one of {KNOWN}; got 'zzzz'"), None),
        ("{}", ("missing", "x.kind", "missing; it names the kind of the message"), None),
        ("{[a]: b, c: d}", ("missing", "x.kind", "missing; it names the kind of the message"),
         None),
        ("{[a]: b, knd: d}",
         ("missing", "x.kind", "missing; it names the kind of the message; is it 'knd'?"), None),
        ("{[kind]: one}", ("missing", "x.kind", "missing; it names the kind of the message"), None),
    ],
)  # fmt: skip
def test_wrong_title_is_reported(
    text: str, problem: tuple[str, str, str], suggestion: str | None
) -> None:
    value, (found, *others) = load(text)
    assert (value, others) == (INVALID, [])
    assert (found.code, found.path, found.message) == problem
    assert (found.severity, found.suggestion) == ("error", suggestion)


def test_missing_title_is_reported_at_the_mapping() -> None:
    value, (found,) = load("\n\n  a: b")
    assert value is INVALID
    assert (found.line, found.column, found.expected) == (3, 3, "text")
    value, (found,) = load("\n  a: b\n  kind: on")
    assert (found.line, found.column) == (3, 9)


@pytest.mark.parametrize(("count", "near"), [(MAX_SUGGESTIONS - 1, True), (MAX_SUGGESTIONS, False)])
def test_only_the_first_keys_are_compared_with_the_title(count: int, near: bool) -> None:
    text = "".join(f"{index:04}: a\n" for index in range(count)) + "knd: one"
    _, (found,) = load(text)
    assert found.message.endswith("; is it 'knd'?") is near


def test_first_title_counts() -> None:
    assert refused("{kind: many, list: [], kind: one}") == [
        ("duplicate-key", "x.kind", 1, 24, "this key is a duplicate; remove one of the two")
    ]


def test_title_that_is_read_without_a_declaration_is_a_warning() -> None:
    long = "free " + "x" * 100
    for title, shown, near in (("free", "'free'", None), ("freemany", "'freemany'", "many")):
        value, (found,) = load(f"{{kind: {title}, list: []}}")
        assert value == Box(kind=title, members=())
        assert (found.code, found.path, found.line, found.column) == ("unknown-title", "x.kind",
                                                                      1, 8)  # fmt: skip
        assert found.message == (f"unknown title {shown}; its contents are read as plain members")
        assert (found.severity, found.got, found.suggestion) == ("warning", shown, near)
    _, (found,) = load(f"{{kind: {long}, list: []}}")
    assert found.got == f"'{long[:40]}'… (105 characters)"


# --- keys in a wrong place ------------------------------------------------------------------------

UNKNOWN = "unknown key, ignored by every peer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: one, list: []}",
         "unknown key here; the keys of the one member of one are beside 'kind'"),
        ("{kind: one, entries: []}", UNKNOWN),
        ("{kind: one, id: 7}", "write 'number'"),
        ("{kind: list first, list: [{}]}",
         "unknown key here; the keys of the one member of list first are beside 'kind'"),
        ("{kind: many, list: [], word: a}", "unknown key here; it belongs to each entry of 'list'"),
        ("{kind: many, list: [], xyz: a}", UNKNOWN),
        ("{kind: list first, entries: [], word: a}",
         "unknown key here; it belongs to each entry of 'entries'"),
        ("{kind: many, list: [], entries: []}",
         "'entries' belongs to also entries and list first; the members of many are under 'list'"),
        ("{kind: inline first, list: [{}], entries: []}",
         "'entries' belongs to also entries and list first; the members of inline first are under "
         "'list'"),
        ("{kind: list first, entries: [], list: []}",
         "'list' belongs to many; the members of list first are under 'entries'"),
        ("{kind: many, list: [], lst: []}", UNKNOWN),
    ],
)  # fmt: skip
def test_key_in_a_wrong_place_is_explained(text: str, message: str) -> None:
    value, (found,) = load(text)
    assert value is not INVALID
    key = text.rpartition(", ")[2].partition(":")[0]
    assert (found.path, found.got, found.message) == (f"x.{key}", key, message)
    assert (found.line, found.column) == (1, text.rindex(f"{key}:") + 1)
    assert found.code == ("unknown-key" if message == UNKNOWN else "old-key")
    assert found.severity == "warning"
    assert found.suggestion == ("list" if key == "lst" else None)


@pytest.mark.parametrize(
    ("text", "path", "remedy"),
    [
        ("{kind: one, size: a}", "x.size", "write 'name'"),
        ("{kind: many, list: [], count: a}", "x.count", "write 'word', too"),
        ("{kind: many, list: [], term: a}", "x.term", "write 'word'"),
        ("{kind: many, list: [{term: a}]}", "x.list[0].term", "write 'word'"),
    ],
)
def test_refused_key_of_a_member_is_an_error_at_every_place(
    text: str, path: str, remedy: str
) -> None:
    _, (found,) = load(text)
    assert (found.path, found.message, found.severity) == (path, remedy, "error")


def test_obsolete_key_of_the_container_is_reported() -> None:
    """In a list it is unknown."""
    assert short(load("{kind: many, list: [], id: 7}")[1]) == [
        ("unknown-key", "x.id", 1, 24, UNKNOWN)
    ]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("kind: many", [("missing", "x.list", 1, 1, "missing; expected a list")]),
        ("kind: also entries", [("missing", "x.entries", 1, 1, "missing; expected a list")]),
        ("{kind: many, list: a}", [("value", "x.list", 1, 20, "expected a list; got 'a'")]),
        ("{kind: many, list: {}}",
         [("type", "x.list", 1, 20, "expected a list; got an empty mapping")]),
        ("{kind: inline first, list: []}",
         [("type", "x.list", 1, 28, "expected a list with exactly one entry; got an empty list")]),
        ("{kind: inline first, list: [{}, {}]}",
         [("type", "x.list", 1, 28, "expected a list with exactly one entry; got a list")]),
        ("{kind: many, list: [a, {}, {word: []}]}", [
            ("value", "x.list[0]", 1, 21, "expected a mapping; got 'a'"),
            ("type", "x.list[2].word", 1, 35, "expected text; got an empty list"),
        ]),
        ("{kind: one, name: a}",
         [("rule", "x", 1, 1, "needs name and shared together, or none of them")]),
        ("{kind: one, name: [], number: [], shared: a}", [
            ("type", "x.name", 1, 19, "expected text; got an empty list"),
            ("type", "x.number", 1, 31, "expected text; got an empty list"),
        ]),
        ("{kind: many, list: [], number: []}",
         [("type", "x.number", 1, 32, "expected text; got an empty list")]),
    ],
)  # fmt: skip
def test_wrong_members_are_reported(text: str, problems: list[tuple[Any, ...]]) -> None:
    assert refused(text) == problems


def test_each_member_is_counted() -> None:
    members = Members(box(), KINDS["many"])
    root = compose("[{}, {}, ~]", Limits(), "Case")
    assert root is not None
    context = LoadContext("Case", Limits(max_nodes=3))
    assert members.load(root, context, ()) == (Item(), Item(), Item())
    assert context._nodes == 0
    root = compose(f"[{'x' * 2048}]", Limits(), "Case")  # counts as three nodes
    assert root is not None
    context = LoadContext("Case", Limits(max_nodes=3))
    assert members.load(root, context, ()) is INVALID
    assert context._nodes == 0


# --- writing and checking -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tree"),
    [
        (Box(kind="one", members=(NAME,), number="7"),
         {"kind": "one", "name": "a", "shared": "s", "number": "7"}),
        (Box(kind="one", members=(NAME,), shared="s"),
         {"kind": "one", "name": "a", "shared": "s"}),
        (Box(kind="many", members=(Item(word="a"), Item()), number="7"),
         {"kind": "many", "list": [{"word": "a"}, {"word": "w"}], "number": "7"}),
        (Box(kind="inline first", members=(Item(word="a"),)),
         {"kind": "inline first", "word": "a"}),
        (Box(kind="list first", members=(Item(word="a"),), shared="s"),
         {"kind": "list first", "entries": [{"word": "a"}], "shared": "s"}),
        (Box(kind="free of that", members=()), {"kind": "free of that", "list": []}),
    ],
)  # fmt: skip
def test_container_is_written_in_its_first_layout(value: Box, tree: dict[str, Any]) -> None:
    found = box().dump(value)
    assert found == tree
    assert [*found] == [*tree]


class Another(Box):
    """A subclass is a box, too."""


def test_only_containers_are_accepted() -> None:
    value = Another(kind="one", members=())
    assert box().check(value) is value
    with pytest.raises(InvalidValue) as caught:
        box().check("a")
    assert (caught.value.path, caught.value.expected, caught.value.got) == ((), "a Box", "'a'")


# --- shapes of the layouts ------------------------------------------------------------------------


def test_arguments_of_a_container_are_kept() -> None:
    envelope = box()
    assert (envelope.cls, envelope.title, envelope.members) == (Box, "kind", "members")
    assert [field.key for field in envelope.fields] == ["number", "shared"]
    assert (envelope.variant, envelope.record) == (variant, record_of)
    assert envelope.titles() is KINDS


def test_shape_of_an_inline_container() -> None:
    record = box().inline_record(KINDS["one"])
    assert record.cls is Thing
    assert [field.key for field in record.fields] == ["name", "shared", "number"]
    assert record.title == ("kind", "one")
    assert record.rules == Thing.rules
    assert record.extensions is record_of(Thing).extensions
    assert record.known_keys() == ["kind", "name", "label", "shared", "number"]


@pytest.mark.usefixtures("isolated_registry")
def test_inline_member_may_have_extensions() -> None:
    class Extended(Task, task="boxed", result="unboxed", layout="inline"):
        """A task that others may extend."""

    class Part(Extension, of=Extended):
        """An extension."""

        size: str | None = None

    kind = Variant(title="boxed", member=Extended, layouts=("inline",))
    record = box().inline_record(kind)
    assert record.extensions is extensions_of(Extended)
    assert "size" in record.known_keys()


def test_shape_of_a_container_with_a_list() -> None:
    envelope = box()
    record = envelope.list_record(KINDS["list first"])
    assert record.cls is Item
    assert [field.key for field in record.fields] == ["entries", "number", "shared"]
    assert record.title == ("kind", "list first")
    members = record.fields[0]
    assert (members.attribute, members.required, members.optional) == ("members", True, False)
    assert members.wire.doc == "The members."
    assert isinstance(members.shape, Members)
    assert members.shape.item is record_of(Item)
    assert members.shape.one is False
    assert Members(envelope, KINDS["inline first"]).one is True


def test_shape_is_made_once_for_each_title_and_layout() -> None:
    envelope = box()
    first = envelope.list_record(KINDS["list first"])
    assert envelope.list_record(KINDS["list first"]) is first
    inline = envelope.inline_record(KINDS["list first"])
    assert inline is not first
    assert envelope.inline_record(KINDS["list first"]) is inline
    equal = Variant(title="list first", member=Item, layouts=("list", "inline"), list_key="entries")
    assert envelope.list_record(equal) is first
    other = Variant(title="list first", member=Item, layouts=("list",))  # declared again
    again = envelope.list_record(other)
    assert [field.key for field in again.fields] == ["list", "number", "shared"]
    assert envelope.list_record(other) is again


def count_of_kept(envelope: Envelope, titles: int) -> int:
    for index in range(titles):
        title = f"free {index}"
        envelope.list_record(Variant(title=title, member=Item, layouts=("list",)))
    return len(envelope._layouts)


def test_only_some_titles_are_kept() -> None:
    assert count_of_kept(box(), MAX_TITLES - 1) == MAX_TITLES - 1
    assert count_of_kept(box(), MAX_TITLES) == MAX_TITLES
    assert count_of_kept(box(), MAX_TITLES + 2) == MAX_TITLES
