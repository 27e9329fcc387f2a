"""The fast reader of values by itself: what it reads, where the value ends, and what it declines.

Each text that it reads is also read by the exact reader. A text that it declines would be read
differently, or is not worth its time.
"""

from collections.abc import Callable
from typing import Any

import pytest

from fastlib.codec import fast_values
from fastlib.codec.composer import compose
from fastlib.codec.fast_values import (
    END_OF_TEXT,
    Unsupported,
    ValueReader,
    converting_reader,
    free_mapping_reader,
    integer_list_reader,
    integer_lists_reader,
    item_prefix,
    read_empty_list,
    read_quoted_or_block,
    read_text_list,
    read_unsupported,
    scalar_list_reader,
    unquote,
)
from fastlib.codec.limits import Limits
from fastlib.codec.load_context import INVALID, LoadContext
from fastlib.codec.nodes import Mapping
from fastlib.codec.shapes import Bool, Float, Int, List, Map, Shape, Text

DIGIT = Int(0, 9)
NEXT = "next: a"


def read(reader: ValueReader, *lines: str, indent: str = "") -> tuple[Any, int]:
    """Read the value after `key: ` in the first line and below it; return it and the next line."""
    first, *below = lines
    document = ["before: a", f"{indent}key: {first}", *below, END_OF_TEXT]
    return reader(document, 2, first, indent)


def exact(shape: Shape, *lines: str, indent: str = "") -> Any:
    """Return the value that the exact reader reads."""
    parents = [f"{indent[:depth]}k{depth}:" for depth in range(len(indent))]
    text = "\n".join([*parents, f"{indent}key: {lines[0]}", *lines[1:]])
    node = compose(text, Limits(), "Case")
    for _ in range(len(indent) + 1):
        assert isinstance(node, Mapping)
        node = node.pairs[0][1]
    assert node is not None
    context = LoadContext("Case", Limits())
    value = shape.load(node, context, ())
    assert context.problems == []
    return value


def agreed(reader: ValueReader, shape: Shape, *lines: str, indent: str = "") -> Any:
    """Return the value of all lines, which both readers read alike; a further line is not read."""
    value, i = read(reader, *lines, f"{indent}{NEXT}", indent=indent)
    assert i == 1 + len(lines)
    assert exact(shape, *lines, f"{indent}{NEXT}", indent=indent) == value
    return value


def declines(reader: ValueReader, *lines: str, indent: str = "") -> None:
    with pytest.raises((Unsupported, ValueError)):
        read(reader, *lines, indent=indent)


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["abc"], "abc"), (["'a'"], "a"), (['"a"'], "a"), (['"a\\nb"'], "a\nb"), (['""'], ""),
        (["''"], ""), (["'it''s'"], "it's"), (["'a\"b'"], 'a"b'), (['"a\\"b"'], 'a"b'),
        (['"\\u0041"'], "A"), (['"ü"'], "ü"), (['"\\u00fc"'], "ü"), (['"\\x41"'], "A"),
        (['"\\xfc"'], "ü"), (['"\\U0001f600"'], "\U0001f600"), (['"\\\\u0041"'], "\\u0041"),
        (['"\\/\\\\\\b\\f\\n\\r\\t\\""'], '/\\\b\f\n\r\t"'), (['"\\x41\\n\\\\"'], "A\n\\"),
        (['"\\x41\\/\\ \\0\\a\\v\\e\\t\\r\\b\\f\\""'], 'A/ \0\a\v\x1b\t\r\b\f"'),
        (['"a\\ b"'], "a b"), (['"\\uD7FF\\ue000"'], "\ud7ff\ue000"),
        (['"\\U0010FFFF"'], "\U0010ffff"),
        # of several lines
        (['"a', ' b"'], "a b"), (['"a', "", ' b"'], "a\nb"), (['"a  ', "", "", '  b"'], "a\n\nb"),
        (['"a\\', ' b"'], "ab"), (['"a \\', '   b"'], "a b"), (['"a\\x41', ' b"'], "aA b"),
        (['"a\\x41 \t', "", ' b"'], "aA\nb"), (['"a\\x41\\', ' b"'], "aAb"), (['"', ' a"'], " a"),
        (['"a\\\\', ' b"'], "a\\ b"), (['"a\\\\', ' \\u0062"'], "a\\ b"),
        (['"a', ' "'], "a "), (['"a\\"', ' \\"b"'], 'a" "b'), (['"a', " b", ' c"'], "a b c"),
        (["'a", " b'"], "a b"), (["'a", "", "", " b'"], "a\n\nb"), (["'a''", " ''b'"], "a' 'b"),
        (["'a", " b", "", "  c'"], "a b\nc"), (["'", " '"], " "), (["'a\\", " b'"], "a\\ b"),
        # blocks
        (["|-", "  a"], "a"), (["|", "  a"], "a\n"), (["|-", " a", " b"], "a\nb"),
        (["|", "   a", "    b", "   c"], "a\n b\nc\n"), (["|-", "  a", "", "", "  b"], "a\n\n\nb"),
        (["|", "  a", ""], "a\n"), (["|-", "  a", "", ""], "a"), (["|-", "  'a: #"], "'a: #"),
    ],
)  # fmt: skip
def test_text_is_read_in_every_style(lines: list[str], value: str) -> None:
    shape = Text()
    assert agreed(fast_values._read_text, shape, *lines) == value
    below = [f"  {line}" if line else line for line in lines[1:]]
    assert agreed(fast_values._read_text, shape, lines[0], *below, indent="  ") == value
    if lines != ["abc"]:
        assert read(read_quoted_or_block, *lines, NEXT) == (value, 1 + len(lines))


@pytest.mark.parametrize(
    "lines",
    [
        ["~"], ["null"], [""], [">"], ["|+"], ["|2"], ["|  "], ["[a]"], ["{}"], ["&a b"], ["a: b"],
        # JSON has a pair of surrogates, YAML has none.
        ['"\\ud83d\\ude00"'], ['"\\ud800"'], ['"\\udfff"'], ['"\\x41\\ud800"'], ['"\\x41\\udfff"'],
        ['"\\U00110000"'], ['"\\x41\\q"'], ['"\\q"'], ['"\\x4"'], ['"\\u004"'], ['"\\x41\\"'],
        ['"a" b'], ['"a" b"'], ['"a'], ['"a"b"'], ["'a' b"], ["'a'b'"], ["'a"], ["'"], ['"'],
        ['"a', 'b"'], ['"a', " b"], ['"a', ' b" c'], ['"a', "", "", END_OF_TEXT],
        ["'a", "b'"], ["'a", " b' c"], ["'a", " b"], ["'a' b", " c'"],
        ['"a\\ ', ' b"'], ['"a\\', "", ' b"'], ['"a\\ \t', ' b"'], ['"\\x41\\ ', ' b"'],
        # blocks: an indentation that is not sure, no final line break, lines of spaces
        ["|"], ["|-", ""], ["|-", "a"], ["|-", "", "  a"], ["|-", "  a"], ["|-", "  \ta", NEXT],
        ["|-", "   ", "  a", NEXT], ["|-", "  a", "   ", "  b", NEXT], ["|-", "  a", "   ", NEXT],
        ["|-", "  a", "    ", "", NEXT],
    ],
)  # fmt: skip
def test_text_that_may_mean_something_else_is_declined(lines: list[str]) -> None:
    declines(fast_values._read_text, *lines)


@pytest.mark.parametrize(
    ("lines", "indent"),
    [
        (['"a', ' b"'], " "),
        (["'a", "  b'"], "  "),
        (["|-", "  a", f"  {NEXT}"], "  "),
        (["|-", " a", f"  {NEXT}"], "  "),
    ],
)
def test_continued_text_is_deeper_than_its_key(lines: list[str], indent: str) -> None:
    declines(fast_values._read_text, *lines, indent=indent)


def test_block_ends_at_the_first_line_that_is_less_deep() -> None:
    for after in (NEXT, " # c", "---", "..."):
        assert read(fast_values._read_text, "|-", "  a", "  b", after) == ("a\nb", 4)
    assert read(fast_values._read_text, "|", "  a", "", "", NEXT) == ("a\n", 5)


@pytest.mark.parametrize(
    ("text", "value"),
    [("a", "a"), ("1.5", "1.5"), ("'a'", "a"), ('"0x1f"', "0x1f"), ("''", ""), ('""', "")],
)
def test_word_is_read_without_its_quotes(text: str, value: str) -> None:
    assert unquote(text) == value


@pytest.mark.parametrize(
    "text",
    ["~", "null", "", "'", '"', "'a", '"a', "'a\"", "\"a'", "'it''s'", '"a"b"', '"\\x41"', "'\\'",
     "a: b", "[a]", "a #b", " a", "a "],
)  # fmt: skip
def test_word_that_may_mean_something_else_is_declined(text: str) -> None:
    with pytest.raises(Unsupported):
        unquote(text)


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: read_empty_list, List(Text())), (lambda: read_text_list, List(Text())),
        (lambda: scalar_list_reader(Float()), List(Float())),
        (lambda: integer_list_reader(List(DIGIT)), List(DIGIT)),
    ],
)  # fmt: skip
def test_empty_list_is_read_beside_or_below_its_key(
    make: Callable[[], ValueReader], shape: Shape
) -> None:
    reader = make()
    assert agreed(reader, shape, "[]") == ()
    assert agreed(reader, shape, "", " []") == ()
    assert agreed(reader, shape, "", "    []", indent="  ") == ()
    for below in ("[]", "[ ]", "[] # c", "- []", "  []", "   \t[]", "   X[]"):
        declines(reader, "", below, NEXT, indent="  ")
    declines(reader, "a", " []", NEXT)
    declines(reader, "[")


@pytest.mark.parametrize(
    ("line", "indent", "prefix"),
    [
        ("- a", "", "- "), ("  - a", "", "  - "), ("-   a", "", "-   "), ("  - a", "  ", "  - "),
        ("   - a", "  ", "   - "), ("- - a", "", "- "), ("- -", "", "- "),
    ],
)  # fmt: skip
def test_prefix_of_an_item(line: str, indent: str, prefix: str) -> None:
    assert item_prefix(line, indent) == prefix


@pytest.mark.parametrize(
    ("line", "indent"),
    [("a", ""), ("-a", ""), ("-", ""), ("- ", ""), ("-\ta", ""), (" - a", "  "), ("", ""),
     ("\t- a", "")],
)  # fmt: skip
def test_line_that_is_not_an_item_is_declined(line: str, indent: str) -> None:
    with pytest.raises(Unsupported):
        item_prefix(line, indent)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["- a"], ("a",)), (["- a", "- 'b'"], ("a", "b")), (["  - a", '  - "b"'], ("a", "b")),
        (["-   a", "-   b"], ("a", "b")), (["- 'a", "  b'", "- c"], ("a b", "c")),
        (["- |", "  a", "- b"], ("a\n", "b")), (["  - |-", "    a", "  - b"], ("a", "b")),
        (["- 'a", " b'"], ("a b",)), (["  - 'a", "   b'"], ("a b",)),
    ],
)  # fmt: skip
def test_list_of_texts_is_read(lines: list[str], value: Any) -> None:
    assert agreed(read_text_list, List(Text()), "", *lines) == value
    deep = [f"  {line}" for line in lines]
    assert agreed(read_text_list, List(Text()), "", *deep, indent="  ") == value


@pytest.mark.parametrize(
    "lines",
    [["a", "- b"], ["", "- ~"], ["", "a"], ["", "- 'a", "b'"], ["", "  - 'a", "  b'"],
     ["", "- |", " a"], ["[a]"]],
)  # fmt: skip
def test_other_list_of_texts_is_declined(lines: list[str]) -> None:
    declines(read_text_list, *lines)


def test_list_ends_at_the_first_other_line() -> None:
    assert read(read_text_list, "", "  - a", "- b") == (("a",), 3)
    assert read(scalar_list_reader(Float()), "", "  - 1", "- 2") == ((1.0,), 3)
    assert read(integer_list_reader(List(DIGIT)), "", "  - 1", "- 2") == ((1,), 3)


@pytest.mark.parametrize(
    ("lines", "value"),
    [(["- 1", "- 2.5"], (1.0, 2.5)), (["  - '1'", '  - "2"'], (1.0, 2.0)), (["-  3"], (3.0,))],
)
def test_list_of_numbers_is_read(lines: list[str], value: Any) -> None:
    assert agreed(scalar_list_reader(Float()), List(Float()), "", *lines) == value


@pytest.mark.parametrize("lines", [["", "- a"], ["", "- 1", "- ~"], ["1", "- 1"], ["", "1"]])
def test_other_list_of_numbers_is_declined(lines: list[str]) -> None:
    declines(scalar_list_reader(Float()), *lines, NEXT)
    declines(scalar_list_reader(Bool()), *lines, NEXT)


# --- integers -------------------------------------------------------------------------------------

INTEGERS = List(Int(0, 2**32 - 1))
LISTS = List(List(Int(0, 2**32 - 1)))


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["[1]"], (1,)), (["[1, 2,3]"], (1, 2, 3)), (["[ 1 ]"], (1,)), (["[1,", " 2]"], (1, 2)),
        (["[", "  1, 2,", "  3", "  ]"], (1, 2, 3)), (["[1", " , 2]"], (1, 2)),
        (["", "- 1", "- 20"], (1, 20)), (["", "  - 0"], (0,)), (["", "-   7", "-   8"], (7, 8)),
        (["", "- 4294967295"], (4294967295,)),
    ],
)  # fmt: skip
def test_list_of_integers_is_read(lines: list[str], value: Any) -> None:
    assert agreed(integer_list_reader(INTEGERS), INTEGERS, *lines) == value
    deep = [f"  {line}" for line in lines[1:]]
    assert agreed(integer_list_reader(INTEGERS), INTEGERS, lines[0], *deep, indent="  ") == value


@pytest.mark.parametrize(
    "lines",
    [
        ["[-1]"], ["[-0]"], ["[1,\t2]"], ["[a]"], ["['1']"], ["[1]]"], ["[[1]]"], ["1"], ["[1"],
        ["[4294967296]"], ["[1,", "2]"], ["[1,", " a]"], ["[1,", " 2", NEXT], ["[1,]"], ["[1.0]"],
        ["[1] # c"], ["[1,", " 2] # c"], ["[1,", " -2]"], ["[1, # c", " 2]"], ["[1,", "", " 2]"],
        ["", "- a"], ["", "- 01"], ["", "- -1"], ["", "- +1"], ["", "- 1", "- ~"], ["", "- 1_0"],
        ["", "- ٣"], ["", "- '1'"], ["", "1"], ["", "- 123456789012345678901"],
        ["", "- [1]"], ["", "- 1 # c"],
    ],
)  # fmt: skip
def test_other_list_of_integers_is_declined(lines: list[str]) -> None:
    declines(integer_list_reader(INTEGERS), *lines, NEXT)


def test_twenty_digits_are_read() -> None:
    reader = integer_list_reader(INTEGERS)
    assert read(reader, "", "- 99999999999999999999") == ((10**20 - 1,), 3)


def test_continued_list_of_integers_is_deeper_than_its_key() -> None:
    reader = integer_list_reader(INTEGERS)
    declines(reader, "[1,", "  2]", NEXT, indent="  ")
    assert read(reader, "[1,", "   2]", indent="  ") == ((1, 2), 3)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["[[1]]"], ((1,),)), (["[[1, 2], [], [3]]"], ((1, 2), (), (3,))), (["[]"], ()),
        (["[[1],", " [2]]"], ((1,), (2,))), (["[", " [1, 2],", " [3]", " ]"], ((1, 2), (3,))),
        (["[ [1] ]"], ((1,),)), (["[[1,", "  2]]"], ((1, 2),)),
        (["", "- [1, 2]", "- []"], ((1, 2), ())), (["", "  - [1]", "  - [2]"], ((1,), (2,))),
        (["", "- [1,", "  2]", "- [3]"], ((1, 2), (3,))), (["", "- [1,", " 2]"], ((1, 2),)),
        (["", "- - 1", "  - 2", "- - 3"], ((1, 2), (3,))), (["", "-   - 1", "    - 2"], ((1, 2),)),
        (["", "- [1]", "- - 2"], ((1,), (2,))), (["", "  - -  1", "    -  2"], ((1, 2),)),
        (["", "- - 1", "- [2]"], ((1,), (2,))),
    ],
)  # fmt: skip
def test_list_of_lists_of_integers_is_read(lines: list[str], value: Any) -> None:
    reader = integer_lists_reader(LISTS, INTEGERS)
    assert agreed(reader, LISTS, *lines) == value
    deep = [f"  {line}" for line in lines[1:]]
    assert agreed(reader, LISTS, lines[0], *deep, indent="  ") == value


@pytest.mark.parametrize(
    "lines",
    [
        ["[1]"], ["[[-1]]"], ["[[1]"], ["[[1]]]"], ["[[1],", "[2]]"], ["[[1]] # c"], ["a"],
        ["[[4294967296]]"], ["[[1],", " -]"], ["", "- [4294967296]"], ["", "- [-1]"], ["", "- [1"],
        ["", "- [1,", "2]"], ["", "- a"], ["", "- 1"], ["", "- - a"], ["", "- - 1", "  - a"],
        ["", "[]"], ["", " []"], ["", "-  - 1", "-  -  - 2"], ["", "- [[1]]"],
        ["", "- - - 1"], ["", "- -"],
    ],
)  # fmt: skip
def test_other_list_of_lists_of_integers_is_declined(lines: list[str]) -> None:
    declines(integer_lists_reader(LISTS, INTEGERS), *lines, NEXT)


@pytest.mark.parametrize(
    ("make", "shape", "text"),
    [
        (integer_list_reader, List(DIGIT), "[{}]"),
        (lambda shape: integer_lists_reader(shape, shape.item), List(List(DIGIT)), "[[{}]]"),
    ],
)
def test_list_in_flow_style_is_remembered_as_valid(make: Any, shape: List, text: str) -> None:
    reader = make(shape)
    value, _ = read(reader, text.format("1, 2"))
    assert shape.accepted is value
    frame = len(text) - 2
    most = fast_values._MAX_REMEMBERED - 1
    for size, remembered in ((most, True), (most + 1, False)):
        shape.accepted = INVALID
        value, _ = read(reader, text.format("1" + " " * (size - frame - 1)))
        assert (shape.accepted is value) is remembered
    shape.accepted = INVALID
    declines(reader, text.format("10"))
    assert shape.accepted is INVALID


# --- free mappings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["  a: b"], {"a": "b"}), ([" a: b", " c d: 'e'"], {"a": "b", "c d": "e"}),
        ([" a: 'b: c'"], {"a": "b: c"}),
        ([" a: 'b", "  c'", " d: |", "  e"], {"a": "b c", "d": "e\n"}),
        ([" _a.b/c-: d"], {"_a.b/c-": "d"}),
    ],
)  # fmt: skip
def test_mapping_with_free_keys_is_read(lines: list[str], value: Any) -> None:
    assert agreed(free_mapping_reader(Text()), Map(Text()), "", *lines) == value
    deep = [f"  {line}" for line in lines]
    assert agreed(free_mapping_reader(Text()), Map(Text()), "", *deep, indent="  ") == value


def test_mapping_of_numbers_is_read() -> None:
    reader = free_mapping_reader(Float())
    assert agreed(reader, Map(Float()), "", "  a: 1", "  b: '2.5'") == {"a": 1.0, "b": 2.5}
    declines(reader, "", " a: b", NEXT)
    declines(reader, "", " a: ~", NEXT)


def test_mapping_ends_at_the_first_line_that_is_less_deep() -> None:
    assert read(free_mapping_reader(Text()), "", "  a: b", NEXT) == ({"a": "b"}, 3)
    assert read(free_mapping_reader(Text()), "", "  a: b", " c: d") == ({"a": "b"}, 3)


@pytest.mark.parametrize(
    ("lines", "indent"),
    [
        (["{}"], ""), (["a", " b: c"], ""), (["", "a: b"], ""), (["", "  a: b"], "  "),
        (["", " a"], ""), (["", " a: b", " c"], ""), (["", " a: b", "  c: d"], ""),
        (["", " a: b", " a: c"], ""), (["", " ~: b"], ""), (["", " a: b", " null: c"], ""),
        (["", " null: c"], ""), (["", " 'a': b"], ""), (["", " a: b", ' "c": d'], ""),
        (["", " a: ~"], ""), (["", " a: [b]"], ""), (["", " a :b"], ""), (["", " a:"], ""),
        (["", " a: b", " c:"], ""), (["", ""], ""), (["", " - a: b"], ""),
    ],
)  # fmt: skip
def test_other_mapping_with_free_keys_is_declined(lines: list[str], indent: str) -> None:
    declines(free_mapping_reader(Text()), *lines, f"{indent}{NEXT}", indent=indent)


def test_long_key_is_declined() -> None:
    most = fast_values._MAX_KEY
    reader = free_mapping_reader(Text())
    assert agreed(reader, Map(Text()), "", f" {'k' * (most - 1)}: a")
    declines(reader, "", f" {'k' * most}: a", NEXT)


# --- others ---------------------------------------------------------------------------------------


def test_value_is_converted() -> None:
    reader = converting_reader(free_mapping_reader(Text()), lambda value: [*value])
    assert read(reader, "", "  a: b", "  c: d", NEXT) == (["a", "c"], 4)
    assert read(reader, "", "   a: b", f"  {NEXT}", indent="  ") == (["a"], 3)
    declines(reader, "", "  a: b", f"  {NEXT}", indent="  ")
    declines(reader, "c", "  a: b", NEXT)


def test_value_that_only_the_exact_reader_supports_is_declined() -> None:
    declines(read_unsupported, "a")
