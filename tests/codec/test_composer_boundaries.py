"""The composer by itself: nodes and their places, limits, documents, and every error of syntax."""

import re
from typing import Any

import pytest
import yaml

from fastlib.codec import composer
from fastlib.codec.composer import compose, compose_all
from fastlib.codec.errors import LimitError, MessageError, ParseError
from fastlib.codec.limits import Limits
from fastlib.codec.load_context import is_null
from fastlib.codec.nodes import Mapping, Node, Scalar, Sequence
from fastlib.codec.syntax_problems import parse_problem

NO_LIMITS = Limits(max_depth=10_000)


@pytest.fixture(params=["c", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Use each parser of PyYAML."""
    if request.param == "c" and not composer.HAS_C_PARSER:
        pytest.skip("PyYAML was built without its C extension")
    monkeypatch.setattr(composer, "HAS_C_PARSER", request.param == "c")
    return str(request.param)


both_parsers = pytest.mark.usefixtures("parser")


def shown(node: Node | None) -> Any:
    """Return a node as a tuple: its line, its column and its contents. A plain text is a text."""
    if node is None:
        return None
    if isinstance(node, Scalar):
        value = node.value if node.plain else (node.value,)
        return node.line, node.column, value
    if isinstance(node, Sequence):
        return node.line, node.column, [shown(item) for item in node.items]
    assert isinstance(node, Mapping)
    return node.line, node.column, {shown(key): shown(item) for key, item in node.pairs}


def values(node: Node | None) -> Any:
    """Return a node as lists, texts and lists of pairs."""
    if node is None or isinstance(node, Scalar):
        return node and node.value
    if isinstance(node, Sequence):
        return [values(item) for item in node.items]
    assert isinstance(node, Mapping)
    return [(values(key), values(item)) for key, item in node.pairs]


def read(text: str, **limits: int) -> Any:
    return values(compose(text, Limits(**limits), "Case"))


def refused(text: str, **limits: int) -> tuple[type[MessageError], str, Any, Any, str]:
    """Return the class and the one problem of an error in any document."""
    with pytest.raises(MessageError) as caught:
        list(compose_all(text, Limits(**limits), "Case"))
    (problem,) = caught.value.problems
    assert caught.value.what == "Case"
    assert (problem.path, problem.severity) == ("", "error")
    return type(caught.value), problem.code, problem.line, problem.column, problem.message


def syntax(text: str) -> tuple[Any, ...]:
    kind, code, *rest = refused(text)
    assert (kind, code) == (ParseError, "syntax")
    return tuple(rest)


# --- nodes ----------------------------------------------------------------------------------------


@both_parsers
def test_nodes_have_their_contents_and_places() -> None:
    text = "a: [b, 'c', [], {}]\n? d\n: {e: f}\ng:\n- h\n-   i: j\n    k: ~\n- \"l\"\n"
    assert shown(compose(text, Limits(), "Case")) == (1, 1, {
        (1, 1, "a"): (1, 4, [(1, 5, "b"), (1, 8, ("c",)), (1, 13, []), (1, 17, {})]),
        (2, 3, "d"): (3, 3, {(3, 4, "e"): (3, 7, "f")}),
        (4, 1, "g"): (5, 1, [
            (5, 3, "h"),
            (6, 5, {(6, 5, "i"): (6, 8, "j"), (7, 5, "k"): (7, 8, "~")}),
            (8, 3, ("l",)),
        ]),
    })  # fmt: skip


@both_parsers
@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a", True), ("'a'", False), ('"a"', False), ("|\n a", False), (">\n a", False),
        ("!!null a", True), ("!!str a", False), ("!x a", False), ("! a", False), ("&x a", True),
        ("!!null 'a'", False),
    ],
)  # fmt: skip
def test_scalar_is_plain_without_quotes_and_tag(text: str, plain: bool) -> None:
    node = compose(text, Limits(), "Case")
    assert isinstance(node, Scalar)
    assert node.plain is plain
    assert node.value.strip() == "a"


@both_parsers
@pytest.mark.parametrize(
    ("text", "null"),
    [
        ("!!null '~'", True), ('!!null "null"', True), ("!!null ''", False), ("!!null", True),
        ("'~'", False), ("!!str ~", False), ("!!str '~'", False),
    ],
)  # fmt: skip
def test_tag_of_null_makes_a_word_in_quotes_null(text: str, null: bool) -> None:
    node = compose(f"- {text}", Limits(), "Case")
    assert isinstance(node, Sequence)
    assert is_null(node.items[0]) is null


@both_parsers
def test_alias_is_the_node_of_its_anchor() -> None:
    root = compose("[&a {b: &c d}, *a, *c, &c e, *c, &l [f], *l]", Limits(), "Case")
    assert isinstance(root, Sequence)
    first, second, third, fourth, fifth, sixth, seventh = root.items
    assert first is second
    assert fourth is fifth
    assert sixth is seventh
    assert isinstance(first, Mapping)
    assert first.pairs[0][1] is third
    assert values(root) == [[("b", "d")], [("b", "d")], "d", "e", "e", ["f"], ["f"]]
    # An alias is not open: what follows belongs to the list around it.
    assert read("[&a [b], *a, c]") == [["b"], ["b"], "c"]
    assert read("{x: &a {b: c}, y: *a, z: d}") == [
        ("x", [("b", "c")]), ("y", [("b", "c")]), ("z", "d"),
    ]  # fmt: skip


@both_parsers
@pytest.mark.parametrize(
    ("text", "place", "name"),
    [("*a", (1, 1), "a"), ("a:\n  *bc", (2, 3), "bc"), ("&a b\n---\n- *a", (3, 3), "a")],
)
def test_alias_without_an_anchor_is_reported(text: str, place: tuple[int, int], name: str) -> None:
    message = f"there is no anchor &{name} before this alias"
    assert refused(text) == (ParseError, "alias", *place, message)


# --- documents ------------------------------------------------------------------------------------


@both_parsers
@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("", []), ("# nothing", []), ("---", [None]), ("--- a", ["a"]), ("a", ["a"]),
        ("a\n---\nb", ["a", "b"]), ("a\n...\n---\n...\n", ["a", None]), ("--- ''", [""]),
        ("--- |\n", [""]), ("[]\n---\n{}", [[], []]), ("- \n- a", [["", "a"]]),
        ("a:", [[("a", "")]]),
        ("&a", [None]), ("!!str", [""]), ("[a]\n---\n", [["a"], None]),
    ],
)  # fmt: skip
def test_each_document_has_a_root(text: str, documents: list[Any]) -> None:
    assert [values(node) for node in compose_all(text, Limits(), "Case")] == documents
    assert values(compose(text, Limits(), "Case")) == (documents or [None])[0]


@both_parsers
def test_error_after_a_document_is_of_the_next_only_after_an_explicit_end() -> None:
    assert read("a: b\n...\nc: [") == [("a", "b")]
    assert read("a: b\n---\nc: [") == [("a", "b")]
    found = compose_all("a: b\n...\nc: [", Limits(), "Case")
    assert values(next(found)) == [("a", "b")]
    with pytest.raises(ParseError):
        next(found)
    for text in ("{a: b} c", "a: b\n--- [\n--- ]"):
        documents = compose_all(text, Limits(), "Case")
        if text[0] == "{":
            with pytest.raises(ParseError):
                next(documents)


@both_parsers
def test_each_document_begins_anew() -> None:
    """Its nodes are counted from 0; what was open in another is forgotten."""
    assert [values(n) for n in compose_all("[a, b]\n--- [c, d]", Limits(max_nodes=3), "W")] == [
        ["a", "b"],
        ["c", "d"],
    ]
    assert syntax("[a, [b]]\n--- {c: d}\n---\ne: [f\n") == (4, 4, "this '[' is never closed")


# --- limits ---------------------------------------------------------------------------------------


@both_parsers
@pytest.mark.parametrize(
    ("text", "limit", "size", "problem"),
    [
        ("[a, [b, [c]]]", "max_depth", 3, (1, 9, "nested deeper than 2 levels")),
        ("a:\n  b:\n    c: d", "max_depth", 3, (3, 5, "nested deeper than 2 levels")),
        ("a:\n- b", "max_nodes", 4,
         (2, 3, "more than 3 nodes, the limit of Limits.max_nodes")),
        ("[&a b, *a]", "max_nodes", 3,
         (1, 8, "more than 2 nodes, the limit of Limits.max_nodes")),
        ("[a, []]", "max_nodes", 3, (1, 5, "more than 2 nodes, the limit of Limits.max_nodes")),
        ("a: 'bcd'", "max_scalar", 3, (1, 4, "more than 2 characters")),
    ],
)  # fmt: skip
def test_text_may_be_as_large_as_its_limit(
    text: str, limit: str, size: int, problem: tuple[Any, ...]
) -> None:
    assert read(text, **{limit: size})
    code = limit.replace("max_", "limit-")
    assert refused(text, **{limit: size - 1}) == (LimitError, code, *problem)


@pytest.mark.skipif(not composer.HAS_C_PARSER, reason="PyYAML has no C extension here")
def test_depth_of_libyaml_is_a_limit() -> None:
    from yaml import _yaml

    version = _yaml.get_version()
    depth = 1000
    assert compose("[" * depth + "]" * depth, NO_LIMITS, "Case") is not None
    deep = "[" * (depth + 1) + "]" * (depth + 1)
    if version < (0, 2, 6):
        assert compose(deep, NO_LIMITS, "Case") is not None
        return
    with pytest.raises(LimitError) as caught:
        compose(deep, NO_LIMITS, "Case")
    (problem,) = caught.value.problems
    assert caught.value.what == "Case"
    assert (problem.code, problem.line, problem.column, problem.message) == (
        "limit-depth", 1, depth + 1, "nested deeper than 1000 levels",
    )  # fmt: skip


@pytest.mark.parametrize(("depth", "words"), [(10_000, 1000), (1000, 1000), (999, 999)])
def test_smaller_limit_of_depth_is_named(depth: int, words: int) -> None:
    made = composer.Composer("Case", "a", Limits(max_depth=depth))
    mark = yaml.Mark("x", 0, 4, 6, None, None)  # type: ignore[no-untyped-call]
    error = yaml.MarkedYAMLError(problem="exceeded maximum nesting depth", problem_mark=mark)
    with pytest.raises(LimitError) as caught:
        made.too_deep(error)
    (problem,) = caught.value.problems
    assert caught.value.what == "Case"
    assert (problem.code, problem.line, problem.column) == ("limit-depth", 5, 7)
    assert problem.message == f"nested deeper than {words} levels"


# --- characters -----------------------------------------------------------------------------------

SPECIAL = "\x01\x08\x0b\x0c\x0e\x1f\x7f\x80\x85\x9f\u2028\u2029\ufeff\ufffe\uffff"


@both_parsers
@pytest.mark.parametrize("char", SPECIAL + "\ue000\uf8ff\U000f0000\U0010fffd")
def test_each_character_is_kept_in_every_kind_of_scalar(char: str) -> None:
    assert read(f"a{char}b") == f"a{char}b"
    assert read(f"'a{char}b'") == f"a{char}b"
    assert read(f"- |\n  a{char}\n  b\n- c{char}c") == [f"a{char}\nb\n", f"c{char}c"]


@both_parsers
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a\rb'", "a\rb"), ("- a\r\n- b\r\n", ["a", "b"]), ("'a\r\r\nb'", "a\r b"),
        ("[a\x07, '\r', \u2028]", ["a\x07", "\r", "\u2028"]),
        ("|\n  a\rb\x01\n", "a\rb\x01\n"),
    ],
)  # fmt: skip
def test_carriage_return_ends_a_line_only_before_a_line_feed(text: str, value: Any) -> None:
    assert read(text) == value


@both_parsers
@pytest.mark.parametrize(
    "escape", [r"\ue000", r"\uE000", r"\U0000e000", r"\ue001\ue000", r"\\\ue000"]
)
def test_escapes_and_special_characters_are_not_confused(escape: str) -> None:
    value = read(f'"{escape}\x07\r"')
    plain = escape.replace("\\\\", "\\").replace(r"\U0000", r"\u")
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), plain)
    assert value == f"{plain}\x07\r"


def test_placeholders_are_the_first_unused_characters() -> None:
    made = composer._SpecialCharacters('\ue000\x07\x01 "\\ue001\\U0000E003\\UFFFFFFFF"\r\x07\r\n')
    # \x01, \x07 and \r, in this order
    assert made.text == ('\ue000\ue004\ue002 "\\ue001\\U0000E003\\UFFFFFFFF"\ue005\ue004\r\n')
    assert made.restore(made.text) == '\ue000\x07\x01 "\\ue001\\U0000E003\\UFFFFFFFF"\r\x07\r\n'
    assert composer._SpecialCharacters("a\r\nb").text == "a\r\nb"
    assert composer._used_characters(r"a\u0062\U0010ffff\U00110000") >= {"a", "b", "\U0010ffff"}


PRIVATE = "".join(chr(code) for each in composer._PRIVATE_USE for code in each)


def test_special_characters_stay_where_there_is_no_unused_one() -> None:
    assert len(PRIVATE) == 6400 + 2 * 65534
    for free, text in (("", "\x01\r"), (PRIVATE[-1], PRIVATE[-1] + "\r")):
        used = PRIVATE.removesuffix(free)
        made = composer._SpecialCharacters(f"{used}\x01\r")
        assert made.text == used + text
        assert made.restore(made.text) == f"{used}\x01\r"
    made = composer._SpecialCharacters(PRIVATE + "\r")
    assert made.text == PRIVATE + "\r"
    assert made.restore("a\ue000") == "a\ue000"


@both_parsers
def test_character_that_the_parser_refuses_is_reported_where_no_placeholder_is_left() -> None:
    kind, code, line, column, message = refused(PRIVATE + "\x01")
    assert (kind, code, line, column) == (ParseError, "syntax", None, None)
    assert re.fullmatch(
        "unacceptable character #x0001: (control|special) characters are not allowed", message
    )


def test_messages_have_the_characters_of_the_text() -> None:
    made = composer._SpecialCharacters("\x07\r")
    assert made.restore_words("found '\\ue000' and '\ue000'") == "found '\\x07' and '\x07'"
    assert made.restore_words("found '\\ue001' and '\ue001'") == "found '\\r' and '\r'"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b\0", (1, 5, "a NUL byte is not allowed as a character of a message")),
        ("a: b\nc\ud800\0", (2, 2, "a lone surrogate is not allowed as a character of a message")),
        ("\udfff", (1, 1, "a lone surrogate is not allowed as a character of a message")),
    ],
)
def test_characters_that_no_message_has_are_refused(text: str, problem: tuple[Any, ...]) -> None:
    assert refused(text) == (ParseError, "encoding", *problem)


@both_parsers
def test_byte_order_mark_does_not_hide_the_end() -> None:
    assert read("a: b\n---\ufeff") == [("a", "b")]
    assert read("a: b\n---\ufeff\n[") == [("a", "b")]
    assert read("a: [b]\n...\ufeff}") == [("a", ["b"])]
    # Where the first document can be read, it is a character of the text.
    assert read("a: '\n---\ufeff x'") == [("a", " ---\ufeff x")]
    assert read("a: b\n...\ufeffc: d") == [("a", "b"), ("...\ufeffc", "d")]
    assert read("a: |\n  ---\ufeff\n") == [("a", "---\ufeff\n")]
    for text in ("a: [b\n---\ufeffc", "a: [b\n --- \ufeffc"):
        with pytest.raises(ParseError) as caught:
            list(compose_all(text, Limits(), "Other"))
        assert caught.value.what == "Other"


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("a: [b\n---\ufeffc\n...\ufeff", "a: [b\n--- c\n... "),
        ("a: [b\n --\ufeffc", None), ("a: b\n---\ufeff: c", None), ("a: [\n ---\ufeffc", None),
        ("a: [\ufeff", None), ("a: [", None),
    ],
)  # fmt: skip
def test_byte_order_mark_after_an_end_is_replaced(text: str, visible: str | None) -> None:
    assert composer._with_visible_end(text, Limits(), "Case") == (visible or text)


# --- directives -----------------------------------------------------------------------------------


@both_parsers
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("%FOO bar\n---\na", "a"), ("%YAML 1.0\n---\na", "a"), ("%YAML 1.15\n---\na", "a"),
        ("%YAML 1.1\r\n---\r\na\r\n", "a"),
        ("%TAG !x! tag:y,2000:\n--- !x!z a", "a"), ("# b\n%FOO\n---\na", "a"),
        ("%YAMLX 1\n--- a", "a"), ("%TAGS\n--- a", "a"), ("%\n--- a", "a"),
        ("--- |\n %a\n", "%a\n"), ("--- 'a\n\n %b'\n", "a\n%b"),
        ("--- |1\n a\n %FOO\n", "a\n%FOO\n"),
    ],
)  # fmt: skip
def test_unknown_directives_are_ignored(text: str, value: str) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a: %b", None), ("%FOO\n--- a\n%FOO\n", "#FOO\n--- a\n%FOO\n"),
        ("--- a\n...\n%FOO\n--- b", "--- a\n...\n#FOO\n--- b"),
        ("--- a\n... # c\n%FOO\n--- b", "--- a\n... # c\n#FOO\n--- b"),
        ("--- a\n...\t\n\n \t\r\n # d\n%FOO\n", "--- a\n...\t\n\n \t\r\n # d\n#FOO\n"),

        ("--- a\n...\n\xa0\n%FOO\n", None), ("--- a\n...\nX\n%FOO\n", None),
        ("--- a\n...\n\xa0#\n%FOO\n", None), ("--- a\n...\nX#\n%FOO\n", None),
        ("--- a\n...b\n%FOO\n", None), ("--- a\n ...\n%FOO\n", None), ("a\n%FOO\n", None),
        ("%YAML 1.123 x\n", "%YAML 1.2   x\n"), ("%YAML 1.2\n", None), ("%YAML 1.3x\n", None),
        ("%YAML 2.0\n", None), ("%YAML 1.3\r\n%TAG a\n%TAGa\n%YAML\n",
                                "%YAML 1.2\r\n%TAG a\n#TAGa\n%YAML\n"),
        ("%YAML 1.3", "%YAML 1.2"), ("%YAML 1.3\t", "%YAML 1.2\t"),
        ("%YAML  \t1.3", "%YAML  \t1.2"), ("%YAML 0.1", "%YAML 1.2"), ("%YAML 10.1", None),
        ("%YAML 00.12 x", "%YAML 01.2  x"), ("%YAML 001.3", "%YAML 001.2"), ("%YAML .3", None),
        ("\n%FOO", "\n#FOO"), (" %FOO\n%BAR", None), ("%FOO %BAR", "#FOO %BAR"),
    ],
)  # fmt: skip
def test_directives_are_rewritten_only_before_a_document(text: str, same: str | None) -> None:
    assert composer._with_known_directives(text) == (text if same is None else same)


# --- errors of syntax -----------------------------------------------------------------------------

YAML_VERSION = (
    "the version after '%YAML' must be 1, and the line must be before a document; remove it"
)
COLON = "a ':' is not allowed here; quote the text that contains it"
KEY = "expected a key here; is the indentation right, a quote missing?"
ITEM = "expected '- ' here; is the indentation right?"
END = "expected the end of the document, or '---'"
PLAIN = "this character cannot begin a plain text; quote it"
TAB = "an indentation must not contain a tab; use spaces"
QUOTE = "this quote is never closed"
LIST, MAPPING = "this '[' is never closed", "this '{' is never closed"
DIRECTIVE = (
    "a directive is not allowed within a document; write '...' in the line above it, or quote the "
    "text that begins with '%'"
)
IN_MAPPING = "(while parsing a block mapping, which began in line 1)"


@both_parsers
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b: c", (1, 5, COLON)), ("a: b\n c: d", (2, 3, COLON)), ("a b\nc: d\n", (2, 2, COLON)),
        ("a: b\nc d\ne: f", (3, 1, "there is no ':' after this key (while scanning a simple key, "
                             "which began in line 2)")),
        ("a:\n  - b\n c", (3, 2, f"{KEY} {IN_MAPPING}")),
        ("a: b\n- c", (2, 1, f"{KEY} {IN_MAPPING}")),
        ("a: '7' x", (1, 8, KEY)), ("{a: b} x", (1, 8, END)), ("a: b\n...\nx", (3, 1, END)),
        ("&a *b", (1, 4, END)), ("%TAG ! a\n", (2, 1, END)),
        ("a: @x", (1, 4, PLAIN)), ("a: `x", (1, 4, PLAIN)), ("a: %x", (1, 4, PLAIN)),
        ("\ta: b", (1, 1, TAB)), ("a:\n\tb: c", (2, 1, TAB)), ("a: |\n  b\n\tc: d", (3, 1, TAB)),
        ("a: 'b\n\n", (1, 4, QUOTE)), ("'\x07", (1, 1, QUOTE)), ('a: "b\n\n"" c', (3, 2, QUOTE)),
        ("a: [b\n\n", (1, 4, LIST)), ("a: {b\n\n", (1, 4, MAPPING)),
        ("a: {b: c\n\nd", (1, 4, MAPPING)),
        ("[a, {b: c\n", (1, 5, MAPPING)), ("[a, [b], {c: d}, [e\n", (1, 18, LIST)),
        ("[a, [b], {c: d}, e\n", (1, 1, LIST)),
        ("{a: b, c\n", (1, 1, MAPPING)), ("a: b\n---\n[", (3, 1, LIST)),
        # The pair in a list is a mapping without a bracket.
        ("[a b: c d\n, e: ", (1, 1, LIST)), ("[x, {y: [z, e: ", (1, 9, LIST)),
        ("[&a !b {c: ", (1, 2, MAPPING)), ("[&a\t!!map {c: ", (1, 2, MAPPING)),
        ("a: [\u2028, b: @", (1, 11, PLAIN)),
        ("a: 'b' 'c'\n", (1, 8, KEY)),
        ("[a\n]]", (2, 2, END)),
        ("{a: b}\n%FOO\n", (2, 1, DIRECTIVE)), ("a: b\n%FOO\n---\nc", (2, 1, DIRECTIVE)),
        ("a: |\n%\n", (2, 1, DIRECTIVE)), ("{a: b,\n%c: d}", (2, 1, DIRECTIVE)),
        ("--- a\n...\n%b\n--- 'c'\n%YAMLX: d\n", (5, 1, DIRECTIVE)),
        ("a: b\n%YAML 1.2\n", (3, 1, END)), ("a: b\n%YAML 2.0\n---\nc", (2, 1, YAML_VERSION)),
        ("%YAML 2.0\n---\na: b", (1, 1, YAML_VERSION)),
    ],
)  # fmt: skip
def test_error_of_syntax_is_explained_at_its_place(text: str, problem: tuple[Any, ...]) -> None:
    assert syntax(text) == problem


@pytest.mark.parametrize(
    ("text", "by_c", "by_python"),
    [
        ('a: "\\q"', (1, 5, "this escape is not one of YAML's; write the backslash twice"),
         (1, 6, "this escape is not one of YAML's; write the backslash twice")),
        ('a: "\\U00110000"',
         (1, 7, "this escape is not a valid character; write the character itself"),
         (1, 7, "an escape must be a valid character")),
        ('a:\n  "\\UFFFFFFFF"',
         (2, 6, "this escape is not a valid character; write the character itself"),
         (2, 6, "an escape must be a valid character")),
        ("- a\nb: c",
         (2, 1, f"{ITEM} (while parsing a block collection, which began in line 1)"),
         (2, 1, f"{KEY} (while parsing a block collection, which began in line 1)")),
        ("- [a]]", (1, 6, ITEM), (1, 6, KEY)),
        ("a: !x!y z", (1, 4, "found undefined tag handle"),
         (1, 4, "found undefined tag handle '!x!'")),
        ("a: >\x01", (1, 5, "did not find expected comment or line break"),
         (1, 5, "expected chomping or indentation indicators, but found '\\x01'")),
        ("a: 'b\n...\n",
         (2, 1, "found unexpected document indicator "
          "(while scanning a quoted scalar, which began in line 1)"),
         (2, 1, "found unexpected document separator "
          "(while scanning a quoted scalar, which began in line 1)")),
    ],
)  # fmt: skip
def test_words_of_each_parser(
    parser: str, text: str, by_c: tuple[Any, ...], by_python: tuple[Any, ...]
) -> None:
    assert syntax(text) == (by_c if parser == "c" else by_python)


@both_parsers
def test_errors_of_the_parser_are_not_shown_as_the_cause() -> None:
    for text in ("[", '"\\U00110000"', "a: b: c"):
        with pytest.raises(ParseError) as caught:
            compose(text, Limits(), "Case")
        assert caught.value.what == "Case"
        assert caught.value.__suppress_context__


def test_parser_is_that_of_c_if_there_is_one(parser: str) -> None:
    made = composer._make_parser("a")
    assert isinstance(made, composer._PythonParser) is (parser == "python")


def mark(line: int, column: int) -> Any:
    return yaml.Mark("x", 0, line, column, None, None)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("error", "line", "column", "message"),
    [
        (yaml.YAMLError("a\nb"), None, None, "a"),
        (yaml.MarkedYAMLError(), None, None, "this is not YAML"),
        (yaml.MarkedYAMLError(context="c"), None, None, "c"),
        (yaml.MarkedYAMLError(context="c", problem="p"), None, None, "p"),
        (yaml.MarkedYAMLError(context="c", context_mark=mark(2, 3)), 3, 4, "c"),
        (yaml.MarkedYAMLError("c", mark(2, 3), "p", mark(4, 5)), 5, 6,
         "p (c, which began in line 3)"),
        (yaml.MarkedYAMLError("c", mark(4, 3), "p", mark(4, 5)), 5, 6, "p"),
        (yaml.MarkedYAMLError(None, mark(2, 3), "p", mark(4, 5)), 5, 6, "p"),
        (yaml.MarkedYAMLError("c", None, "p", mark(4, 5)), 5, 6, "p"),
        (yaml.MarkedYAMLError("c", mark(4, 3), "p"), 5, 4, "p"),
        (yaml.MarkedYAMLError(problem="found character '\\t' that"), None, None, PLAIN),
        (yaml.MarkedYAMLError(problem="it found character '\\t'"), None, None,
         "it found character '\\t'"),
    ],
)  # fmt: skip
def test_problem_of_the_parser_has_its_place(
    error: yaml.YAMLError, line: int | None, column: int | None, message: str
) -> None:
    problem = parse_problem(error)
    assert (problem.code, problem.message) == ("syntax", message)
    assert (problem.line, problem.column) == (line, column)


@pytest.mark.parametrize(
    ("line", "column", "rest"),
    [(1, 1, "ab"), (1, 2, "b"), (1, 3, ""), (2, 1, "c"), (3, 1, ""), (4, 1, ""), (None, 1, ""),
     (1, None, ""), (9, 9, "")],
)  # fmt: skip
def test_rest_of_a_line(line: int | None, column: int | None, rest: str) -> None:
    made = composer.Composer("Case", "ab\nc\n", Limits())
    assert made.rest_of_line(line, column) == rest


def test_error_without_a_place_stays_without_one() -> None:
    made = composer.Composer("Case", "a\nbc", Limits())
    problem = made.syntax(yaml.YAMLError("x\ue000"))
    assert (problem.line, problem.column, problem.message) == (None, None, "x\ue000")


@pytest.mark.parametrize(
    ("place", "expected"),
    [((0, 0), (1, 1)), ((1, 1), (2, 2)), ((1, 2), (2, 3)), ((1, 3), (2, 3)), ((2, 0), (2, 3))],
)
def test_place_after_the_text_is_its_end(place: tuple[int, int], expected: tuple[int, int]) -> None:
    """The parsers report the line after the last one."""
    made = composer.Composer("Case", "a\nbc", Limits())
    problem = made.syntax(yaml.MarkedYAMLError(problem="p", problem_mark=mark(*place)))
    assert (problem.line, problem.column, problem.message) == (*expected, "p")


@both_parsers
def test_tabs_between_tokens_are_skipped() -> None:
    assert read("a:\tb\n") == [("a", "b")]
    assert read("[\ta,\tb\t]") == ["a", "b"]
    assert read("{a:\t\tb\t}\t") == [("a", "b")]
    assert read("a: 'b'\t# c\nd:\t'e'\t\n") == [("a", "b"), ("d", "e")]
    for text in ("- \ta\n", "?\ta\n: b"):
        assert syntax(text) == (1, text.index("\t") + 1, TAB)
    assert read("[a,\n\t\tb]") == ["a", "b"]


# --- anchors that C++ peers read differently ----------------------------------------------------


@both_parsers
@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: &b:c d", 1, 6),
        ("a: &b?c d", 1, 6),
        ("{a: &b:c d}", 1, 7),
        ("[&b:c d]", 1, 4),
        ("é: '\U0001f600\ue000\x7f'\r\na: &b:c d", 2, 6),
        ("a: !t &b:c d", 1, 9),
        ("a: !t # &x\n\n  &b:c d", 3, 5),
        ("- &b: [a]", 1, 5),
        ("? &b:c d\n: e", 1, 5),
    ],
)
def test_anchor_whose_name_pyyaml_ends_too_early_is_refused(
    text: str, line: int, column: int
) -> None:
    rule = "the name of an anchor must have letters, digits, '-' and '_' only"
    assert refused(text) == (ParseError, "syntax", line, column, rule)


@both_parsers
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: !t # &x:y\n  &b c", [("a", "c")]),
        ("a: &b # &x:y\n  c:d", [("a", "c:d")]),
        ("a: &b\n  c: d", [("a", [("c", "d")])]),
        ("{a: &b , c: *b}", [("a", ""), ("c", "")]),
        ("[&b c, *b]", ["c", "c"]),
        ("a: b &c:d", [("a", "b &c:d")]),
        ("a: '&c:d'", [("a", "&c:d")]),
    ],
)
def test_other_anchors_are_read(text: str, value: Any) -> None:
    assert read(text) == value
