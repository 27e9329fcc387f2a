"""Test whether a message is read back equal from all its written forms."""

import typing
from functools import partial
from random import Random
from typing import Any

from fastlib.codec.dispatch import Style
from fastlib.codec.errors import MessageError
from fastlib.message import ResultContainer, load, validate
from fastlib.message.registry import titles
from fastlib.message.result_container import UNREADABLE

from .choices import RandomChoices
from .differences import differences, same
from .registered import check_type, is_titled
from .yaml_variants import yaml_variant

SPELLINGS: typing.Final = 8
"""The number of spellings of each message that are tried."""


def assert_round_trip(message: Any, *, spellings: int = SPELLINGS, seed: int = 0) -> None:
    """Assert that a message is read back equal from all its written forms.

    These are its plain tree, its text in every style, as text and as bytes, and a number of other
    `spellings`, the same ones for the same `seed`. If a title identifies the type, `load` must find
    it. `validate` must report nothing. The error shows the text and the difference.
    """
    __tracebackhide__ = True
    cls = check_type(type(message))
    tree = message.emit()
    _same(message, partial(cls.load, tree), "its plain tree", repr(tree))
    for style in typing.get_args(Style):
        text = message.to_yaml(style=style)
        what = f"its text in the style {style!r}"
        _same(message, partial(cls.from_yaml, text), what, text)
        _same(message, partial(cls.from_yaml, text.encode()), f"the bytes of {what}", text)
        if is_titled(cls):
            _same(message, partial(load, text), f"load() of {what}", text)
    _quiet(message, message.to_yaml())
    rng = Random(seed)  # noqa: S311 - spellings are no secrets
    for _ in range(spellings):
        text = yaml_variant(message, RandomChoices(rng))
        _same(message, partial(cls.from_yaml, text), "another spelling", text)


def _same(message: Any, read: typing.Callable[[], Any], what: str, written: str) -> None:
    __tracebackhide__ = True
    name = type(message).__name__
    try:
        again = read()
    except MessageError as error:
        raise AssertionError(
            f"{name}: {what} cannot be read back\n{_indented(str(error))}\nwritten:\n"
            f"{_indented(written)}"
        ) from None
    if type(again) is type(message) and same(again, message) and repr(again) == repr(message):
        return
    if type(again) is not type(message):
        reasons = [f"it is a {type(again).__name__}"]
    else:
        reasons = list(differences(message.emit(), again.emit())) or [
            f"{message!r}, not {again!r}, although both are written in the same way"
        ]
    lines = _indented("\n".join(reasons))
    raise AssertionError(
        f"{name}: {what} reads back as another message\n{lines}\nwritten:\n{_indented(written)}"
    )


def _quiet(message: Any, text: str) -> None:
    """Assert that a text has no problem, except a title that no task declares."""
    __tracebackhide__ = True
    known = (*titles("result"), UNREADABLE)
    strange = isinstance(message, ResultContainer) and message.result not in known
    problems = [
        problem
        for problem in validate(text, type(message)).problems
        if not (strange and problem.code == "unknown-title")
    ]
    if problems:
        lines = _indented("\n".join(map(str, problems)))
        raise AssertionError(
            f"{type(message).__name__}: validate() reports problems of its own text\n{lines}\n"
            f"written:\n{_indented(text)}"
        )


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))
