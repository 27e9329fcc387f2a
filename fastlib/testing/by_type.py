"""The strategy that stands for a type where a test, or a function that it builds, names one."""

from typing import Any

from hypothesis import strategies as st

from fastlib.message import Message, Task
from fastlib.message.base import Serializable

from .registered import declared_tasks
from .strategies import from_message, messages


def strategy_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a type: of a message itself, of `Message` and `Task` what is declared below.

    NotImplemented for other types, which Hypothesis asks for, too: to it every message is an
    `object`.
    """
    if not isinstance(cls, type) or not issubclass(cls, Serializable):
        unknown: st.SearchStrategy[Any] = NotImplemented
        return unknown
    if cls is Message:
        return messages()
    if cls is Task:  # one without a title can be in no container
        return st.deferred(lambda: st.sampled_from(declared_tasks()).flatmap(from_message))
    return from_message(cls)
