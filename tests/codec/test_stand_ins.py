"""The reader confuses no two characters of a text, neither raw nor written as escapes.

PyYAML does not read some characters as the C++ peers do, so the exact reader gives it others in
their places. No escape of the text may mean one of these.
"""

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastlib import Evacuate, ParseError, TaskContainer
from fastlib.codec import composer
from fastlib.codec.derivation import shape_of
from fastlib.codec.dispatch import read_exact
from fastlib.codec.fast_reader import UNSUPPORTED, read_fast
from fastlib.codec.limits import DEFAULT_LIMITS
from tests.support.strategies import examples

SPECIAL = "\x01\x07\x08\x0b\x1b\x7f\x80\x85\x9f\u2028\u2029\ufeff\ufffe\uffff"
PRIVATE = "\ue000\ue001\ue00f\uf8fe\uf8ff\U000f0000\U000ffffd\U00100000\U0010fffd"
NAMED = {"\x85": "\\N", "\u2028": "\\L", "\u2029": "\\P", "\x07": "\\a", "\x1b": "\\e"}
LETTERS = "ab \\\"'u0e"

odd_texts = st.text(st.sampled_from(SPECIAL + PRIVATE + LETTERS), min_size=1, max_size=6)


def escaped(char: str, rng: Random) -> str:
    """One of the escapes of a character."""
    code = ord(char)
    ways = [f"\\U{code:08x}", f"\\U{code:08X}"]
    if code < 0x10000:
        ways += [f"\\u{code:04x}", f"\\u{code:04X}"]
    if code < 0x100:
        ways.append(f"\\x{code:02x}")
    return rng.choice([*ways, NAMED.get(char, ways[0])])


def quoted(text: str, rng: Random) -> str:
    """The text in double quotes; each character is raw, or an escape."""
    share = rng.choice([0, 0.5, 1])
    parts = [
        escaped(char, rng) if rng.random() < share else f"\\{char}" if char in '\\"' else char
        for char in text
    ]
    return f'"{"".join(parts)}"'


def read_by_all(text: str) -> list[Evacuate]:
    """Return the result of each reader; the fast one may not support the text."""
    shape = shape_of(Evacuate)
    fast = read_fast(shape, text, DEFAULT_LIMITS)
    read = [] if fast is UNSUPPORTED else [fast]
    for has_c_parser in {composer.HAS_C_PARSER, False}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(composer, "HAS_C_PARSER", has_c_parser)
            read.append(read_exact(shape, text, what="Evacuate"))
    return read


@examples(60, 20_000)
@given(st.lists(odd_texts, min_size=1, max_size=4), st.integers(0, 2**64))
@example(["\ue000", "x\x7f"], 0)
@example(["\ue000\ue001\ue002", "\x7f\x85\u2028", "\\ue003"], 1)
@example([chr(code) for code in range(0xE000, 0xE050)] + list(SPECIAL), 2)
def test_escapes_beside_raw_odd_characters_are_read_exactly(texts, seed):
    rng = Random(seed)
    message = Evacuate(destinations=texts)
    lines = "".join(f"  - {quoted(text, rng)}\n" for text in texts)
    for read in read_by_all(f"destinations:\n{lines}"):
        assert read == message


def test_private_use_characters_of_the_basic_plane_may_all_be_in_use():
    private = "".join(map(chr, range(0xE000, 0xF900)))
    escapes = "".join(f"\\u{ord(char):04x}" for char in private)
    for body in (private, escapes):
        for read in read_by_all(f'destinations:\n  - "{body}"\n  - "\x7f\x85"\n'):
            assert read.destinations == (private, "\x7f\x85")


def test_name_with_an_escape_is_kept_beside_an_odd_id():
    text = '{task: stop vm, list: [{vm-name: "vm\\ue000"}], id: "x\x7f"}'
    container = TaskContainer.from_yaml(text)
    assert container.tasks[0].vm_name == "vm\ue000"
    assert container.id == "x\x7f"


@pytest.mark.parametrize("char", ["\x7f", "\x85", "\u2028"])
@pytest.mark.parametrize("parser", ["C", "Python"])
def test_errors_show_the_characters_of_the_text(char, parser, monkeypatch):
    monkeypatch.setattr(composer, "HAS_C_PARSER", composer.HAS_C_PARSER and parser == "C")
    for text in (f"destinations: [!{char}!a b]", f'destinations: ["\\{char}"]', f"a: &{char} b"):
        with pytest.raises(ParseError) as caught:
            Evacuate.from_yaml(text)
        assert "\ue000" not in str(caught.value)
        assert "\\ue000" not in str(caught.value)
