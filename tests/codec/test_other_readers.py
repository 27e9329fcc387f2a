"""Every other reader of YAML 1.1 and 1.2 reads the texts that fastlib writes as these texts.

A text without quotes may be a number, a date or a truth value to a reader that guesses types. The
writer must know the guesses of all of them.
"""

import io
import itertools
import json
from random import Random

import pytest
import ruamel.yaml
import yaml

from fastlib import Suspend
from fastlib.codec.scalars import BOOLEANS, NULLS, is_plain, write_text
from fastlib.codec.writer import write_flow, write_tree
from fastlib.testing.texts import ODD_TEXTS
from tests.support.npm_packages import installed, needs_npm, node

ALPHABETS = [
    "eE+-._0123456789",
    "0123456789:-TZtz. +",
    "xXoObB0178afAF_",
    "yYnNeEsSoOtTrRuUfFaAlLiI.",
    "<=~!&*|>%@`?-#,[]{}'\"\\ :a0",
    "e1_. -+é\u0301٣²a",
]
"""Characters of numbers, dates, words and indicators."""
WORDS = [
    *BOOLEANS,
    *NULLS,
    "inf",
    "nan",
    "Infinity",
    "e",
    "E",
    "0x",
    "0o",
    "0b",
    "1",
    "_",
    ".",
    "-",
]
CHUNK = 500
"""Texts in one document."""


def short_texts(count):
    """All texts of one or two delicate characters as far as they fit in, and random ones."""
    rng = Random(0)
    pairs = itertools.product("eE.+-_01:~=<yYnN", ["", *"eE.+-_01:~=<yYnN"])
    found = dict.fromkeys("".join(pair) for pair in pairs)
    found |= dict.fromkeys(text for text in ODD_TEXTS if len(text) < 30 and text.isprintable())
    for word in (*BOOLEANS, *NULLS, "e1", "E12", "e+1", "e-05", "e1_0", "e_1", "e1.0", "E1E1"):
        found |= dict.fromkeys([word, f"{word}0", f"_{word}", f"{word}.", f"-{word}"])
    while len(found) < count:
        if rng.random() < 0.2:
            text = "".join(rng.choice(WORDS) for _ in range(rng.choice([2, 2, 3])))
        else:
            alphabet = rng.choice(ALPHABETS)
            text = "".join(rng.choice(alphabet) for _ in range(rng.choice([1, 2, 3, 4, 5, 7, 10])))
        found[text] = None
    return list(found)


def documents(texts):
    """Documents in block and in flow style, and the texts of each."""
    for start in range(0, len(texts), CHUNK):
        some = texts[start : start + CHUNK]
        yield write_tree(some).removesuffix("---"), some
        yield write_flow(some), some


def pyyaml(document):
    return next(yaml.load_all(document, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def ruamel_yaml(version):
    def read(document):
        reader = ruamel.yaml.YAML(typ="safe", pure=True)
        reader.version = version
        return next(reader.load_all(io.StringIO(document)))

    return read


def misread(text, value):
    return f"{write_text(text)} is read as {value!r}, not as the text {text!r}"


def problems(found, texts):
    """Which texts a reader has read otherwise."""
    if not isinstance(found, list) or len(found) != len(texts):
        return [f"the document is read as {found!r:.300}"]
    return [misread(text, value) for text, value in zip(texts, found, strict=True) if value != text]


def number_of_texts(config):
    return 100_000 if config.getoption("--long") else 1_500


@pytest.mark.parametrize(
    "read",
    [pyyaml, ruamel_yaml((1, 1)), ruamel_yaml((1, 2))],
    ids=["PyYAML", "ruamel.yaml, YAML 1.1", "ruamel.yaml, YAML 1.2"],
)
def test_python_libraries_read_written_text_as_text(read, pytestconfig):
    for document, texts in documents(short_texts(number_of_texts(pytestconfig))):
        assert problems(read(document), texts) == []


@pytest.mark.load
@needs_npm
def test_npm_packages_read_written_text_as_text(pytestconfig):
    folder = installed(pytestconfig, "readers")
    asked = list(documents(short_texts(number_of_texts(pytestconfig))))
    answers = json.loads(node(folder, "read.mjs", stdin=json.dumps([text for text, _ in asked])))
    assert {"yaml, YAML 1.1", "yaml, YAML 1.2"} < answers.keys()
    for reader, found in answers.items():
        for value, (_, texts) in zip(found, asked, strict=True):
            assert problems(value, texts) == [], reader


@pytest.mark.load
@needs_npm
def test_npm_packages_guess_types_in_text_of_a_peer(pytestconfig):
    # That the test above can fail.
    folder = installed(pytestconfig, "readers")
    plain = "- e1\n- 012\n- yes\n- 2026-11-29\n- 1e3\n- ~\n"
    answers = json.loads(node(folder, "read.mjs", stdin=json.dumps([plain])))
    types = {reader: [value["type"] for value in found[0] if value != str(value)]
             for reader, found in answers.items()}  # fmt: skip
    assert types["yaml, YAML 1.1"] == ["number", "number", "boolean", "object", "number", "null"]
    assert types["js-yaml, core"] == ["number", "number", "null"]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("e1", False), ("E1", False), ("e12345678901234567890", False), ("e+1", False),
        ("E-07", False), ("e", True), ("ea", True), ("e1a", True), ("e1_0", True), ("e-", True),
        ("node-e1", True), ("e 1", True), ("x1", True), ("vm1", True), ("error", True),
    ],
)  # fmt: skip
def test_text_that_is_a_number_without_mantissa_is_quoted(text, plain):
    assert is_plain(text) is plain
    shown = text if plain else f'"{text}"'
    assert Suspend(vm_name=text).to_yaml() == f"---\nvm-name: {shown}\n---"


def test_compiled_writer_quotes_the_same_texts(pytestconfig):
    for text in short_texts(number_of_texts(pytestconfig)):
        assert Suspend(vm_name=text).to_yaml() == f"---\nvm-name: {write_text(text)}\n---"
