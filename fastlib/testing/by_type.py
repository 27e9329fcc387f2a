"""The strategy for a type that a test, or a function that it builds, names."""

from typing import Any

from hypothesis import strategies as st

from fastlib.message import Message, Task
from fastlib.message.base import Serializable

from .registered import declared_tasks
from .strategies import from_message, messages


def strategy_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Return instances of a message type; for `Message` and `Task` those of declared subclasses.

    Return NotImplemented for other types. Hypothesis also asks for these, because every message is
    an `object`.
    """
    if not isinstance(cls, type) or not issubclass(cls, Serializable):
        unknown: st.SearchStrategy[Any] = NotImplemented
        return unknown
    if cls is Message:
        return messages()
    if cls is Task:  # no container can hold a task without a title
        return st.deferred(lambda: st.sampled_from(declared_tasks()).flatmap(from_message))
    return from_message(cls)
