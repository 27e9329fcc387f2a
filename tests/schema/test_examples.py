"""The examples in `schemas/examples/`: one of every kind, well-made."""

import re

import pytest
import yaml

import fastlib
from fastlib.codec import dispatch
from fastlib.codec.derivation import shape_of
from fastlib.schema import examples, find_kind
from tests.support.schema.readers import READERS, SCHEMAS, names, schema, validator

PATHS = sorted((SCHEMAS / "examples").iterdir())
NAMES = [path.name.removesuffix(".yaml") for path in PATHS]


def test_every_kind_has_an_example():
    assert sorted(names()) == NAMES
    assert set(examples()) == set(NAMES)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_example_is_valid(path):
    text = path.read_text("utf-8")
    name = path.name.removesuffix(".yaml")
    kind = find_kind(name)
    assert re.search("^ *# .|[^ ] # .", text, re.MULTILINE), "it has no comment"
    # It is read without any warning, as this kind.
    shape = shape_of(kind.cls)
    report = dispatch.inspect(lambda _root, _reading: shape, text, what=name)[0]
    assert not report.problems
    message = kind.cls.from_yaml(text)
    if kind.title is not None:
        assert fastlib.load(text) == message
    # What stands there is what is understood, and what we make of it is what is written.
    for read in READERS.values():
        validator(schema(f"load/{name}")).validate(read(text))
    emitted = message.emit()
    validator(schema(f"emit/{name}")).validate(emitted)
    validator(schema(f"load/{name}")).validate(emitted)
    for family in ("task", "result"):
        if name.endswith(f".{family}"):
            for folder in ("load", "edit"):
                validator(schema(f"{folder}/{family}")).validate(yaml.safe_load(text))
            validator(schema(f"emit/{family}")).validate(emitted)
    # No key that would not be written.
    assert READERS["yaml11"](message.to_yaml()) in (emitted, None)
    for direction in ("emit", "load"):
        assert emitted in schema(f"{direction}/{name}")["examples"]
