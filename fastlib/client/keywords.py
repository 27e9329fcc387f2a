"""Keyword options of the client's methods as `inspect.signature` and `help` show them."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, get_args

F = TypeVar("F", bound=Callable[..., Any])


class _NotGiven:
    """The default of an option, for `help`."""

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: Final = _NotGiven()


def keywords_of(typed: Any) -> Mapping[str, Any]:
    """Return the types of the options in a TypedDict by their names."""
    annotations: Mapping[str, Any] = typed.__annotations__  # with those of its bases
    return annotations


def shows_keywords(method: F) -> F:
    """Let `inspect.signature` list the options of a method with `**options: Unpack[…]`."""
    signature = inspect.signature(method)
    parameters = list(signature.parameters.values())
    (typed,) = get_args(parameters.pop().annotation)
    given = {parameter.name for parameter in parameters}
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=NOT_GIVEN, annotation=hint)
        for name, hint in keywords_of(typed).items()
        if name not in given
    ]
    shown: Any = method
    shown.__signature__ = signature.replace(parameters=parameters)
    return method
