"""Which class a title stands for: filled by the class statements, read by everyone."""

from typing import Any, Literal

from fastlib.codec.errors import DeclarationError

TitleKey = Literal["task", "result"]

_classes: dict[tuple[TitleKey, str], type[Any]] = {}


def check_title(key: TitleKey, title: object, cls: type[Any]) -> None:
    """Raises DeclarationError if `key: title` cannot stand for a class.

    A class and its new self, as after a module is reloaded, are the same.
    """
    name = f"{cls.__module__}.{cls.__qualname__}"
    if not isinstance(title, str) or not title:
        raise DeclarationError(f"{name}: a title is text, and not empty; got {title!r}")
    old = _classes.get((key, title))
    if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
        raise DeclarationError(
            f"{name}: the title '{key}: {title}' is taken by {old.__module__}.{old.__qualname__}"
        )


def register(key: TitleKey, title: str, cls: type[Any]) -> None:
    """Lets `key: title` stand for a class. Raises DeclarationError if it cannot."""
    check_title(key, title, cls)
    _classes[key, title] = cls


def class_of_title(key: TitleKey, title: str) -> type[Any] | None:
    """The class that a title stands for: a task, or a message that is no member of a container."""
    return _classes.get((key, title))


def titles(key: TitleKey) -> list[str]:
    """Every title that stands after `key`, in the order of declaration."""
    return [title for k, title in _classes if k == key]
