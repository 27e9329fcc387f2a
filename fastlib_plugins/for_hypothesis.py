"""Register every message at Hypothesis, so `st.from_type(Start)` follows the rules of the message.

Hypothesis searches for exactly the requested type, so each type is registered. The hook registers
the types that are declared before the import of Hypothesis; `fastlib.message.base` registers later
ones.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def _hypothesis_setup_hook() -> None:
    """Register all declared messages. Hypothesis calls this when it is imported."""
    base = sys.modules.get("fastlib.message.base")
    if base is not None:
        _declared_below(base.Serializable)


def _declared_below(cls: type[Any]) -> None:
    for below in cls.__subclasses__():
        declared(below)
        _declared_below(below)


def declared(cls: type[Any]) -> None:
    """Register one message at Hypothesis."""
    from hypothesis.strategies import register_type_strategy

    register_type_strategy(cls, _strategy)


def _strategy(cls: type[Any]) -> "SearchStrategy[Any]":
    from fastlib.testing.by_type import strategy_of

    return strategy_of(cls)
