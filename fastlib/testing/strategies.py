"""Hypothesis strategies of every declared message, also of other packages::

    from hypothesis import given

    from fastlib.testing import strategies as fast

    @given(fast.containers())
    def test_my_scheduler(container):
        ...

They keep every constraint and rule of the declarations, and shrink to short messages. Hypothesis
also finds them by the types: `st.from_type(Start)`, `st.builds(function)`.
"""

from typing import Any, TypeVar

from fastlib.extras import needs_extra

with needs_extra("the generation of messages", "hypothesis"):
    from hypothesis import strategies as st

from fastlib.codec.derivation import shape_of
from fastlib.message import Message, ResultContainer, TaskContainer

from . import yaml_texts as _spellings
from .mutations import InvalidText, MistakeKind, edits_of, made
from .registered import check_type, registered
from .texts import NAMES, PLAIN_TEXTS, TEXTS
from .values import one_of_types, structs

__all__ = [
    "NAMES",
    "PLAIN_TEXTS",
    "TEXTS",
    "InvalidText",
    "MistakeKind",
    "containers",
    "from_message",
    "invalid",
    "messages",
    "yaml_texts",
]

Spoken = TypeVar("Spoken")


def messages(*, texts: st.SearchStrategy[str] = TEXTS) -> st.SearchStrategy[Message]:
    """Return a strategy of all messages that are declared at the first draw.

    `texts` is the strategy of free text fields. By default it has any texts; `NAMES` has texts like
    host names, `PLAIN_TEXTS` single printable lines.
    """
    return _messages(texts)


@st.composite
def _messages(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Message:
    message: Message = draw(structs(draw(one_of_types(tuple(registered()))), texts))
    return message


def containers(
    *, texts: st.SearchStrategy[str] = TEXTS
) -> st.SearchStrategy[TaskContainer | ResultContainer]:
    """Return containers of tasks and of results, with every title; `texts` as for `messages`."""
    return st.one_of(structs(TaskContainer, texts), structs(ResultContainer, texts))


def from_message(
    cls: type[Spoken], *, texts: st.SearchStrategy[str] = TEXTS
) -> st.SearchStrategy[Spoken]:
    """Return messages of exactly one type, also another package's; `texts` as for `messages`.

    Raises TypeError if it is not a message type.
    """
    return structs(check_type(cls), texts)


def yaml_texts(message: Any, *, other_words: bool = False) -> st.SearchStrategy[str]:
    """Return texts of one message in many YAML spellings. Each one reads as this message.

    They shrink to the plainest spelling. With `other_words`, they also have other words of the
    protocol that fastlib reads and never writes, such as a field's other keys.
    """
    check_type(type(message))
    return _spellings.yaml_texts(message, other_words)


def invalid(
    cls: type[Any], *, texts: st.SearchStrategy[str] = PLAIN_TEXTS
) -> st.SearchStrategy[InvalidText]:
    """Return texts with one mistake, each with the place and kind of the problem to report.

    A text with an unknown key, whose `severity` is `warning`, can still be read.
    """
    return _invalid(check_type(cls), texts)


_NUMBERS = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda d: d[0] * 100 + d[1])


@st.composite
def _invalid(draw: st.DrawFn, cls: type[Any], texts: st.SearchStrategy[str]) -> InvalidText:
    message = draw(structs(cls, texts))
    tree = message.emit()
    found = edits_of(shape_of(cls), tree)
    kinds = list(dict.fromkeys(edit.mistake for edit in found))
    kind = kinds[draw(_NUMBERS) % len(kinds)]
    of_kind = [edit for edit in found if edit.mistake == kind]
    return made(of_kind[draw(_NUMBERS) % len(of_kind)], tree)
