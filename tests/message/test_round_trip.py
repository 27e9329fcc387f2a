"""Written messages are read back equal, in every style, as text, bytes and plain tree."""

import math
import typing

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import fastlib
from fastlib import Evacuate, Message, ResultContainer, Suspend, TaskContainer, ValidationError
from fastlib.codec.derivation import fields_of, shape_of
from fastlib.codec.shapes import List, Text
from fastlib.message.agent import KpiReport, Kpis
from fastlib.message.pscom import PscomRequest
from fastlib.testing.registered import is_titled
from fastlib.testing.strategies import from_message
from tests.support.strategies import MESSAGES, examples, name_of

STYLES = typing.get_args(fastlib.codec.dispatch.Style)
BARE_WORD = [PscomRequest]
"""Messages whose text is the bare word that the other side compares bytes with."""

every_message = pytest.mark.parametrize("cls", MESSAGES, ids=name_of)


def same(one, other):
    """Equal trees of equal types; a NaN equals itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def generic(text):
    """Return the first document as a generic YAML reader reads it."""
    return next(yaml.safe_load_all(text))


@every_message
@examples(8, 3_000)
@given(st.data())
def test_message_is_unchanged_after_text_and_tree(cls, data):
    """8 messages of each type, 3,000 in the long run; so for the tests below, with their counts."""
    message = data.draw(from_message(cls))
    tree = message.emit()
    texts = [message.to_yaml(style=style) for style in STYLES]
    again = [cls.load(tree), *map(cls.from_yaml, texts)]
    if is_titled(cls):
        again += map(fastlib.load, texts)
    for other in again:
        assert other == message
        assert repr(other) == repr(message)  # which tells 1 from 1.0, and a list from a tuple
    assert all(same(generic(text), tree) for text in texts), texts


@every_message
@examples(4, 1_500)
@given(st.data())
def test_written_text_has_no_problems(cls, data):
    message = data.draw(from_message(cls))
    report = fastlib.validate(message.to_yaml(), cls)
    # All but the title of results that no task here declares.
    strange = cls is ResultContainer and message.result not in shape_of(cls).titles()
    assert [problem.code for problem in report.problems] == ["unknown-title"] * strange
    assert report.message == message


def test_messages_with_a_bare_word_are_titled_in_the_written_form():
    assert PscomRequest(request="suspend").to_yaml() == "suspend"
    assert fastlib.load("task: suspend") == PscomRequest(request="suspend")


@every_message
@examples(3, 1_000)
@given(st.data())
def test_bytes_read_as_text_in_every_encoding(cls, data):
    message = data.draw(from_message(cls))
    text = message.to_yaml()
    assert cls.from_yaml("\ufeff" + text) == message
    for unit in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        assert cls.from_yaml(text.encode(unit)) == message
        assert cls.from_yaml(("\ufeff" + text).encode(unit)) == message
    assert cls.from_yaml(bytearray(text, "utf-8")) == message


@every_message
@examples(3, 1_000)
@given(st.data())
def test_crlf_is_a_line_end(cls, data):
    message = data.draw(from_message(cls))
    text = message.to_yaml()  # every line break of a value is escaped in it
    assert cls.from_yaml(text.replace("\n", "\r\n")) == message


@example(Suspend(vm_name="a\nb"))
@example(Suspend(vm_name="a\nb\n"))
@examples(50, 5_000)
@given(from_message(Suspend))
def test_every_style_is_one_document_and_flow_is_one_line(message):
    assert "\n" not in message.to_yaml(style="flow")
    for style in ("block", "literal"):
        lines = message.to_yaml(style=style).split("\n")
        assert (lines[0], lines[-1]) == ("---", "---")
        assert lines.count("---") == 2


# --- values ---------------------------------------------------------------------------------------


def can_change(value):
    """Whether there is a `dict` or a `list` in a value: those of a mapping with free keys."""
    if isinstance(value, dict | list):
        return True
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.astuple(value)
    return isinstance(value, tuple) and any(map(can_change, value))


@every_message
@examples(3, 1_000)
@given(st.data())
def test_equal_messages_have_one_hash(cls, data):
    message = data.draw(from_message(cls))
    again = cls.from_yaml(message.to_yaml())
    assert message == again
    if can_change(message):
        with pytest.raises(TypeError):
            hash(message)
    else:
        assert hash(message) == hash(again)


# --- what is no text ------------------------------------------------------------------------------

LONE = ["\ud800", "a\udfff", "\udc80b", "\ude00\ud83d", "\ud83d \ude00"]


def text_fields():
    """Every message with a field of free text, or of a list of them, and that field."""
    for cls in MESSAGES:
        if isinstance(cls, type) and issubclass(cls, Message):
            for field in fields_of(cls):
                shape = field.shape
                if isinstance(shape, Text):
                    yield pytest.param(cls, field, str, id=f"{name_of(cls)}.{field.attribute}")
                elif isinstance(shape, List) and isinstance(shape.item, Text):
                    yield pytest.param(
                        cls, field, lambda text: [text], id=f"{name_of(cls)}.{field.attribute}"
                    )


@pytest.mark.parametrize(("cls", "field", "wrap"), list(text_fields()))
@examples(2, 50)
@given(st.data())
def test_lone_surrogates_are_refused(cls, field, wrap, data):
    message = data.draw(from_message(cls))
    lone = data.draw(st.sampled_from(LONE))
    with pytest.raises(ValidationError):
        msgspec.structs.replace(message, **{field.attribute: wrap(lone)})


@pytest.mark.parametrize("lone", LONE)
def test_lone_surrogates_are_refused_in_keys_and_trees(lone):
    for tree in (lone, [lone], {lone: "a"}, {"a": lone}, {"a": [{"b": lone}]}):
        with pytest.raises(ValidationError):
            KpiReport(source="a", kpis=tree)
    for categories in ({lone: "a"}, {"a": lone}):
        with pytest.raises(ValidationError):
            Kpis(categories=categories, repeat=1)
    with pytest.raises(ValidationError):
        Evacuate(destinations=["a", lone])
    with pytest.raises(ValidationError):
        fastlib.TimeMeasurement({lone: fastlib.Timing(wall=1.0)})
    with pytest.raises(ValidationError):
        TaskContainer(tasks=[Suspend(vm_name="a")], id=lone)
