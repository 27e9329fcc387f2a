"""Check the types of arguments that users pass: a TypeError names the argument and the remedy.

No error shows a text that was passed: it may be a URL with a password.
"""

import inspect
import re
import types
from collections.abc import Callable, Hashable, Iterable
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fastlib.codec.load_context import nearest_word

F = TypeVar("F", bound=Callable[..., Any])

_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]+(?:\.[0-9]+)?\s*")
_SECRET: Final = ("username", "password", "key_password")
_WORDS: Final[dict[type, str]] = {
    str: "a str",
    bytes: "bytes",
    bool: "a bool",
    int: "an int",
    float: "a number",
    Path: "a Path",
    type(None): "None",
}


def check_seconds(name: str, value: Any, *, optional: bool = True) -> None:
    """Check that a time in seconds is a number, or None if that is `optional`.

    Raises TypeError, and ValueError for NaN. A negative number is the caller's decision.
    """
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        wanted = "a number of seconds" + (" or None" if optional else "")
        raise TypeError(_text(name, wanted, value))
    if value != value:
        raise ValueError(f"`{name}` must be a number of seconds, not NaN")


def check_int(name: str, value: Any, *, optional: bool = False) -> None:
    """Check that an argument is an int, or None if that is `optional`. Raises TypeError."""
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(_text(name, "an int or None" if optional else "an int", value))


def check_str(name: str, value: Any, *, optional: bool = False) -> None:
    """Check that an argument is a str, or None if that is `optional`. Raises TypeError."""
    if not isinstance(value, str) and not (value is None and optional):
        raise TypeError(_text(name, "a str or None" if optional else "a str", value))


def check_bool(name: str, value: Any) -> None:
    """Check that an argument is True or False. Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(_text(name, "True or False", value))


def check_callable(name: str, value: Any, *, optional: bool = False) -> None:
    """Check that an argument can be called, or is None if that is `optional`. Raises TypeError."""
    if not callable(value) and not (value is None and optional):
        raise TypeError(_text(name, "a function" + (" or None" if optional else ""), value))


def check_names(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check the names of keyword arguments. Raises TypeError with all that are unknown."""
    known = list(known)
    problems = []
    for name in given:
        if name in known:
            continue
        near = nearest_word(name, known)
        hint = f" (did you mean {near!r}?)" if near else f"; known are {', '.join(known)}"
        problems.append(f"unknown argument {name!r}{hint}")
    if problems:
        raise TypeError(f"{where}: {'; '.join(problems)}")


def checks_names(function: F) -> F:
    """Let a function name the nearest argument for each misspelt one. Python does so since 3.13."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    names = [each.name for each in parameters if each.kind in kinds]
    known = [name for name in names if name not in ("self", "cls")]
    where = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        check_names(where, named, known)
        return function(*arguments, **named)

    @wraps(function)
    async def checked_async(*arguments: Any, **named: Any) -> Any:
        check_names(where, named, known)
        return await function(*arguments, **named)

    return cast("F", checked_async if inspect.iscoroutinefunction(function) else checked)


def check_fields(struct: Any) -> None:
    """Check that each field of a struct has a value of its type. Raises TypeError.

    A Literal is not checked: its values have errors of their own.
    """
    for name, accepts, words in _checks(cast("Hashable", type(struct))):
        value = getattr(struct, name)
        if not accepts(value):
            raise TypeError(_text(name, words, value))


def _text(name: str, wanted: str, value: Any) -> str:
    remedy = ""
    if isinstance(value, str) and name not in _SECRET and _NUMBER.fullmatch(value):
        remedy = f": write {name}={value.strip()} without quotes"
    found = "None" if value is None else _with_article(type(value))
    return f"`{name}` must be {wanted}, not {found}{remedy}"


def _with_article(kind: type) -> str:
    if kind in (int, str, bool, bytes):
        return _WORDS[kind]
    name = kind.__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


@cache
def _checks(kind: Any) -> tuple[tuple[str, Callable[[Any], bool], str], ...]:
    found = []
    for name, hint in get_type_hints(kind).items():
        kinds = _kinds(hint)
        if kinds is not None:
            found.append((name, _acceptor(kinds), " or ".join(_with_words(kinds))))
    return tuple(found)


def _kinds(hint: Any) -> tuple[type, ...] | None:
    """Return the classes that a type hint allows; None if it is not a union of classes."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    kinds: list[type] = []
    for part in parts:
        origin = get_origin(part)
        if origin is Literal:
            return None
        kind = origin or part
        if not isinstance(kind, type):
            return None
        kinds.append(kind)
    return tuple(kinds)


def _acceptor(kinds: tuple[type, ...]) -> Callable[[Any], bool]:
    allowed = (*kinds, int) if float in kinds else kinds
    takes_bool = bool in kinds

    def accepts(value: Any) -> bool:
        return isinstance(value, allowed) and (takes_bool or not isinstance(value, bool))

    return accepts


def _with_words(kinds: tuple[type, ...]) -> list[str]:
    return [_WORDS.get(kind) or _with_article(kind) for kind in kinds]
