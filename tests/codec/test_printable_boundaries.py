"""Each output has exactly its own escapes."""

import pytest

from fastlib.codec.printable import (
    escape_json,
    is_visible,
    printable,
    printable_lines,
    word,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True), ("a b", True), ("ü", True), ("ü\u3164", False), ("a\n", False),
        ("\x7f", False), ("\u3164", False), ("\u202e", False), ("a\xa0", False),
    ],
)  # fmt: skip
def test_text_is_visible_if_it_can_be_shown_unchanged(text: str, expected: bool) -> None:
    assert is_visible(text) is expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\\", "a\\"), ("ü", "ü"), ("ü\x1b\\", "ü\\x1b\\"), ("a\nb", r"a\nb"),
        ("\u3164x", r"\u3164x"), ("\U000e0001x", r"\U000e0001x"), ("\ud800x", r"\ud800x"),
    ],
)  # fmt: skip
def test_only_invisible_characters_become_python_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_ends_stay() -> None:
    assert printable_lines("a\rb\n\n\x1bc\n") == "a\\rb\n\n\\x1bc\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a", "a"), ("-", '"-"'), ("", '""'), ("--", "--"), ("a b", '"a b"'), ("a[", '"a["'),
        ("a]", '"a]"'), ('a"b"', r'"a\"b\""'), ("a\\b\\", r'"a\\b\\"'), ("\x1b", r'"\u001b"'),
        ("ü\u3164", r'"ü\u3164"'), ("\U000e0001", r'"\udb40\udc01"'), ("\ud800", r'"\ud800"'),
        ('\\"', r'"\\\""'),
    ],
)  # fmt: skip
def test_field_of_a_line_has_quotes_and_the_escapes_of_json_if_necessary(
    text: str, shown: str
) -> None:
    assert word(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":\n"b"}', '{"a":\n"b"}'), ("ü", "ü"), ("a\x7f", r"a\u007f"), ("\x7f\n", "\\u007f\n"),
        ("ü\n\x1b", "ü\n\x1b"), ("ü \u3164\t", "ü \\u3164\t"), ("\U000e0001", r"\udb40\udc01"),
        ("\ud800", r"\ud800"),
    ],
)  # fmt: skip
def test_json_escapes_invisible_characters_and_keeps_its_line_ends(text: str, shown: str) -> None:
    """Other control characters are escaped already in JSON."""
    assert escape_json(text) == shown
