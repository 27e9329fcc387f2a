"""Messages in a few words, and as rows of data: what the commands print of what travels."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from fastlib.codec.writer import write_tree
from fastlib.message import Message, Result, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress

from .terminal import printable

NOBODY: Final = ("", "n/a")
"""What stands for the name of a domain where there is none."""

_SAID: Final = {"vm-name", "status", "details"}


def row(
    time: datetime, host: str, kind: str, message: Message | None, error: Exception | None = None
) -> dict[str, Any]:
    """One message for programs; the keys are the same for all of them."""
    return {
        "time": time.isoformat(),
        "host": host,
        "kind": kind,
        "id": getattr(message, "id", None),
        "message": None if message is None else message.emit(),
        "error": None if error is None else str(error),
    }


def phrase(message: Message) -> str:
    """Any message that daemons and schedulers send, on one line."""
    if isinstance(message, ResultContainer):
        results = "; ".join(map(phrase_of_result, message.results))
        text = f"{message.result}: {results}" if results else message.result
    elif isinstance(message, TaskContainer):
        names = ", ".join(names_of(message))
        text = f"{message.task}: {names}" if names else message.task
    elif isinstance(message, Progress):
        parts = (message.task, message.vm_name, phrase_of_progress(message))
        text = ": ".join(part for part in parts if part)
    elif isinstance(message, Presence):
        known = (message.status, message.hypervisor, message.version)
        text = " ".join(part for part in known if part)
    else:
        text = repr(message)
    return printable(text)


def names_of(container: TaskContainer) -> list[str]:
    """Whom the members are about, as far as they say so by a name."""
    names = (getattr(task, "vm_name", None) for task in container.tasks)
    return [name for name in names if name]


def phrase_of_result(result: Result) -> str:
    """`vm1: error: no such domain`."""
    name = "" if result.vm_name in NOBODY else f"{result.vm_name}: "
    details = f": {result.details}" if result.details else ""
    return printable(f"{name}{result.status}{details}")


def phrase_of_progress(progress: Progress) -> str:
    """`memory 42 %`."""
    percent = "" if progress.percent is None else f" {progress.percent:.0f} %"
    return printable(f"{progress.phase}{percent}")


def further(result: Result) -> Iterator[str]:
    """The lines of what a result says beyond its status, as YAML."""
    tree = {key: value for key, value in result.emit().items() if key not in _SAID}
    if tree:
        for line in write_tree(tree, literal=True).split("\n"):
            if line != "---":
                yield printable(line)
