"""Describe tasks on one line, for the log: the domain and every option that was given."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from fastlib.codec.printable import word
from fastlib.message import Task, TaskContainer

MAX_NAMES: Final = 20
"""Names in one line, at most; the others are counted."""
MAX_CHARACTERS: Final = 100
"""Maximum number of characters of one value in a line."""


def only_domain(container: TaskContainer) -> str | None:
    """Return the domain of a container with one task, None for all others."""
    return domain_of(container.tasks[0]) if len(container.tasks) == 1 else None


def domain_of(task: Task) -> str | None:
    """Return the domain that a task names by its own key, not that of its XML."""
    name = getattr(task, "vm_name", None)
    return str(name) if name else None


def describe_container(
    container: TaskContainer, domains: Sequence[str | None] | None = None
) -> str:
    """Describe a container: its task in full, or the number of its tasks and their domains.

    `domains` are those of its tasks, if they are known better than by `domain_of`.
    """
    tasks = container.tasks
    names = [domain_of(task) for task in tasks] if domains is None else domains
    if not tasks:
        return f"{container.task}, without members"
    if len(tasks) == 1:
        return describe_task(tasks[0], names[0])
    subjects = (
        _describe_options(task) or task.declaration.task if name is None else _shorten(name)
        for task, name in zip(tasks, names, strict=True)
    )
    return f"{container.task}, {len(tasks)} members: {_join(subjects, len(tasks))}"


def describe_task(task: Task, domain: str | None) -> str:
    """Describe a task by its title, its domain, and the options that it gives, as on the wire."""
    subject = "" if domain is None else f" of {_shorten(domain)}"
    options = _describe_options(task)
    return f"{task.declaration.task}{subject}{options and f', {options}'}"


def _describe_options(task: Task) -> str:
    options = task.emit()
    options.pop("vm-name", None)
    return ", ".join(_options(options))


def shorten_list(names: Iterable[str], count: int) -> str:
    """Join the first of `count` names, and say how many are left out."""
    return _join(map(_shorten, names), count)


def _join(parts: Iterable[str], count: int) -> str:
    shown = ", ".join(islice(parts, MAX_NAMES))
    return shown if count <= MAX_NAMES else f"{shown} and {count - MAX_NAMES} more"


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from (f"{key} {part}" if _is_swap(key) else part for part in _options(value))
        elif key == "xml":
            yield f"xml of {len(str(value))} characters"
        else:
            yield f"{key} {_text(value)}"


def _is_swap(key: str) -> bool:
    """Return whether the keys below this one are those of another domain."""
    return key == "swap-with"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _shorten(value)
    if isinstance(value, Sequence):
        return _list_text(value)
    return str(value)


def _list_text(values: Sequence[Any]) -> str:
    """Return a list whose end is left out if it has too many members or characters."""
    parts: list[str] = []
    room = MAX_CHARACTERS
    for value in values:
        part = _text(value)
        room -= len(part)
        if parts and (room < 0 or len(parts) == MAX_NAMES):
            return f"[{', '.join(parts)}, …]"
        parts.append(part)
    return f"[{', '.join(parts)}]"


def _shorten(text: str) -> str:
    """Return a text as one field of a line, which cannot be taken for other options."""
    return word(text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…")
