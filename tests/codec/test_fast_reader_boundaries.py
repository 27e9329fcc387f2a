"""The fast reader by itself: which texts of a struct it reads, and which it leaves to the other."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest

from fastlib.codec import AllOrNone, Wire, fast_reader, is_compiled
from fastlib.codec.caches import clear_derived_caches
from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.dispatch import read_exact
from fastlib.codec.envelope import MAX_TITLES, Envelope, Variant
from fastlib.codec.fast_reader import UNSUPPORTED, read_fast
from fastlib.codec.limits import DEFAULT_LIMITS, Limits
from fastlib.codec.records import Converted, Field, Record
from fastlib.codec.shapes import Choice, Float, Int, List, Map, Shape, Text
from fastlib.codec.tree_shape import Tree
from fastlib.message import Message, PciAddress
from tests.support.boxes import Box, Item, Thing, box, record_of

replaces_functions = pytest.mark.skipif(
    is_compiled(), reason="functions of a compiled module cannot be replaced"
)

Digit = Annotated[int, msgspec.Meta(ge=0, le=9)]
Large = Annotated[int, msgspec.Meta(ge=0, le=2**64 - 1)]


class Inner(Message):
    """A struct in a struct."""

    rules = (AllOrNone("a", "b"),)

    a: str | None = None
    b: Annotated[str | None, Wire("x", aliases=("bee",))] = None


class Deep(Message):
    """A struct with one in it."""

    inner: Inner | None = None
    inners: Sequence[Inner] | None = None


class Kinds(Message):
    """One field for each kind of value."""

    text: str | None = None
    flag: bool | None = None
    number: Digit | None = None
    large: Large | None = None
    ratio: float | None = None
    when: datetime | None = None
    mode: Literal["live", "null", "a b"] | None = None
    inner: Inner | None = None
    deep: Deep | None = None
    map: Mapping[str, str] | None = None
    inners: Sequence[Inner] | None = None
    deeps: Sequence[Deep] | None = None
    addresses: Sequence[PciAddress] | None = None
    address: PciAddress | None = None
    texts: Sequence[str] | None = None
    ratios: Sequence[float] | None = None
    numbers: Sequence[Digit] | None = None
    lists: Sequence[Sequence[Digit]] | None = None
    words: Sequence[Sequence[str]] | None = None


def kinds() -> Shape:
    return shape_of(Kinds)


def fast(shape: Shape, *lines: str, **limits: int) -> Any:
    return read_fast(shape, "\n".join(lines), Limits(**limits) if limits else DEFAULT_LIMITS)


def agreed(shape: Shape, *lines: str) -> Any:
    """Return the value that both readers read."""
    value = fast(shape, *lines)
    assert value is not UNSUPPORTED
    exact = read_exact(shape, "\n".join(lines), what="Case")
    assert (value, repr(value)) == (exact, repr(exact))
    return value


def declines(shape: Shape, *lines: str, **limits: int) -> None:
    assert fast(shape, *lines, **limits) is UNSUPPORTED


AB = Inner(a="x", b="y")
ADDRESS = PciAddress(bus=1, device=2, function=3)


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        (["text: a"], {"text": "a"}), (['text: "a"'], {"text": "a"}),
        (["text: a b"], {"text": "a b"}),
        (["text: 'it''s'"], {"text": "it's"}), (["text: |", "  a"], None),
        (["text: |", "  a", ""], {"text": "a\n"}), (["text: 5"], {"text": "5"}),
        (["text: nul"], {"text": "nul"}), (["text: nulls"], {"text": "nulls"}),
        (["flag: true"], {"flag": True}), (["flag: no"], {"flag": False}),
        (["flag: 'on'"], {"flag": True}), (["'flag': true"], {"flag": True}),
        (['"flag": true'], {"flag": True}), (["flag:  true"], None), (["flag: maybe"], None),
        (["flag: 'maybe'"], None),
        (["number: 3"], {"number": 3}), (["number: 0"], {"number": 0}),
        (["number: '3'"], {"number": 3}),
        (["number: 0x3"], {"number": 3}),
        (["number: 010"], {"number": 8}), (["number: 07"], {"number": 7}), (["number: ٣"], None),
        (["number: 10"], None), (["number: -1"], None), (["number: a"], None),
        (["number: ²"], None),
        (["large: 18446744073709551615"], {"large": 2**64 - 1}),
        (["large: 18446744073709551616"], None), (["large: 111111111111111111111"], None),
        (["ratio: 1.5"], {"ratio": 1.5}), (["ratio: '1'"], {"ratio": 1.0}), (["ratio: a"], None),
        (["when: 2026-01-01T00:00:00Z"], {"when": datetime(2026, 1, 1, tzinfo=UTC)}),
        (["mode: live"], {"mode": "live"}), (["mode: 'null'"], None), (["mode: null"], None),
        (["mode: a b"], {"mode": "a b"}), (["mode: 'live'"], {"mode": "live"}),
        (["mode: lve"], None),
        (["inner:", "  a: x", "  b: y"], {"inner": AB}),
        (["inner:", " bee: y", " a: x"], {"inner": AB}),
        (["inner:", "  a: x"], None), (["inner: {}"], None), (["inner:"], None),
        (["inner:", "a: x", "b: y"], None), (["inner:", "  a: x", "    b: y"], None),
        (["inner:", "  c: x"], None), (["inner: a", "  a: x"], None),
        (["deep:", "  inner:", "    a: x", "    b: y", "  inners:", "  - a: x", "    b: y"],
         {"deep": Deep(inner=AB, inners=[AB])}),
        (["map:", "  a: b"], {"map": {"a": "b"}}),
        (["inners:", "- a: x", "  b: y", "- b: y", "  a: x"], {"inners": [AB, AB]}),
        (["inners:", "  -  a: x", "     b: y"], {"inners": [AB]}), (["inners: []"], {"inners": []}),
        (["inners:", "  []"], {"inners": []}), (["inners:", "- a: x", "- b: y"], None),
        (["inners:", "- a: x", "  a: x"], None), (["inners:", "- c: x"], None),
        (["inners:", "- a: x", "  a: x", "- a: x", "  b: y"], None), (["inners:", "- {}"], None),
        (["inners: a", "- a: x", "  b: y"], None), (["inners:", "a: x"], None),
        (["deeps:", "- inner:", "    a: x", "    b: y", "- inners:", "  - a: x", "    b: y"],
         {"deeps": [Deep(inner=AB), Deep(inners=[AB])]}),
        (["addresses:", '- pci-addr: "0000:01:02.3"'], {"addresses": [ADDRESS]}),
        (["address:", '  pci-addr: "0000:01:02.3"'], {"address": ADDRESS}),
        (["address:", "  pci-addr: x"], None),
        (["texts:", "- a", "- 'b'"], {"texts": ["a", "b"]}),
        (["ratios:", "- 1"], {"ratios": [1.0]}),
        (["texts:", "- 'a", "  b'", "- c"], {"texts": ["a b", "c"]}),
        (["numbers: [1, 2]"], {"numbers": [1, 2]}), (["numbers:", "- 1"], {"numbers": [1]}),
        (["lists: [[1], [2]]"], {"lists": [[1], [2]]}), (["words: [[a]]"], None),
        (["text: a", "flag: true", "number: 3"], {"text": "a", "flag": True, "number": 3}),
        (["text: a", "text: a"], None), (["flag: true", "flag: true"], None), (["other: a"], None),
        (["text: ~"], None), (["text: null"], None), (["text: "], None), (["text:"], None),
        (["text: a", "other: b"], None), (["text: a", "  other: b"], None),
        (["- text: a"], None), (["text"], None), (["text: a", "", "flag: true"], None),
        (["text: a # b"], None), (["# b", "text: a"], None), (["{text: a}"], None),
    ],
)  # fmt: skip
def test_struct_is_read_or_declined(lines: list[str], values: dict[str, Any] | None) -> None:
    if values is None:
        declines(kinds(), *lines)
    else:
        assert agreed(kinds(), *lines) == Kinds(**values)
        # Before an end, with other line breaks, and with every indentation.
        for end in (["---"], ["..."], ["", ""], ["", "---"], ["---", "text: ["]):
            assert agreed(kinds(), *lines, *end) == Kinds(**values)
        assert agreed(kinds(), "---", *lines) == Kinds(**values)
        text = "\r\n".join([*lines, ""])
        assert read_fast(kinds(), text, DEFAULT_LIMITS) == Kinds(**values)
        for indent in (" ", "    "):
            deeper = [f"{indent}{line}" if line else line for line in lines]
            if END_OF_BLOCK not in lines:
                assert agreed(kinds(), *deeper) == Kinds(**values)


END_OF_BLOCK = "  a"


@pytest.mark.parametrize(
    "lines",
    [
        ["", "text: a"], [" ---", "text: a"], ["--- ", "text: a"], ["---", "---", "text: a"],
        ["text: a", "--- "], ["text: a", " ---"], ["text: a", "---b"], ["text: a", "... # c"],
        ["text: a", "", "b"], ["text: a", " "], [""], ["---"], ["text: a\0"],
        ["text: a\rflag: true"],
        ["text: a\ud800"], ["text: \udfff"], ["text: ü\ud800"],
        ["text: a", "---", "\ud800"], ["text: a", "\0"], ["text: 'a\rb'"],
    ],
)  # fmt: skip
def test_document_with_other_lines_is_declined(lines: list[str]) -> None:
    declines(kinds(), *lines)


def test_characters_are_read() -> None:
    for text in ("ü", "\ud7ff", "\ue000", "\U0001f600"):
        assert agreed(kinds(), f"text: {text}x") == Kinds(text=f"{text}x")


# --- limits ---------------------------------------------------------------------------------------


def test_text_is_read_up_to_its_limits() -> None:
    lines = ("text: abcd", "number: 3")  # 20 characters
    value = Kinds(text="abcd", number=3)
    assert fast(kinds(), *lines, max_scalar=20) == value
    declines(kinds(), *lines, max_scalar=19)
    # The depth of the type counts: a list of structs with lists of structs.
    assert fast(kinds(), *lines, max_depth=5) == value
    declines(kinds(), *lines, max_depth=4)
    # At most 4 nodes a line, and lists: no more are possible.
    assert fast(kinds(), *lines, max_nodes=8) == value
    declines(kinds(), *lines, max_nodes=7)


def test_upper_bound_of_nodes() -> None:
    bound = fast_reader._max_nodes_in
    assert bound("") == 4
    assert bound("a\nb\n") == 12
    assert bound("[a, b], [") == 4 + 4
    assert bound("x" * 1023) == 4
    assert bound("x" * 1024) == 5
    assert bound("x" * 2048) == 6


@replaces_functions
@pytest.mark.parametrize(("size", "reads"), [(10, True), (11, False)])
def test_nodes_are_only_estimated_in_texts_that_may_have_too_many(
    monkeypatch: pytest.MonkeyPatch, size: int, reads: bool
) -> None:
    monkeypatch.setattr(fast_reader, "_max_nodes_in", lambda text: 1000)
    text = "text: " + "a" * (size - 6)
    assert (read_fast(kinds(), text, Limits(max_nodes=60)) is not UNSUPPORTED) is reads


# --- titles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "reads"),
    [
        (["task: a b", "word: w"], True), (["word: w", "task: a b"], True),
        (["task: 'a b'", "word: w"], True), (["'task': a b", "word: w"], True), (["word: w"], True),
        (["task: c", "word: w"], False), (["task: a b", "task: a b", "word: w"], False),
        (["task: a b", "task: 'a b'"], False), (["task:", "word: w"], False),
        (["task: ~"], False), (["task: 'a b'"], True), (["task: a b"], True),
    ],
)  # fmt: skip
def test_title_of_a_struct_may_be_missing(lines: list[str], reads: bool) -> None:
    shape = Record(Item, fields_of(Item), title=("task", "a b"))
    if reads:
        assert agreed(shape, *lines) == Item()
    else:
        declines(shape, *lines)


def test_title_with_quotes_is_read() -> None:
    shape = Record(Item, fields_of(Item), title=("task", "1: 2"))
    assert agreed(shape, 'task: "1: 2"', "word: w") == Item()
    declines(shape, "task: 1: 2", "word: w")


def test_struct_that_builds_itself() -> None:
    made: list[Any] = []

    def build(values: dict[str, Any]) -> Any:
        made.append(dict(values))
        return Item(**values)

    shape = Record(Item, fields_of(Item), title=("task", "t"), build=build)
    assert fast(shape, "task: t", "word: x") == Item(word="x")
    assert made == [{"word": "x"}]

    class Outer(msgspec.Struct):
        item: Item
        items: tuple[Item, ...]

    fields = [
        Field("item", "item", shape, Wire(), required=True, optional=False),
        Field("items", "items", List(shape), Wire(), required=True, optional=False),
    ]
    lines = ("item:", "  word: a", "items:", "- word: b", "- word: c")
    value = fast(Record(Outer, fields), *lines)
    assert value == Outer(Item(word="a"), (Item(word="b"), Item(word="c")))
    assert made[1:] == [{"word": "a"}, {"word": "b"}, {"word": "c"}]


# --- containers -----------------------------------------------------------------------------------

NAME = Thing(name="a", shared="s")


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["kind: one", "name: a", "shared: s", "number: '7'"],
         Box(kind="one", members=(NAME,), number="7")),
        (["number: '7'", "name: a", "shared: s", "kind: one"],
         Box(kind="one", members=(NAME,), number="7")),
        (["kind: one"], Box(kind="one", members=(Thing(),))),
        (["kind: 'many'", "list:", "- word: a", "number: '7'"],
         Box(kind="many", members=(Item(word="a"),), number="7")),
        (["list:", "- word: a", 'kind: "many"'], Box(kind="many", members=(Item(word="a"),))),
        (["kind: many", "list: []"], Box(kind="many", members=())),
        (["kind: inline first", "word: a"], Box(kind="inline first", members=(Item(word="a"),))),
        (["list:", "- word: a", "kind: many", "number: b"],
         Box(kind="many", members=(Item(word="a"),), number="b")),
        (["kind: list first", "entries:", "- word: a", "- word: b"],
         Box(kind="list first", members=(Item(word="a"), Item(word="b")))),
        (["kind: list first", "word: a"], Box(kind="list first", members=(Item(word="a"),))),
        (["kind: free x", "list:", "- word: a"], Box(kind="free x", members=(Item(word="a"),))),
    ],
)  # fmt: skip
def test_container_is_read_by_its_title(lines: list[str], value: Box) -> None:
    envelope = box()
    for _ in range(2):
        assert agreed(envelope, *lines) == value
        assert agreed(envelope, "---", *lines, "---") == value
    declines(envelope, *lines, "kind: one")
    declines(envelope, *lines, "other: a")


@pytest.mark.parametrize(
    "lines",
    [
        ["kind: zzz"], ["name: a"], ["kind:", "name: a"], [" kind: one"], ["kind: [one]"],
        ["number: 'x", "  kind: one'"], ["kind: one", "list: []"], ["kind: many"],
        ["number: |", "  a", "", "kind: none"], ["kind : one"], ["'kind': one"],
        ["number: a", "---", "kind: one"], ["kind: ~"],
        ["kind: many", "word: a"], ["akind: one", "name: a"],
    ],
)  # fmt: skip
def test_other_container_is_declined(lines: list[str]) -> None:
    envelope = box()
    for _ in range(2):
        declines(envelope, *lines)


def test_title_of_the_first_document_counts() -> None:
    lines = ("number: '7'", "kind: one", "---", "number: '8'", "kind: many")
    assert agreed(box(), *lines) == Box(kind="one", members=(Thing(),), number="7")


def test_layout_of_each_text_counts() -> None:
    envelope = box()
    one, two = Item(word="a"), Item(word="b")
    for _ in range(2):
        value = agreed(envelope, "kind: list first", "word: a")
        assert value == Box(kind="list first", members=(one,))
        value = agreed(envelope, "kind: list first", "entries:", "- word: a", "- word: b")
        assert value == Box(kind="list first", members=(one, two))
        value = agreed(envelope, "kind: inline first", "list:", "- word: a")
        assert value == Box(kind="inline first", members=(one,))


def envelope_of(kinds: dict[str, Variant]) -> Envelope:
    fields = [each for each in fields_of(Box) if each.key not in ("kind", "members")]
    return Envelope(
        Box, title="kind", members="members", fields=fields, variant=kinds.get,
        titles=lambda: kinds, record=record_of,
    )  # fmt: skip


@replaces_functions
def test_reader_is_found_once_for_each_line_of_a_title(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"x": Variant(title="x", member=Item, layouts=("list",))}
    envelope = envelope_of(kinds)
    text = ("kind: x", "list:", "- word: a")
    value = Box(kind="x", members=(Item(word="a"),))
    assert fast(envelope, *text) == value
    with monkeypatch.context() as patch:
        patch.setattr(fast_reader, "unquote", pytest.fail)
        assert fast(envelope, *text) == value
        kinds["x"] = Variant(title="x", member=Item, layouts=("list",))  # an equal one
        assert fast(envelope, *text) == value
        assert fast(envelope, "---", *text) == value
    kinds["x"] = Variant(title="x", member=Item, layouts=("inline",))  # declared again
    declines(envelope, *text)
    assert fast(envelope, "kind: x", "word: a") == value
    kinds["x"] = Variant(title="x", member=Item, layouts=("list",), list_key="entries")
    assert fast(envelope, "kind: x", "entries:", "- word: a") == value


@replaces_functions
def test_only_some_titles_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    envelope = box()
    made: list[Record] = []
    original = fast_reader._StructReader

    def reader_of(record: Record) -> Any:
        made.append(record)
        return original(record)

    monkeypatch.setattr(fast_reader, "_StructReader", reader_of)
    for number in range(MAX_TITLES + 1):
        assert fast(envelope, f"kind: free {number}", "list: []") == Box(
            kind=f"free {number}", members=()
        )
    made.clear()
    for number in (0, MAX_TITLES - 1):
        fast(envelope, f"kind: free {number}", "list: []")
    assert made == []
    fast(envelope, f"kind: free {MAX_TITLES}", "list: []")
    assert len(made) == 1


def nested(levels: int) -> type[Any]:
    """Return a struct that may be nested so deeply."""
    cls: type[Any] = Item
    for _ in range(levels - 1):
        cls = above(cls)
    return cls


def above(cls: type[Any]) -> type[Any]:
    class Level(Message):
        below: cls | None = None  # type: ignore[valid-type]

    return Level


@pytest.mark.usefixtures("isolated_registry")
@pytest.mark.parametrize(("levels", "reads"), [(14, True), (15, False)])
def test_members_may_be_nested_as_deeply_as_containers_are_read(levels: int, reads: bool) -> None:
    """A container and its list are two levels more."""
    envelope = envelope_of({"x": Variant(title="x", member=nested(levels), layouts=("list",))})
    assert (fast(envelope, "kind: x", "list: []") is not UNSUPPORTED) is reads
    assert fast(box(), "kind: one", max_depth=16) is not UNSUPPORTED
    declines(box(), "kind: one", max_depth=15)


# --- tables ---------------------------------------------------------------------------------------


def reader_of(shape: Shape) -> Any:
    assert isinstance(shape, Record)
    return fast_reader._StructReader(shape)


def test_indentation_is_bounded() -> None:
    for width, reads in ((fast_reader._MAX_INDENT, True), (fast_reader._MAX_INDENT + 1, False)):
        value = fast(kinds(), " " * width + "text: a")
        assert (value is not UNSUPPORTED) is reads


def test_tables_are_kept_up_to_a_number() -> None:
    reader = reader_of(kinds())
    first = reader.table("")
    listed = reader.table("  ", "- ")
    assert reader.table("") is first
    assert reader.table("  ", "- ") is listed
    assert reader.table("  ") is not listed
    assert (first.indent, first.is_list) == ("", False)
    assert (listed.indent, listed.is_list) == ("  ", True)
    for width in range(1, fast_reader._MAX_TABLES - 2):
        reader.table(" " * width)
    reader.table(" " * 63)
    assert len(reader.tables) == fast_reader._MAX_TABLES
    assert reader.table("") is first
    reader.table(" " * 64)
    assert len(reader.tables) == 1
    assert reader.table("") is not first


@pytest.mark.parametrize("word", ["a #b", "a: b", "[a]", "- a", "'a'", "~", "null", "", " a", "a:"])
def test_word_with_another_meaning_without_quotes_is_declined(word: str) -> None:
    choice = Choice({word: 1, "plain": 2})
    field = Field("word", "word", choice, Wire(), required=True, optional=False)
    shape = Record(Item, [field], build=lambda values: values["word"])
    assert agreed(shape, "word: plain") == 2
    declines(shape, f"word: {word}")
    assert read_exact(shape, f'word: "{word}"', what="Case") == 1


def test_lines_of_a_table() -> None:
    table = reader_of(shape_of(Small)).table("  ", "- ")
    kind, attribute, value, begins = table.by_line["  mode: live"]
    assert (attribute, value, begins) == ("mode", "live", False)
    assert table.by_line["- mode: live"] == (kind, "mode", "live", True)
    assert table.by_line["- 'inner':"][3] is True
    assert table.by_line['  "inner":'][3] is False
    assert "  mode:" not in table.by_line
    assert {key.strip(" -'\"") for key in table.by_key} == {"mode", "inner"}
    assert not any("null" in line for line in table.by_line)


class Small(msgspec.Struct):
    """A struct with few lines."""

    mode: Literal["live", "null"]
    inner: Inner | None = None


def words(count: int) -> Record:
    choice = Choice({f"w{number}": number for number in range(count)})
    field = Field("word", "word", choice, Wire(), required=True, optional=False)
    return Record(Item, [field])


def test_lines_of_only_a_few_words_are_known() -> None:
    assert len(reader_of(words(49)).table("").by_line) == 49
    assert len(reader_of(words(50)).table("").by_line) == 0


def test_line_of_the_title_is_known() -> None:
    for title, known in (("a b", True), ("1", True), ("a: b", False), ("[a", False)):
        shape = Record(Item, fields_of(Item), title=("task", title))
        assert (f"task: {title}" in reader_of(shape).table("").by_line) is known


# --- from shapes to readers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "depth"),
    [
        (shape_of(Inner), 1), (shape_of(Deep), 3), (shape_of(Kinds), 5), (shape_of(PciAddress), 1),
        (Record(Item, [Field("w", "w", List(List(Int(0, 9))), Wire(), required=True,
                             optional=False)]), 3),
        (Record(Item, [Field("w", "w", List(Int(0, 9)), Wire(), required=True, optional=False)]),
         2),
        (Record(Item, [Field("w", "w", List(Float()), Wire(), required=True, optional=False)]), 2),
        (Record(Item, [Field("w", "w", List(Text()), Wire(), required=True, optional=False)]), 2),
        (Record(Item, [Field("w", "w", Map(Text()), Wire(), required=True, optional=False)]), 2),
        (Record(Item, [Field("w", "w", Tree(), Wire(), required=True, optional=False)]), 1),
        (Record(Item, [Field("w", "w", List(List(Text())), Wire(), required=True,
                             optional=False)]), 1),
        (Record(Item, []), 1),
    ],
)  # fmt: skip
def test_depth_of_a_reader_is_that_of_its_values(shape: Shape, depth: int) -> None:
    assert fast_reader._make_document_reader(shape).depth == depth


@pytest.mark.parametrize(
    ("shape", "kind"),
    [(Int(0, 9), fast_reader._INTEGER), (Float(), fast_reader._SCALAR), (Text(), fast_reader._TEXT),
     (Choice({"a": 1}), fast_reader._WORD), (Tree(), fast_reader._OTHER)],
)  # fmt: skip
def test_kind_of_an_entry(shape: Shape, kind: int) -> None:
    field = Field("w", "w", shape, Wire(), required=True, optional=False)
    found, _, depth = fast_reader._make_entry(field)
    assert (found, depth) == (kind, 0)


@pytest.mark.parametrize("shape", [Text(), List(Text()), Tree(), Converted(Inner, Text())])
def test_other_shapes_are_declined(shape: Shape) -> None:
    assert fast_reader._make_document_reader(shape).depth == 0
    for text in ("a", "- a", "a: b"):
        declines(shape, text, max_depth=1)


class Words:
    """A mapping that is converted."""

    def __init__(self, words: dict[str, str]) -> None:
        self.words = words

    @classmethod
    def from_wire(cls, wire: Any) -> "Words":
        return cls(wire)


def test_converted_mapping_is_read() -> None:
    field = Field(
        "word", "word", Converted(Words, Map(Text())), Wire(), required=True, optional=False
    )
    shape = Record(Item, [field], build=lambda values: values["word"].words)
    assert fast(shape, "word:", "  a: b") == {"a": "b"}
    assert fast_reader._make_document_reader(shape).depth == 2
    for other in (Map(List(Text())), Tree(), List(List(Text()))):
        field.shape = other
        clear_derived_caches()
        declines(Record(Item, [field]), "word:", "  a: b")


@replaces_functions
def test_readers_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = kinds()
    assert fast(shape, "text: a") == Kinds(text="a")
    assert fast_reader._struct_reader(shape) is fast_reader._struct_reader(shape)
    assert fast_reader._struct_reader(Text()) is None
    monkeypatch.setattr(fast_reader, "_make_document_reader", pytest.fail)
    assert fast(shape, "text: b") == Kinds(text="b")
