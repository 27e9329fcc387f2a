"""No input ends in anything but a message or a FastlibError: no crash, no hang, no other error."""

import contextlib
import gc
import string
import subprocess
import sys
import tracemalloc
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fastlib
from fastlib import FastlibError, ResultContainer, Suspend
from fastlib.message import Message
from fastlib.testing.strategies import TEXTS, from_message
from tests.support.hostile import FAMILIES, read
from tests.support.strategies import MESSAGES, examples
from tests.support.texts import mutated, written

# --- any bytes ------------------------------------------------------------------------------------

READERS = st.sampled_from([cls for cls in MESSAGES if issubclass(cls, Message)])


@example(Suspend, b"")
@example(Suspend, b"\0")
@example(Suspend, b"\xff\xfe\0")
@example(Suspend, b"\xef\xbb\xbf\xef\xbb\xbf")
@examples(200, 200_000)
@given(READERS, st.binary(max_size=200))
def test_reading_any_bytes_ends_in_message_or_error(cls, data):
    read(cls, data)


@examples(150, 200_000)
@given(READERS, st.text(st.characters(), max_size=100))
def test_reading_any_text_ends_in_message_or_error(cls, text):
    read(cls, text)


@examples(150, 200_000)
@given(READERS, st.text(st.sampled_from(" \n\t-:?[]{},'\"#&*!|>%@`\\~ab0"), max_size=60))
def test_reading_any_indicators_ends_in_message_or_error(cls, text):
    read(cls, text)


@st.composite
def damaged(draw):
    """The bytes of a message, in any encoding, some of them changed."""
    cls = draw(READERS)
    rng = Random(draw(st.integers(0, 2**64)))
    text = written(draw(from_message(cls)), rng)
    for _ in range(rng.choice([0, 0, 1, 3])):
        text = mutated(text, rng)
    unit = rng.choice(["utf-8", "utf-8", "utf-8", "utf-16", "utf-16-be", "utf-32", "latin-1"])
    data = bytearray(text.encode(unit, "replace"))
    for _ in range(rng.choice([0, 1, 1, 2, 10])):
        if data:
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                del data[at : at + rng.choice([1, 2, 3, 20])]
            else:
                data[at:at] = bytes(rng.choices([0, 9, 10, 13, 32, 0x80, 0xC2, 0xED, 0xFF], k=2))
    return cls, bytes(data)


@examples(150, 100_000)
@given(damaged())
def test_reading_damaged_message_ends_in_message_or_error(case):
    read(*case)


# --- any tree -------------------------------------------------------------------------------------

_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.text(st.characters()),
    st.binary(max_size=3), st.dates(), st.just(...),
)  # fmt: skip
_KEYS = st.one_of(
    st.sampled_from(["task", "list", "vm-name", "result", "parameter", "vcpu-map", "KPIS", "xml"]),
    TEXTS,
    st.integers(),
    st.none(),
    st.tuples(st.integers()),
)
_TREES = st.recursive(
    _LEAVES,
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.tuples(below),
        st.sets(st.integers(), max_size=2),
        st.dictionaries(_KEYS, below, max_size=4),
    ),
    max_leaves=12,
)


@examples(150, 100_000)
@given(READERS, _TREES)
def test_loading_any_tree_ends_in_message_or_error(cls, tree):
    with contextlib.suppress(FastlibError):
        message = cls.load(tree)
        assert cls.load(message.emit()) == message


# --- what hurts -----------------------------------------------------------------------------------

SIZES = {
    # The everyday size, the one text of how many that is read then, and the size with `--long`.
    "characters": (20_000, 1, 16_000_000),
    "patterns": (6_000, 4, 4_000_000),
    "frames": (6_000, 50, 200_000),
    "depths": (8_000, 1, 8_000_000),
    "aliases": (1_500, 1, 2_000_000),
    "counts": (4_000, 4, 4_000_000),
    "encodings": (50_000, 1, 16_000_000),
    "once_slow": (20_000, 1, 4_000_000),
    "trees": (200, 1, 400_000),
}
"""Of each family of hostile texts."""

PYTHON_SIZES = {
    # The same for PyYAML's Python parser, which is about 50 times slower than its C parser.
    family: (300, 200 if family == "frames" else 12, 20_000)
    for family in SIZES
}


def run(parser, nodes, families):
    """Read families of texts in a separate process with limited CPU time and memory."""
    program = Path(__file__).parents[1] / "support" / "hostile.py"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", program, parser, str(nodes), *families],
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONPATH": str(Path(fastlib.__file__).parents[1]), "PYTHONIOENCODING": "utf-8"},
    )
    names = done.stdout.splitlines()
    assert names, done.stderr
    assert done.returncode == 0, f"{names[-1]}: {done.returncode}: {done.stderr[-2000:]}"


def test_every_family_has_a_size():
    assert SIZES.keys() == FAMILIES.keys()


@pytest.mark.parametrize(("parser", "sizes"), [("c", SIZES), ("python", PYTHON_SIZES)])
def test_hostile_texts_end_in_message_or_error(parser, sizes, pytestconfig):
    """With `--long` all texts are read, and they and the limit of nodes are far larger."""
    if pytestconfig.getoption("long"):
        for family, (_, _, size) in sizes.items():
            run(parser, 1_000_000, [f"{family}:{size}:1"])
    else:
        families = [f"{family}:{size}:{every}" for family, (size, every, _) in sizes.items()]
        run(parser, 4_000 if parser == "c" else 1_000, families)


# --- what stays -----------------------------------------------------------------------------------


def grows(action, first, more):
    """The bytes that stay in memory of some repetitions after the first ones."""
    gc.freeze()  # otherwise a collection looks at all that all tests have loaded
    for number in range(first):
        action(number)
    gc.collect()
    tracemalloc.start()
    for number in range(first, first + more):
        action(number)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.unfreeze()
    return size


@pytest.mark.parametrize(
    "action",
    [
        lambda n: ResultContainer.from_yaml(f"result: title {n}\nlist: []\n"),
        lambda n: ResultContainer.from_yaml(f"{{result: title {n}, list: []}}"),
        lambda n: ResultContainer(result=f"title {n}", results=[]).to_yaml(),
        lambda n: ResultContainer.load({"result": f"title {n}", "list": []}).emit(),
        lambda n: Suspend.from_yaml(f"{' ' * (n % 900)}vm-name: a\n"),
        lambda n: fastlib.validate(f"task: {string.ascii_letters[n % 52] * n}"),
    ],
    ids=["block", "flow", "written", "tree", "indents", "unknown titles"],
)
def test_memory_does_not_grow_with_texts_read(action, pytestconfig):
    """With `--long` more texts are read. The first ones fill the caches."""
    more = 400 if pytestconfig.getoption("long") else 100
    assert grows(action, 1_100, more) < 100 * more
