"""Hypothesis strategies of every message that is declared, also by other packages::

    from hypothesis import given

    from fastlib.testing import strategies as fast

    @given(fast.containers())
    def test_my_scheduler(container):
        ...

They keep every constraint and rule of the declarations, and shrink to short messages. Hypothesis
knows them by the types, too: `st.from_type(Start)`, `st.builds(function)`.
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
    """Any message that is declared when the first one is drawn.

    `texts` are those of the fields of free text: by default any, `NAMES` are such as the names of
    hosts, `PLAIN_TEXTS` one printable line.
    """
    return _messages(texts)


@st.composite
def _messages(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Message:
    message: Message = draw(structs(draw(one_of_types(tuple(registered()))), texts))
    return message


def containers(
    *, texts: st.SearchStrategy[str] = TEXTS
) -> st.SearchStrategy[TaskContainer | ResultContainer]:
    """Containers of tasks and of results, of every title; `texts` as for `messages`."""
    return st.one_of(structs(TaskContainer, texts), structs(ResultContainer, texts))


def from_message(
    cls: type[Spoken], *, texts: st.SearchStrategy[str] = TEXTS
) -> st.SearchStrategy[Spoken]:
    """Messages of exactly one type, also of another package's; `texts` as for `messages`.

    Raises TypeError for what is no type of message.
    """
    return structs(check_type(cls), texts)


def yaml_texts(message: Any, *, other_words: bool = False) -> st.SearchStrategy[str]:
    """Texts of one message in many spellings of YAML, each of which reads as this very message.

    They shrink to the plainest spelling. With `other_words` also in other words of the protocol,
    which fastlib understands and never writes, such as a field's other keys.
    """
    check_type(type(message))
    return _spellings.yaml_texts(message, other_words)


def invalid(
    cls: type[Any], *, texts: st.SearchStrategy[str] = PLAIN_TEXTS
) -> st.SearchStrategy[InvalidText]:
    """Texts with one mistake, each with the problem that is to be told: where, and of what kind.

    A text with an unknown key, whose `severity` is `warning`, can be read all the same.
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
