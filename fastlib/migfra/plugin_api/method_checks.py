"""Check the methods of a hypervisor before its first task.

The daemon calls `method(task, context)`. A method with other parameters would fail only when its
task comes. A method with a misspelt name would never be called.
"""

import inspect
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from fastlib.message import Task
from fastlib.message.task import declarations
from fastlib.migfra.errors import PluginError
from fastlib.plugin_place import place_in

from .annotation_names import hints_of, unknown_names
from .config_section import ConfigSection
from .context import Context
from .hypervisor import RESERVED, Hypervisor, method_name

_LIFE: Final = ("open", "check_open", "close", "capabilities", "outages", "migration_limits")
"""The methods without arguments that the daemon calls."""
_ASYNC: Final = ("outages",)
"""Those that must be `async`."""
_PLAIN: Final = ("capabilities", "migration_limits")
"""Those that must not be `async`."""
_AROUND: Final = ("_vm", "_task", "_node", "_domain")
"""Ends of names that a method of a task does not have."""

_OWN_TASKS: Final = frozenset({"quit", "cancel"})
"""Tasks that the daemon executes itself."""

Function = types.FunctionType


def method_problems(hypervisor: type[Hypervisor], *, is_made: bool = False) -> list[str]:
    """Return the problems of the methods of a class, each with `file:line`.

    With `is_made`, an instance exists, and the constructor is not checked.
    """
    known: Any = hypervisor  # classes can be keys, but type checkers do not accept all as such
    return list(_problems(known, tuple(declared.type for declared in declarations()), is_made))


def check_methods(hypervisor: type[Hypervisor]) -> None:
    """Raise PluginError with all problems of the methods of a hypervisor instance."""
    problems = method_problems(hypervisor, is_made=True)
    if problems:
        name = hypervisor.name or hypervisor.__name__
        raise PluginError(f"the hypervisor {name!r} is broken: {'; '.join(problems)}")


@lru_cache(maxsize=64)
def _problems(
    hypervisor: type[Hypervisor], tasks: tuple[type[Task], ...], is_made: bool
) -> tuple[str, ...]:
    return tuple(_Methods(hypervisor, tasks).problems(is_made))


class _Methods:
    """The methods of one class."""

    def __init__(self, hypervisor: type[Hypervisor], tasks: Iterable[type[Task]]) -> None:
        self._class = hypervisor
        names = {method_name(task): task for task in tasks}
        self._tasks = {name: task for name, task in names.items() if name not in RESERVED}
        self._known = {*self._tasks, "recover", *_LIFE}

    def problems(self, is_made: bool) -> Iterator[str]:
        for name, task in self._tasks.items():
            if self._own(name) is not None:
                yield from self._task_problems(name, (task,))
        if self._own("recover") is not None:
            tasks = [task for name, task in self._tasks.items() if self._own(name) is not None]
            yield from self._task_problems("recover", tasks)
        for name in _LIFE:
            yield from self._life_problems(name)
        if not is_made:
            yield from self._constructor_problems()
        yield from self._name_problems()

    def _own(self, name: str) -> Any:
        """Return the attribute of a name as it is declared, None if the base class has it."""
        for cls in self._class.__mro__:
            if cls is Hypervisor or cls is object:
                continue
            if name in vars(cls):
                return vars(cls)[name]
        return None

    # Parameters

    def _task_problems(self, name: str, tasks: Sequence[type[Task]]) -> Iterator[str]:
        """Yield the problems of a method that the daemon calls with a task and a context."""
        parameters = _parameters(self._own(name))
        if parameters is None:
            if not callable(getattr(self._class, name)):
                yield f"{self._class.__name__}.{name} must be a method, or have another name"
            return
        function, signature = parameters
        where = self._place(name, function)
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            yield f"{where} must not contain `yield`; return the outcome"
        problem = _wrong_call(signature, 2)
        if problem is not None:
            yield f"{where} must take (self, task, context); {problem}"
            return
        yield from self._annotation_problems(where, function)
        hints = hints_of(function)
        given = [each.name for each in signature.parameters.values()]
        first = hints.get(_positional(signature, 0))
        refused = [task.__name__ for task in tasks if not _accepts(first, task)]
        if refused:
            expected = "any Task" if name == "recover" else refused[0]
            yield f"{where}: {given[0]!r} must accept {expected}; its type is {_shown(first)}"
        second = hints.get(_positional(signature, 1))
        if not _accepts(second, Context):
            yield f"{where}: {given[1]!r} must accept a Context; its type is {_shown(second)}"
        if given[:2] == ["context", "task"] and first is second is None:
            yield f"{where} must take (self, task, context); it takes (self, context, task)"

    def _annotation_problems(self, where: str, function: Function) -> Iterator[str]:
        """Yield the names in annotations that the module of a method does not have."""
        for parameter, name, near in unknown_names(function):
            what = "the result" if parameter == "return" else repr(parameter)
            hint = f" (did you mean {near!r}?)" if near else ""
            yield (
                f"{where}: the type of {what} has the name {name!r}{hint}, which its module "
                "neither imports nor defines"
            )

    def _life_problems(self, name: str) -> Iterator[str]:
        """Yield the problems of a method that the daemon calls without arguments."""
        declared = self._own(name)
        parameters = None if declared is None else _parameters(declared)
        if parameters is None:
            return
        function, signature = parameters
        where = self._place(name, function)
        yield from self._annotation_problems(where, function)
        problem = _wrong_call(signature, 0)
        if problem is not None:
            yield f"{where} must take no arguments beside self; {problem}"
        is_async = inspect.iscoroutinefunction(function)
        if name in _ASYNC and not is_async:
            yield f"{where} must be `async def`"
        if name in _PLAIN and is_async:
            yield f"{where} must not be `async`: write `def`"

    def _constructor_problems(self) -> Iterator[str]:
        parameters = _parameters(self._own("__init__"))
        if parameters is not None:
            problem = _wrong_call(parameters[1], 2)
            where = self._place("__init__", parameters[0])
            yield from self._annotation_problems(where, parameters[0])
            if problem is not None:
                yield f"{where} must take (self, options, node); {problem}"

    # Names

    def _name_problems(self) -> Iterator[str]:
        """Yield the methods whose names are similar to one that the daemon calls."""
        seen = set()
        for cls in self._class.__mro__:
            if cls is Hypervisor:
                break
            for name, declared in vars(cls).items():
                if name in seen or name.startswith("_") or name in self._known:
                    continue
                seen.add(name)
                if isinstance(declared, type) and issubclass(declared, ConfigSection):
                    if name != "Options" and name.lower().rstrip("s") == "option":
                        yield (
                            f"{self._class.__name__}.{name}: the class of the options must have "
                            f"the name Options: write `Options = {declared.__name__}`"
                        )
                    continue
                parameters = _parameters(declared)
                near = None if parameters is None else self._near(name, parameters[1])
                if near is not None and parameters is not None:
                    where = self._place(name, parameters[0])
                    yield (
                        f"{where} must have the name of a task's method (did you mean {near!r}?); "
                        "begin the name of a helper with an underscore"
                    )

    def _near(self, name: str, signature: inspect.Signature) -> str | None:
        """Return the name that was probably meant."""
        if _wrong_call(signature, 2) is None:
            known = {*self._tasks, "recover"} - _OWN_TASKS
        elif _wrong_call(signature, 0) is None:
            known = {*_LIFE}
        elif "task" in signature.parameters:
            known = {*self._tasks, "recover"} - _OWN_TASKS
        else:
            return None
        plain = next((name.removesuffix(end) for end in _AROUND if name.endswith(end)), name)
        if plain in known:
            return plain
        near = [word for word in known if word[0] == name[0] and is_misspelt(name, word)]
        return min(near) if len(near) == 1 else None

    def _place(self, name: str, function: Function) -> str:
        code = function.__code__
        place = place_in(code, code.co_firstlineno).partition(",")[0]
        return f"{self._class.__name__}.{name} ({place})"


def is_misspelt(name: str, word: str) -> bool:
    """Return whether a name is a word with one letter wrong, missing, added or swapped.

    Added letters at the end, as in `started` or `closed`, make another word.
    """
    if name == word or len(word) < 4 or name.startswith(word):
        return False
    if len(name) == len(word):
        wrong = [i for i, (a, b) in enumerate(zip(name, word, strict=True)) if a != b]
        if len(wrong) == 2 and wrong[1] == wrong[0] + 1:
            return name[wrong[0]] == word[wrong[1]] and name[wrong[1]] == word[wrong[0]]
        return len(wrong) == 1
    longer, shorter = (name, word) if len(name) > len(word) else (word, name)
    return len(longer) == len(shorter) + 1 and any(
        longer[:i] + longer[i + 1 :] == shorter for i in range(len(longer))
    )


def _parameters(declared: Any) -> tuple[Function, inspect.Signature] | None:
    """Return a method's function and its signature without self; None if it is not a function."""
    is_bound = not isinstance(declared, staticmethod)
    if isinstance(declared, staticmethod | classmethod):
        declared = declared.__func__
    if not inspect.isfunction(declared):
        return None
    signature = inspect.signature(declared)
    if is_bound:
        parameters = list(signature.parameters.values())
        if parameters and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
            signature = signature.replace(parameters=parameters[1:])
    function = inspect.unwrap(declared)
    return (function if inspect.isfunction(function) else declared), signature


def _wrong_call(signature: inspect.Signature, arguments: int) -> str | None:
    """Return why a call with a number of positional arguments fails, None if it does not."""
    try:
        signature.bind(*range(arguments))
    except TypeError as error:
        names = ", ".join(map(str, signature.replace(return_annotation=inspect.Signature.empty)
                              .parameters.values()))  # fmt: skip
        return f"it takes (self{', ' if names else ''}{names}): {error}"
    return None


def _positional(signature: inspect.Signature, index: int) -> str:
    """Return the name of the parameter that takes the positional argument of an index."""
    bound = signature.bind(*range(2))
    return next((name for name, value in bound.arguments.items() if value == index), "*")


def _accepts(hint: Any, cls: type[Any]) -> bool:
    """Return False if a parameter's type certainly refuses a class."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(each, cls) for each in typing.get_args(hint))
    if origin is typing.Annotated:
        return _accepts(typing.get_args(hint)[0], cls)
    if hint is None or hint is Any or isinstance(hint, typing.TypeVar) or origin is not None:
        return True
    if not isinstance(hint, type) or getattr(hint, "_is_protocol", False):
        return True
    return issubclass(cls, hint)


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
