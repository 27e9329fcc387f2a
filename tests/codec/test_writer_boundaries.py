"""The writers by themselves: the exact text of every kind of value, key and container."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest

from fastlib.codec import Wire, writer
from fastlib.codec.caches import clear_derived_caches
from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.envelope import MAX_TITLES, Envelope, Variant
from fastlib.codec.records import Field, Record
from fastlib.codec.shapes import Int, List, Shape, Text
from fastlib.codec.tree_shape import Tree
from fastlib.codec.writer import write_block, write_flow, write_tree
from fastlib.message import Extension, Message, PciAddress, Task
from tests.support.boxes import Box, Item, Thing, box, record_of, variant

LONG_KEY = "k" * 1001


# --- plain trees ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ("a", "a"), ("1", '"1"'), (None, "null"), (True, "true"), (False, "false"), (1, "1"),
        (1.5, "1.5"),
        (10**400, "1" + "0" * 400), (float("inf"), ".inf"), ([], "[]"), ({}, "{}"),
        (["a", ["b"]], "[a, [b]]"),
        ({"a": {"1": "2"}, "c": []}, '{a: {"1": "2"}, c: []}'),
        ({LONG_KEY: "a"}, f"{{? {LONG_KEY} : a}}"), (["a\nb"], '["a\\nb"]'),
    ],
)  # fmt: skip
def test_flow_style_is_one_line(tree: Any, text: str) -> None:
    assert write_flow(tree) == text


@pytest.mark.parametrize(
    ("tree", "lines"),
    [
        ("a", ["a"]), (1.5, ["1.5"]), ({}, ["{}"]), ([], ["[]"]), ([[]], ["[[]]"]),
        ({"a": "b", "c": 1}, ["a: b", "c: 1"]),
        ({"a": {}, "b": [], "c": [["d"], []]}, ["a: {}", "b: []", "c: [[d], []]"]),
        ({"a": {"b": {"c": "d"}}}, ["a:", "  b:", "    c: d"]),
        ({"a": ["b", {}, ["c"]]}, ["a:", "  - b", "  - {}", "  - - c"]),
        ({"a": [{"b": "c", "d": ["e"]}, {"f": "g"}]},
         ["a:", "  - b: c", "    d:", "      - e", "  - f: g"]),
        (["a", {"b": "c", "d": "e"}], ["- a", "- b: c", "  d: e"]),
        ([["a"], {"b": [["c"]]}, [{"d": "e"}]],
         ["- - a", "- b: [[c]]", "- - d: e"]),
        ({LONG_KEY: "a"}, [f"? {LONG_KEY}", ": a"]),
        ({"a": {LONG_KEY: {"b": "c"}}}, ["a:", f"  ? {LONG_KEY}", "  :", "    b: c"]),
        ({"1": "2", "a": "b\nc"}, ['"1": "2"', 'a: "b\\nc"']),
    ],
)  # fmt: skip
def test_block_style_has_a_line_for_each_pair(tree: Any, lines: list[str]) -> None:
    assert write_tree(tree) == "\n".join(["---", *lines, "---"])


@pytest.mark.parametrize(
    ("tree", "lines"),
    [
        ({"a": "b\nc"}, ["a: |-", "  b", "  c"]),
        ({"a": {"b": "c\n\nd\n"}, "e": "f"}, ["a:", "  b: |", "    c", "", "    d", "e: f"]),
        ({"a": " b\nc"}, ['a: " b\\nc"']), ({"a": "b"}, ["a: b"]), ({"a": 1}, ["a: 1"]),
        ({"a": [{"b": "c\nd"}]}, ["a:", "  - b: |-", "      c", "      d"]),
        (["a\nb"], ['- "a\\nb"']),
    ],
)  # fmt: skip
def test_literal_style_has_blocks_for_texts_of_several_lines(tree: Any, lines: list[str]) -> None:
    assert write_tree(tree, literal=True) == "\n".join(["---", *lines, "---"])


# --- structs --------------------------------------------------------------------------------------

Digit = Annotated[int, msgspec.Meta(ge=0, le=9)]


class Inner(Message):
    """A struct in a struct."""

    a: str | None = None


class Deep(Message):
    """Another one, with a list."""

    inners: Sequence[Inner] | None = None
    inner: Inner | None = None


class Kinds(Message):
    """One field for each kind of value."""

    text: str | None = None
    flag: bool | None = None
    number: Digit | None = None
    digits: Annotated[Digit | None, Wire("x", hex_digits=3)] = None
    ratio: float | None = None
    when: datetime | None = None
    mode: Literal["live", "1", "a'b"] | None = None
    inner: Inner | None = None
    deep: Deep | None = None
    map: Mapping[str, str] | None = None
    inners: Sequence[Inner] | None = None
    addresses: Sequence[PciAddress] | None = None
    address: PciAddress | None = None
    texts: Sequence[str] | None = None
    numbers: Sequence[Digit] | None = None
    lists: Sequence[Sequence[Digit]] | None = None
    words: Sequence[Sequence[str]] | None = None


ADDRESS = PciAddress(bus=1, device=2, function=3)


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ({}, ["{}"]),
        ({"text": "a", "number": 3}, ["text: a", "number: 3"]),
        ({"text": "no"}, ['text: "no"']), ({"text": "e1"}, ['text: "e1"']),
        ({"text": "E1"}, ['text: "E1"']), ({"text": "x1"}, ["text: x1"]),
        ({"text": "a b"}, ["text: a b"]), ({"text": "ü"}, ["text: ü"]),
        ({"text": "\u0e33"}, ['text: "\u0e33"']), ({"text": ""}, ['text: ""']),
        ({"text": "a\u202ab"}, ['text: "a\\u202ab"']), ({"text": "\uf8ff"}, ['text: "\\uf8ff"']),
        ({"flag": True}, ["flag: true"]), ({"flag": False}, ["flag: false"]),
        ({"number": 0}, ["number: 0"]), ({"digits": 7}, ['digits: "0x007"']),
        ({"ratio": 0.5}, ["ratio: 0.5"]), ({"ratio": float("nan")}, ["ratio: .nan"]),
        ({"when": datetime(2026, 1, 1, tzinfo=UTC)}, ['when: "2026-01-01T00:00:00Z"']),
        ({"mode": "live"}, ["mode: live"]), ({"mode": "1"}, ['mode: "1"']),
        ({"mode": "a'b"}, ["mode: a'b"]),
        ({"inner": Inner(a="b")}, ["inner:", "  a: b"]), ({"inner": Inner()}, ["inner: {}"]),
        ({"deep": Deep(inners=[Inner(a="b"), Inner()], inner=Inner(a="c"))},
         ["deep:", "  inners:", "    - a: b", "    - {}", "  inner:", "    a: c"]),
        ({"map": {"1": "no", "b": "c"}}, ["map:", '  "1": "no"', "  b: c"]),
        ({"map": {"a": "b\nc"}}, ["map:", '  a: "b\\nc"']), ({"map": {}}, ["map: {}"]),
        ({"inners": [Inner(a="b"), Inner(), Inner(a="c")]},
         ["inners:", "  - a: b", "  - {}", "  - a: c"]),
        ({"inners": []}, ["inners: []"]),
        ({"addresses": [ADDRESS]}, ["addresses:", '  - pci-addr: "0000:01:02.3"']),
        ({"address": ADDRESS}, ["address:", '  pci-addr: "0000:01:02.3"']),
        ({"texts": ["a", "1"]}, ["texts:", "  - a", '  - "1"']), ({"texts": []}, ["texts: []"]),
        ({"numbers": [1, 2]}, ["numbers:", "  - 1", "  - 2"]), ({"numbers": []}, ["numbers: []"]),
        ({"lists": [[1, 2], [], [3]]}, ["lists: [[1, 2], [], [3]]"]),
        ({"lists": []}, ["lists: []"]),
        ({"words": [["a", "1"], []]}, ['words: [[a, "1"], []]']),
    ],
)  # fmt: skip
def test_struct_is_written(values: dict[str, Any], lines: list[str]) -> None:
    shape = shape_of(Kinds)
    message = Kinds(**values)
    text = "\n".join(["---", *lines, "---"])
    assert write_block(message, shape) == text
    assert write_tree(shape.dump(message)) == text


def test_usual_values_are_written_without_a_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    value = Kinds(
        lists=[[1]],
        texts=["a"],
        inners=[Inner(a="b")],
        addresses=[ADDRESS],
        inner=Inner(a="b"),
        text="a",
        flag=True,
        number=1,
        ratio=0.5,
        when=datetime(2026, 1, 1, tzinfo=UTC),
        mode="live",
    )
    shape = shape_of(Kinds)
    text = write_tree(shape.dump(value))
    clear_derived_caches()
    monkeypatch.setattr(writer, "_pair", pytest.fail)
    assert write_block(value, shape) == text


class Needed(msgspec.Struct):
    """Fields that always have a value, whose keys need quotes and escapes."""

    text: str = msgspec.field(name="{a}'")
    flag: bool = msgspec.field(name="1")
    number: Digit = msgspec.field(name="{n}")
    mode: Literal["{}"] = msgspec.field(name="{m}'")
    ratio: float = msgspec.field(name="{r}'")
    digits: Annotated[Digit, Wire("x", hex_digits=1)] = msgspec.field(name="{d}'")
    when: datetime = msgspec.field(name="{w}'")
    inner: Inner = msgspec.field(name="{i}'")
    other: str = msgspec.field(name="o'")


def test_keys_are_written_exactly() -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    for text, other in (("a", "b"), ("1", "no")):
        value = Needed(text, True, 3, "{}", 0.5, 7, when, Inner(a="b"), other)
        shape = shape_of(Needed)
        assert write_block(value, shape) == write_tree(shape.dump(value))
    assert write_block(value, shape) == "\n".join(
        ["---", '"{a}\'": "1"', '"1": true', '"{n}": 3', '"{m}\'": "{}"', '"{r}\'": 0.5',
         '"{d}\'": "0x7"', '"{w}\'": "2026-01-01T00:00:00Z"', '"{i}\'":', "  a: b", "o': \"no\"",
         "---"]
    )  # fmt: skip


def test_backslash_of_a_key_is_escaped() -> None:
    for shape, value in ((Text(), "b"), (Text(), "1"), (Int(0, 9), 3), (Int(0, 9, 1), 3)):
        for key in ("a\\b", "a\\", "\n"):
            field = Field("a", key, shape, Wire(), required=True, optional=False)
            inner = Inner(a="x")
            msgspec.structs.force_setattr(inner, "a", value)
            record = Record(Inner, [field])
            assert write_block(inner, record) == write_tree(record.dump(inner))


def test_title_is_the_first_line() -> None:
    titled = Record(Item, fields_of(Item), title=("task", "a b"))
    assert write_block(Item(word="w"), titled) == "---\ntask: a b\nword: w\n---"
    quoted = Record(Item, fields_of(Item), title=("1", "no"))
    assert write_block(Item(word="w"), quoted) == '---\n"1": "no"\nword: w\n---'
    read = Record(Item, fields_of(Item), title=("task", "a"), title_is_written=False)
    assert write_block(Item(word="w"), read) == "---\nword: w\n---"
    nested = Field("inner", "inner", titled, Wire(), required=False, optional=True)

    class Outer(msgspec.Struct):
        inner: Item

    outer = Record(Outer, [nested])
    assert write_block(Outer(Item(word="w")), outer) == ("---\ninner:\n  task: a b\n  word: w\n---")
    items = Field("inner", "inner", List(titled), Wire(), required=True, optional=False)
    listed = Record(Outer, [items])
    assert write_block(Outer((Item(word="w"),)), listed) == (  # type: ignore[arg-type]
        "---\ninner:\n  - task: a b\n    word: w\n---"
    )


@pytest.mark.parametrize(
    ("required", "optional", "text"),
    [(False, False, "{}"), (True, True, "{}"), (False, True, "{}"), (True, False, "a: ")],
)
def test_only_a_field_that_may_be_absent_is_tested(
    required: bool, optional: bool, text: str
) -> None:
    shape = List(Int(0, 9))
    field = Field("a", "a", shape, Wire(), required=required, optional=optional)
    record = Record(Inner, [field])
    value = msgspec.structs.replace(Inner(a="x"))
    msgspec.structs.force_setattr(value, "a", None)
    if text == "{}":
        assert write_block(value, record) == "---\n{}\n---"
    else:
        with pytest.raises(TypeError):
            write_block(value, record)


@pytest.mark.parametrize(
    ("shape", "value", "text"),
    [
        (Text(), "no", '"no"\n'), (Tree(), {"a": ["b"]}, "a:\n  - b\n"),
        (List(Text()), ("a",), "- a\n"),
    ],
)  # fmt: skip
def test_other_shapes_are_written_as_trees(shape: Shape, value: Any, text: str) -> None:
    assert write_block(value, shape) == f"---\n{text}---"


def test_converted_struct_is_written_in_its_wire_form() -> None:
    shape = shape_of(PciAddress)
    assert write_block(ADDRESS, shape) == '---\npci-addr: "0000:01:02.3"\n---'


class Long(msgspec.Struct):
    """A key that is too long for a simple one."""

    texts: Sequence[str] = msgspec.field(name=LONG_KEY)
    map: Mapping[str, str]


def test_list_of_other_values_is_written_as_a_tree() -> None:
    field = Field("a", LONG_KEY, List(List(Text())), Wire(), required=True, optional=False)
    inner = Inner(a="x")
    msgspec.structs.force_setattr(inner, "a", (("b",),))
    text = f"---\n? {LONG_KEY}\n: [[b]]\n---"
    assert write_block(inner, Record(Inner, [field])) == text
    nested = Field("inner", "i", Record(Inner, [field]), Wire(), required=True, optional=False)
    text = f"---\ni:\n  ? {LONG_KEY}\n  : [[b]]\n---"
    assert write_block(Deep(inner=inner), Record(Deep, [nested])) == text


# --- extensions -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("isolated_registry")
def test_extensions_are_written_after_the_struct() -> None:
    class Several(Task, task="several", result="done", layout="list"):
        """A task in a list."""

        vm_name: str | None = None

    class Part(Extension, of=Several):
        """Options of another package."""

        size: Digit | None = None
        inner: Inner | None = None

    class Other(Extension, of=Several):
        """Others."""

        other: str | None = None

    shape = shape_of(Several)
    part = Part(size=1, inner=Inner(a="b"))
    both = Several(vm_name="a", extensions=[part, Other(other="c")])
    plain = ["vm-name: a", "size: 1", "inner:", "  a: b", "other: c"]
    assert write_block(both, shape) == "\n".join(["---", *plain, "---"])
    assert write_block(Several(vm_name="a"), shape) == "---\nvm-name: a\n---"
    assert write_block(Several(extensions=[part]), shape) == "\n".join(["---", *plain[1:4], "---"])
    field = Field("inners", "l", List(shape), Wire(), required=True, optional=False)
    record = Record(Deep, [field])
    value = Deep()
    msgspec.structs.force_setattr(value, "inners", (both, Several(), Several(extensions=[part])))
    assert write_block(value, record) == "\n".join(
        ["---", "l:", "  - vm-name: a", *(f"    {line}" for line in plain[1:]), "  - {}",
         "  - size: 1", "    inner:", "      a: b", "---"]
    )  # fmt: skip


# --- containers -----------------------------------------------------------------------------------

NAME = Thing(name="a", shared="s")


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (Box(kind="one", members=(NAME,), number="7"),
         ["kind: one", "name: a", "shared: s", 'number: "7"']),
        (Box(kind="one", members=(NAME,), shared="s"), ["kind: one", "name: a", "shared: s"]),
        (Box(kind="one", members=(Thing(),)), ["kind: one"]),
        (Box(kind="many", members=(Item(word="a"), Item()), number="7", shared="s"),
         ["kind: many", "list:", "  - word: a", "  - word: w", 'number: "7"', "shared: s"]),
        (Box(kind="many", members=()), ["kind: many", "list: []"]),
        (Box(kind="inline first", members=(Item(word="a"),), shared="s"),
         ["kind: inline first", "word: a", "shared: s"]),
        (Box(kind="list first", members=(Item(word="a"),)),
         ["kind: list first", "entries:", "  - word: a"]),
        (Box(kind="free: no", members=()), ['kind: "free: no"', "list: []"]),
    ],
)  # fmt: skip
def test_container_is_written_in_its_first_layout(value: Box, lines: list[str]) -> None:
    text = "\n".join(["---", *lines, "---"])
    envelope = box()
    for _ in range(2):
        assert write_block(value, envelope) == text
    assert write_tree(envelope.dump(value)) == text


def test_function_is_compiled_once_for_each_title(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Record] = []
    original = writer._compile

    def compile_(record: Record, *arguments: Any, **options: Any) -> Any:
        compiled.append(record)
        return original(record, *arguments, **options)

    monkeypatch.setattr(writer, "_compile", compile_)
    clear_derived_caches()
    kinds = {"free": variant("free")}
    fields = [each for each in fields_of(Box) if each.key not in ("kind", "members")]
    envelope = Envelope(
        Box, title="kind", members="members", fields=fields, variant=kinds.get,
        titles=lambda: kinds, record=record_of,
    )  # fmt: skip
    value = Box(kind="free", members=(Item(word="a"),))
    text = "---\nkind: free\nlist:\n  - word: a\n---"
    assert write_block(value, envelope) == text
    count = len(compiled)
    assert count == 2
    assert write_block(value, envelope) == text
    kinds["free"] = variant("free")  # an equal one
    assert write_block(value, envelope) == text
    assert len(compiled) == count
    kinds["free"] = Variant(title="free", member=Item, layouts=("inline",))  # declared again
    assert write_block(value, envelope) == "---\nkind: free\nword: a\n---"
    kinds["free"] = Variant(title="free", member=Item, layouts=("list",), list_key="e")
    assert write_block(value, envelope) == "---\nkind: free\ne:\n  - word: a\n---"


def test_functions_of_only_some_titles_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Record] = []

    def compile_(record: Record, pad: str, *, item: bool = False) -> Any:
        compiled.append(record)
        return lambda value: ""

    monkeypatch.setattr(writer, "_compile", compile_)
    envelope = box()
    for number in range(MAX_TITLES + 1):
        write_block(Box(kind=f"free {number}", members=()), envelope)
    compiled.clear()
    for number in (0, MAX_TITLES - 1):
        write_block(Box(kind=f"free {number}", members=()), envelope)
    assert compiled == []
    for _ in range(2):
        write_block(Box(kind=f"free {MAX_TITLES}", members=()), envelope)
    assert len(compiled) == 2


def test_functions_are_kept_for_each_shape_and_indentation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = record_of(Inner)
    assert writer._record(record, "") is writer._record(record, "")
    assert writer._record(record, "  ") is not writer._record(record, "")
    assert writer._record(record, "  ", item=True) is not writer._record(record, "  ")
    assert writer._record(record, "  ", item=True)(Inner(a="b")) == "- a: b\n"
    assert writer._record(record, "    ", item=True)(Inner()) == "  - {}\n"
    assert write_block(Inner(a="b"), record) == "---\na: b\n---"
    monkeypatch.setattr(writer, "_root", pytest.fail)
    assert write_block(Inner(a="c"), record) == "---\na: c\n---"
