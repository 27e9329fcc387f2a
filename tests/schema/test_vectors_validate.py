"""Every golden vector that we read is one that the schemas say is understood.

Which instance that is depends on the reader, so it is asked of three (`readers.py`).
"""

import functools
import re

import pytest

from fastlib import FastlibError
from fastlib.schema import schema_of
from fastlib.testing.golden import rows
from tests.support.schema.readers import READERS, Unreadable, as_json, validator

OTHERWISE = {
    r"!!null": "the reader makes null of what has the tag, fastlib text",
    "\u2028|\u2029": "to the reader it is a line end or blank, to fastlib a character of the text",
    r"memory: 0[0-7]{20,}$": "YAML 1.2 has no octal numbers that begin with 0, so it is too large",
}
"""What a reader of types reads otherwise than fastlib, so that the instance is another message."""


def is_read(cls, text):
    try:
        cls.from_yaml(text)
    except FastlibError:
        return False
    return True


READ = [(row, text) for row in rows() for text in row.texts if is_read(row.cls, text)]


@functools.cache
def judge(cls, direction):
    return validator(schema_of(cls, direction))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.load
def test_vectors_that_are_read_validate(reader):
    unread = otherwise = judged = 0
    for row, text in READ:
        try:
            tree = READERS[reader](text)
        except Unreadable:  # PyYAML takes fewer texts for YAML than fastlib
            unread += 1
            continue
        errors = list(judge(row.cls, "load").iter_errors(tree))
        if errors and any(re.search(pattern, str(text)) for pattern in OTHERWISE):
            otherwise += 1
            continue
        assert not errors, f"{row.number}: {text!r}\n{errors[0]}"
        judged += 1
    assert judged > 1100
    assert unread < 40
    assert otherwise < 6


def test_written_vectors_validate():
    for row, text in READ:
        tree = as_json(row.cls.from_yaml(text).emit())
        errors = list(judge(row.cls, "emit").iter_errors(tree))
        assert not errors, f"{row.number}: {text!r}\n{errors[0]}"


@pytest.mark.load
def test_nearly_all_that_we_refuse_is_refused():
    """Exceptions are rules that a schema cannot express, such as duplicate keys."""
    passed = [
        row.number
        for row in rows()
        for text in row.texts
        if not is_read(row.cls, text) and validates(row.cls, text)
    ]
    assert 0 < len(passed) < 20, passed


def validates(cls, text):
    try:
        return judge(cls, "load").is_valid(READERS["text"](text))
    except Unreadable:
        return False
