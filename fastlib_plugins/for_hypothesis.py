"""Tells Hypothesis of every message, so that `st.from_type(Start)` keeps all that holds for one.

Hypothesis looks for exactly the type that it is asked for, so each is registered. The hook finds
those that are declared before Hypothesis is imported; of later ones `fastlib.message.base` tells.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def _hypothesis_setup_hook() -> None:
    """What Hypothesis calls when it is imported."""
    base = sys.modules.get("fastlib.message.base")
    if base is not None:
        _declared_below(base.Serializable)


def _declared_below(cls: type[Any]) -> None:
    for below in cls.__subclasses__():
        declared(below)
        _declared_below(below)


def declared(cls: type[Any]) -> None:
    """Tells Hypothesis of one message."""
    from hypothesis.strategies import register_type_strategy

    register_type_strategy(cls, _strategy)


def _strategy(cls: type[Any]) -> "SearchStrategy[Any]":
    from fastlib.testing.by_type import strategy_of

    return strategy_of(cls)
