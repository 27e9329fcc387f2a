"""The registry: every declared message, the titles, and the tasks. Class statements fill it.

There is one registry, `REGISTRY`. Its state, with the extensions of tasks, can be saved and
restored. `fastlib.testing.isolated_registry` does so for tests.
"""

from typing import Any, Literal

from fastlib.codec import extensions
from fastlib.codec.caches import clear_derived_caches
from fastlib.codec.errors import DeclarationError

TitleKey = Literal["task", "result"]


class Snapshot:
    """The state of the registry at one moment."""

    __slots__ = ("extensions", "tables")

    def __init__(self, tables: tuple[dict[Any, Any], ...], extended: extensions.Snapshot) -> None:
        self.tables = tables
        self.extensions = extended

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return (self.tables, self.extensions) == (other.tables, other.extensions)

    __hash__ = None  # type: ignore[assignment]

    def declaring_modules(self) -> set[str]:
        """Return the names of all modules that declared a message."""
        messages = self.tables[0]
        return {module for module, _ in messages}


class Registry:
    """All declarations of class statements.

    The modules that fill the tables of tasks and of entry points import this one, and know the
    types of their values.
    """

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], type[Any]] = {}
        """Every declared message by module and qualified name, in the order of declaration.

        A reloaded module's class replaces the old one.
        """
        self.titles: dict[tuple[TitleKey, str], type[Any]] = {}
        """The class of each title."""
        self.tasks: dict[str, Any] = {}
        """The declaration of every task by its title, in the order of declaration."""
        self.tasks_by_result: dict[str, Any] = {}
        """The same by the title of its results."""
        self.tasks_by_type: dict[type[Any], Any] = {}
        """The same by its class."""
        self.loaded_entry_points: dict[tuple[str, str], Any] = {}
        """The outcome of each entry point that was loaded, by distribution and entry point."""
        self._tables: tuple[dict[Any, Any], ...] = (
            self.messages,
            self.titles,
            self.tasks,
            self.tasks_by_result,
            self.tasks_by_type,
            self.loaded_entry_points,
        )

    def snapshot(self) -> Snapshot:
        """Return the current state, for `restore`."""
        return Snapshot(tuple(table.copy() for table in self._tables), extensions.snapshot())

    def restore(self, snapshot: Snapshot) -> None:
        """Restore an earlier state, and clear the caches of the current one."""
        if snapshot == self.snapshot():
            return
        for table, saved in zip(self._tables, snapshot.tables, strict=True):
            table.clear()
            table.update(saved)
        extensions.restore(snapshot.extensions)
        clear_derived_caches()


REGISTRY = Registry()
"""The registry of this process."""


def check_title(key: TitleKey, title: object, cls: type[Any]) -> None:
    """Raise DeclarationError if `key: title` cannot identify a class.

    The class of a reloaded module counts as the earlier class.
    """
    name = f"{cls.__module__}.{cls.__qualname__}"
    if not isinstance(title, str) or not title:
        raise DeclarationError(f"{name}: a title must be a text, not empty; got {title!r}")
    old = REGISTRY.titles.get((key, title))
    if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
        raise DeclarationError(
            f"{name}: the title '{key}: {title}' is taken by {old.__module__}.{old.__qualname__}"
        )


def register(key: TitleKey, title: str, cls: type[Any]) -> None:
    """Let `key: title` identify a class. Raise DeclarationError if it cannot."""
    check_title(key, title, cls)
    REGISTRY.titles[key, title] = cls


def class_of_title(key: TitleKey, title: str) -> type[Any] | None:
    """Return the class of a title: a task, or a message outside of containers."""
    return REGISTRY.titles.get((key, title))


def titles(key: TitleKey) -> list[str]:
    """Return every title of `key`, in the order of declaration."""
    return [title for k, title in REGISTRY.titles if k == key]
