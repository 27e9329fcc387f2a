"""Scalars: exact values and texts at the boundaries."""

import math

import pytest

from fastlib.codec.limits import Limits
from fastlib.codec.scalars import (
    BOOLEANS,
    _spellings,
    fits_block,
    is_plain,
    parse_float,
    parse_integer,
    quote,
    write_float,
    write_literal,
    write_text,
)


def test_booleans_have_three_spellings() -> None:
    assert _spellings("on", "y") == ["on", "On", "ON", "y", "Y", "Y"]
    assert {text for text, value in BOOLEANS.items() if value} == {
        *("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y")
    }
    assert {text for text, value in BOOLEANS.items() if not value} == {
        *("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N")
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("7", 7),
        ("10", 10),
        ("010", 8),
        ("0x1F", 31),
        ("0Xa", 10),
        ("12 \t\n", 12),
        ("9" * 80, int("9" * 80)),
        ("9" * 81, None),
        ("0" + "7" * 79, int("7" * 79, 8)),
        ("0" + "7" * 80, None),
        ("0x" + "f" * 80, int("f" * 80, 16)),
        ("0x" + "f" * 81, None),
        ("08", None),
        ("+1", None),
        ("-1", None),
        ("1_0", None),
        ("", None),
        ("x", None),
    ],
)
def test_integer_is_parsed(text: str, value: int | None) -> None:
    assert parse_integer(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3 ", 1000.0),
        ("1e308", 1e308),
        ("1e309", None),
        ("-1e309", None),
        (".inf", math.inf),
        ("+.INF", math.inf),
        ("-.Inf", -math.inf),
        ("-inf", -math.inf),
        ("Inf", None),
        ("1e", None),
        ("", None),
    ],
)
def test_float_is_parsed(text: str, value: float | None) -> None:
    assert parse_float(text) == value


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN", "nan", "-nan"])
def test_nan_is_parsed(text: str) -> None:
    value = parse_float(text)
    assert value is not None
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, ".nan"),
        (math.inf, ".inf"),
        (-math.inf, "-.inf"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e22, "1.0e+22"),
        (1.5e300, "1.5e+300"),
        (0.0001, "0.0001"),
        (1e-5, "0.00001"),
        (-1.25e-6, "-0.00000125"),
        (1e-6, "0.000001"),
        (1e-7, "1.0e-07"),
        (9.5e-7, "9.5e-07"),
    ],
)
def test_float_is_written(value: float, text: str) -> None:
    assert write_float(value) == text


@pytest.mark.parametrize(
    ("text", "plain", "quoted"),
    [
        ("abc", True, '"abc"'),
        ("é", True, '"é"'),
        ("a b", True, '"a b"'),
        ("a/b-c", True, '"a/b-c"'),
        ("a ", False, '"a "'),
        ("a: b", False, '"a: b"'),
        ("a#", False, '"a#"'),
        ("1", False, '"1"'),
        ("-", False, '"-"'),
        ("", False, '""'),
        ("y", False, '"y"'),
        ("NULL", False, '"NULL"'),
        ("<<", False, '"<<"'),
        ('say "x"\\', True, '"say \\"x\\"\\\\"'),
        ("\n\t\r\b\f", False, '"\\n\\t\\r\\b\\f"'),
        ("\0\x1f", False, '"\\x00\\x1f"'),
        ("\x7f", False, '"\\x7f"'),
        ("\x80\x9f", False, '"\\x80\\x9f"'),
        ("é\n", False, '"é\\n"'),
        ("\u2028\ufeff\uffff", False, '"\\u2028\\ufeff\\uffff"'),
        ("\ud800", False, '"\\ud800"'),
        ("\U0001f600", False, '"\U0001f600"'),
    ],
)
def test_text_is_written(text: str, plain: bool, quoted: str) -> None:
    assert quote(text) == quoted
    assert is_plain(text) is plain
    assert write_text(text) == (text if plain else quoted)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("a\nb", "|-\n    a\n    b"),
        ("a\nb\n", "|\n    a\n    b"),
        ("a\n\nb", "|-\n    a\n\n    b"),
        ("a\n  b", "|-\n    a\n      b"),
        ("a\n", "|\n    a"),
        ("a", None),
        ("", None),
        ("\na", None),
        (" a\nb", None),
        ("a\n  \nb", None),
        ("a\n\n", None),
        ("a\r\nb", None),
        ("a\nb\ufeff", None),
    ],
)
def test_text_of_several_lines_is_written_as_block(text: str, literal: str | None) -> None:
    assert write_literal(text, "  ") == literal
    if "\n" in text:
        assert fits_block(text) is (literal is not None)


@pytest.mark.parametrize("name", ["max_bytes", "max_depth", "max_nodes", "max_scalar"])
def test_limits_are_positive_integers(name: str) -> None:
    assert getattr(Limits(**{name: 1}), name) == 1
    for wrong in (0, -1, True, 1.0, "1"):
        with pytest.raises(ValueError, match="positive integer") as caught:
            Limits(**{name: wrong})  # type: ignore[arg-type]
        assert str(caught.value) == f"Limits: {name} must be a positive integer, not {wrong!r}"
    with pytest.raises(ValueError, match="positive integer") as caught:
        Limits(max_bytes="a" * 100)  # type: ignore[arg-type]
    assert str(caught.value) == f"Limits: max_bytes must be a positive integer, not '{'a' * 59}"
