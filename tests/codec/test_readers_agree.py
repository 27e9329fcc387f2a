"""The fast reader agrees with the exact reader, the compiled writer with the writer of trees."""

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastlib
from fastlib import FastlibError, Limits
from fastlib.codec import composer
from fastlib.codec.derivation import shape_of
from fastlib.codec.dispatch import read, read_exact
from fastlib.codec.envelope import Envelope
from fastlib.codec.fast_reader import UNSUPPORTED, read_fast
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.records import Converted, Record
from fastlib.codec.text import decode
from fastlib.codec.tree_shape import Tree
from fastlib.codec.writer import write_tree
from fastlib.message.agent import Init
from fastlib.message.pscom import PscomRequest
from fastlib.testing.golden import rows
from fastlib.testing.shrinking import smaller
from fastlib.testing.strategies import NAMES, PLAIN_TEXTS, TEXTS, from_message
from tests.support.strategies import MESSAGES, examples, name_of
from tests.support.texts import crossed, mutated, pyyaml_default, ruamel_default, scribbled, written

every_message = pytest.mark.parametrize("cls", MESSAGES, ids=name_of)


# --- writers --------------------------------------------------------------------------------------


@every_message
@examples(8, 5_000)
@given(st.data())
def test_compiled_writer_agrees_with_write_tree(cls, data):
    message = data.draw(from_message(cls))
    if cls is not PscomRequest:  # a bare word
        assert message.to_yaml() == write_tree(message.emit())


# --- readers --------------------------------------------------------------------------------------

# Containers and what stands in them have most of the forms, so they are most of the examples.
TYPES = MESSAGES + 3 * [
    cls for cls in MESSAGES if isinstance(shape_of(cls), Envelope) or issubclass(cls, fastlib.Task)
]


def difference(cls, text):
    """Return how the exact reader differs from the fast one, or None. It must report no problem."""
    shape = shape_of(cls)
    fast = read_fast(shape, text, DEFAULT_LIMITS)
    if fast is UNSUPPORTED:
        return None
    try:
        exact = read_exact(shape, text, what=cls.__name__)
    except FastlibError as error:
        return f"fast {fast!r}, exact refuses: {error}"
    if fast != exact or repr(fast) != repr(exact):
        return f"fast {fast!r}, exact {exact!r}"
    # The fast reader supports unknown titles of results; only `validate` warns of them.
    problems = [p for p in fastlib.validate(text, cls).problems if p.code != "unknown-title"]
    return f"fast {fast!r}, but there are problems: {problems}" if problems else None


def title_difference(cls, text):
    """Return how `load`, which uses the fast reader, differs from `validate`, or None."""
    report = fastlib.validate(text)
    try:
        loaded = fastlib.load(text)
    except FastlibError as error:
        return f"load refuses: {error}; validate does not" if report.ok else None
    if not report.ok:
        return f"load {loaded!r}, validate refuses: {report.errors}"
    same = loaded == report.message and repr(loaded) == repr(report.message)
    return None if same else f"load {loaded!r}, validate {report.message!r}"


def assert_alike(cls, text, differ):
    found = differ(cls, text)
    if found is not None:
        text = smaller(text, lambda shorter: differ(cls, shorter) is not None)
        pytest.fail(f"{cls.__name__}, {text!r}: {differ(cls, text) or found}")


MUTANTS = 4
"""Texts with something changed, for each that a writer has written."""


@st.composite
def cases(draw):
    """A type, two messages of it, and the seed of their texts."""
    cls = draw(st.sampled_from(TYPES))
    some = from_message(cls, texts=PLAIN_TEXTS if draw(st.integers(0, 2)) else TEXTS)
    return cls, draw(some), draw(some), draw(st.integers(0, 2**64))


def texts(one, other, seed):
    """A text as some writer would write it, then texts that are nearly such."""
    rng = Random(seed)
    text = written(one, rng)
    yield text
    if rng.random() < 0.2:
        yield crossed(text, written(other, rng), rng)
    for _ in range(MUTANTS):
        mutant = text
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            mutant = mutated(mutant, rng)
        yield mutant


@examples(150, 100_000)
@given(cases())
def test_fast_reader_agrees_with_exact_reader(case):
    cls, *rest = case
    for text in texts(*rest):
        assert_alike(cls, text.removeprefix("\ufeff"), difference)


@examples(60, 30_000)
@given(cases())
def test_load_by_title_agrees_with_validate(case):
    cls, *rest = case
    for text in texts(*rest):
        assert_alike(cls, text, title_difference)


@examples(6, 10_000)
@given(st.integers(0, 2**64))
def test_readers_agree_on_random_lines(seed):
    rng = Random(seed)
    for _ in range(100):
        cls, text = scribbled(rng)
        assert_alike(cls, text, difference)
        if rng.random() < 0.05:
            assert_alike(cls, text, title_difference)


# Texts for which the two readers, or `load` and `validate`, once differed.
ONCE_DIFFERENT = [
    (fastlib.Migrate, "vm-name: a\ndestination: b\nparameter:: \n  retry_counter: 1\n"),
    (fastlib.Repin, "vm-name: a\nvcpu-map:: [[0]]\n"),
    (fastlib.Evacuate, "destinations\n- a\n"),
    (fastlib.TaskContainer, "task: stop vm\nlist\n- vm-name: a\n"),
    (fastlib.TaskContainer, "list:\n- vm-name: a\n---\ntask: stop vm\n"),
    (fastlib.ResultContainer, '"result": a # b\nlist: []\n---\nresult: "a # b"\n'),
    (fastlib.ResultContainer, 'result: "a # b"\nlist: []\n'),
    (fastlib.ResultContainer, "result: a # b\nlist: []\n"),
    (fastlib.Task, "\n..."),
    (fastlib.Task, ""),
    (fastlib.Suspend, "vm-name: |-\n  a\n  \ndriver: b\n"),
    (fastlib.Suspend, "vm-name: |\n  a\n  \n\ndriver: b\n"),
    (fastlib.Suspend, 'vm-name: "\\x0\\\n b"'),
    (fastlib.Suspend, "vm-name: a\n---\n\ud800"),
    (Init, "hostname: a\n---\ntask: init\n"),
]


@pytest.mark.parametrize(("cls", "text"), ONCE_DIFFERENT)
def test_readers_agree_on_earlier_differences(cls, text):
    for differ in (difference, title_difference):
        assert differ(cls, text) is None, text


# --- limits ---------------------------------------------------------------------------------------


@st.composite
def limits(draw, size):
    """Limits about as large as a text needs."""
    given = {}
    for name in ("max_nodes", "max_scalar", "max_depth", "max_bytes"):
        if draw(st.booleans()):
            most = {"max_depth": 8, "max_bytes": size + 9}.get(name, size // 4 + 9)
            given[name] = draw(st.integers(1, most))
    return Limits(**given)


@examples(100, 30_000)
@given(st.data())
def test_fast_reader_respects_limits(data):
    cls, one, _, seed = data.draw(cases())
    text = written(one, Random(seed)).removeprefix("\ufeff")
    tight = data.draw(limits(len(text)))
    shape = shape_of(cls)
    try:
        value = read(shape, text, cls.__name__, "ignore", tight)
    except FastlibError:
        return
    assert len(text.encode()) <= tight.max_bytes
    assert read_exact(shape, text, what=cls.__name__, limits=tight) == value


# --- which texts are supported --------------------------------------------------------------------


def is_read_fast(cls, text):
    decoded = decode(text, DEFAULT_LIMITS, cls.__name__)
    return read_fast(shape_of(cls), decoded, DEFAULT_LIMITS) is not UNSUPPORTED


def is_supported(cls):
    """Whether the fast reader supports a type: not bare words, empty documents and free trees."""
    shape = shape_of(cls)
    if isinstance(shape, Converted):
        shape = shape.wire
    if isinstance(shape, Record):
        return shape.fields and not holds_a_tree(shape)
    return isinstance(shape, Envelope)


def holds_a_tree(shape):
    """Whether a shape has a free tree in it."""
    if isinstance(shape, Record):
        return any(holds_a_tree(field.shape) for field in shape.fields)
    below = [getattr(shape, name, None) for name in ("item", "value", "wire")]
    return isinstance(shape, Tree) or any(map(holds_a_tree, filter(None, below)))


ORDINARY = NAMES.map("vm-{}".format)
SUPPORTED_TYPES = [cls for cls in MESSAGES if is_supported(cls)]


def share(texts):
    """Return the share of texts without problems that the fast reader supports."""
    taken = [
        is_read_fast(cls, text)
        for cls, text in texts
        if is_supported(cls) and not fastlib.validate(text, cls).problems
    ]
    assert len(taken) > 4
    return sum(taken) / len(taken)


def produced(write, texts, count):
    """Return the texts that a writer makes of messages, without messages that have no members."""
    found = []

    @settings(max_examples=count)
    @given(st.sampled_from(SUPPORTED_TYPES).flatmap(lambda cls: from_message(cls, texts=texts)))
    def collect(message):
        text = write(message)
        members = map(type, getattr(message, "results", ()))
        # The fast reader supports neither empty mappings nor options that other tests add to tasks.
        added = any(
            getattr(each, "extensions", ()) for each in (message, *getattr(message, "tasks", ()))
        )
        if "{}" not in text and not added and all(map(is_supported, members)):
            found.append((type(message), text))

    collect()
    return found


def of_peers(pattern):
    """Return the texts that the C++ peers wrote, also with a newer parser."""
    return [
        (row.cls, text)
        for row in rows()
        if row.ok and re.match(pattern, row.why)
        for text in (row.echo, row.newer_echo)
        if text is not None
    ]


def of_libraries(pattern):
    """Return the texts of other libraries with which the vectors were made."""
    return [(row.cls, row.text) for row in rows() if row.ok and re.match(pattern, row.why)]


def test_fast_reader_supports_texts_of_fastlib():
    assert share(produced(lambda message: message.to_yaml(), ORDINARY, 60)) == 1
    assert share(produced(lambda message: message.to_yaml(style="literal"), ORDINARY, 60)) == 1
    assert share(produced(lambda message: message.to_yaml(), TEXTS, 60)) > 0.8  # odd keys


@pytest.mark.parametrize("write", [pyyaml_default, ruamel_default])
def test_fast_reader_supports_texts_of_python_libraries(write):
    assert share(produced(lambda message: write(message, Random(0)), ORDINARY, 40)) >= 0.95
    assert share(produced(lambda message: write(message, Random(0)), TEXTS, 120)) >= 0.8


@pytest.mark.parametrize(
    ("found", "least"),
    [
        pytest.param(of_peers("gen-|bench|reload|emit-reload"), 0.96, id="cpp"),
        pytest.param(of_peers("style-"), 0.95, id="cpp-echoes"),
        pytest.param(of_libraries("style-ruamel"), 0.95, id="ruamel.yaml"),
        # The others have flow mappings, tags, folded blocks and comments.
        pytest.param(of_libraries("style-(js|npm)"), 0.6, id="js-yaml"),
        pytest.param(of_libraries("style-pyyaml-(?!flow|canonical|version)"), 0.55, id="PyYAML"),
        pytest.param(of_libraries("style-own"), 0.7, id="by-hand"),
    ],
)
def test_fast_reader_supports_texts_of_peers(found, least):
    assert share(found) >= least


# --- the exact reader without PyYAML's C extension ------------------------------------------------


@pytest.fixture(scope="module")
def _python_parser():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composer, "HAS_C_PARSER", False)
        yield


def outcome(cls, text):
    try:
        return repr(read_exact(shape_of(cls), text, what=cls.__name__))
    except FastlibError:
        return FastlibError


@pytest.mark.usefixtures("_python_parser")
@every_message
@examples(2, 500)
@given(st.data())
def test_python_parser_reads_texts_of_fastlib(cls, data):
    message = data.draw(from_message(cls))
    for style in ("block", "literal", "flow"):
        text = message.to_yaml(style=style)
        assert outcome(cls, text) == repr(message)


@examples(30, 20_000)
@given(cases())
def test_python_parser_agrees_with_c_parser(case):
    cls, one, _, seed = case
    text = written(one, Random(seed)).removeprefix("\ufeff")
    by_c = outcome(cls, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composer, "HAS_C_PARSER", False)
        by_python = outcome(cls, text)
    assert by_c == by_python or "\t" in text, text
