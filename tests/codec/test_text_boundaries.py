"""Bytes to text: exact encodings, sizes and positions at the boundaries."""

import pytest

from fastlib.codec import LimitError, Limits, ParseError
from fastlib.codec.text import _encoding, decode, position


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\0\0\0\x01\0\0\0\x02", "utf-32-be"),
        (b"\x01\0\0\0\x02\0\0\0", "utf-32-le"),
        (b"\0\x01\0\x02", "utf-16-be"),
        (b"\0\x01", "utf-16-be"),
        (b"\x01\0\x02\0", "utf-16-le"),
        (b"\x01\0", "utf-16-le"),
        # Zero characters show nothing.
        (b"\0\0\0\0", "utf-8"),
        (b"\0\0\0\0\x01", "utf-8"),
        (b"\0\0\0", "utf-8"),
        (b"\0\0\x01", "utf-8"),
        (b"\0\0", "utf-8"),
        (b"\0", "utf-8"),
        (b"a", "utf-8"),
        (b"", "utf-8"),
    ],
)
def test_zero_bytes_show_the_encoding(data: bytes, encoding: str) -> None:
    assert _encoding(data) == (encoding, 0)


@pytest.mark.parametrize(
    ("mark", "encoding", "length"),
    [
        (b"\xef\xbb\xbf", "utf-8", 3),
        (b"\xff\xfe\0\0", "utf-32-le", 4),
        (b"\0\0\xfe\xff", "utf-32-be", 4),
        (b"\xff\xfe", "utf-16-le", 2),
        (b"\xfe\xff", "utf-16-be", 2),
    ],
)
def test_byte_order_mark_shows_the_encoding(mark: bytes, encoding: str, length: int) -> None:
    assert _encoding(mark) == (encoding, length)
    text = "a: é"
    assert decode(mark + text.encode(encoding), Limits(), "X") == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_text_without_mark_is_decoded(encoding: str, kind: type) -> None:
    assert decode(kind("ab\ncé".encode(encoding)), Limits(), "X") == "ab\ncé"


def test_text_loses_one_byte_order_mark() -> None:
    assert decode("\ufeff\ufeffa", Limits(), "X") == "\ufeffa"
    assert decode("\ufeff\ufeffa".encode(), Limits(), "X") == "\ufeffa"


@pytest.mark.parametrize("text", ["abcd", b"abcd", "aé\n", "é\u00e9", "\U0001f600", "\ud800a"])
def test_size_limit_counts_bytes(text: str | bytes) -> None:
    size = len(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    assert size == 4
    assert decode(text, Limits(max_bytes=4), "X")
    with pytest.raises(LimitError) as caught:
        decode(text, Limits(max_bytes=3), "X")
    (problem,) = caught.value.problems
    assert caught.value.what == "X"
    assert (problem.code, problem.message) == ("limit-bytes", "the text has more than 3 bytes")
    assert (problem.line, problem.column, problem.severity) == (1, 1, "error")


@pytest.mark.parametrize(
    ("data", "message", "place"),
    [
        (b"ab\nc\xffd", "the text is not UTF-8: invalid start byte; save it as UTF-8", (2, 2)),
        (
            b"\xef\xbb\xbfab\nc\xffd",
            "the text is not UTF-8: invalid start byte; save it as UTF-8",
            (2, 2),
        ),
        (
            b"\xff\xfea\0\n\0b",
            "the text is not UTF-16-LE: truncated data; save it as UTF-8",
            (2, 1),
        ),
        (b"\0a\0", "the text is not UTF-16-BE: truncated data; save it as UTF-8", (1, 2)),
    ],
)
def test_error_of_undecodable_bytes_has_a_position(
    data: bytes, message: str, place: tuple[int, int]
) -> None:
    with pytest.raises(ParseError) as caught:
        decode(data, Limits(), "X")
    (problem,) = caught.value.problems
    assert (caught.value.what, problem.code, problem.message) == ("X", "encoding", message)
    assert (problem.line, problem.column) == place


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError) as caught:
        decode(5, Limits(), "X")  # type: ignore[arg-type]
    assert str(caught.value) == "a message is read from str or bytes, not from int"


@pytest.mark.parametrize(
    ("text", "index", "place"),
    [
        ("", 0, (1, 1)),
        ("ab", 1, (1, 2)),
        ("\nab", 0, (1, 1)),
        ("\nab", 1, (2, 1)),
        ("\nab", 3, (2, 3)),
        ("a\nb\nc\n", 3, (2, 2)),
        ("a\nb\nc\n", 4, (3, 1)),
    ],
)
def test_position_counts_from_one(text: str, index: int, place: tuple[int, int]) -> None:
    assert position(text, index) == place
