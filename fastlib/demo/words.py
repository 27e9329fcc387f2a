"""Messages in a few words."""

from collections.abc import Iterable
from typing import Any, Final

from fastlib.message import Evacuate, Migrate, Result, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress

from .witness import NOBODY

MOST_NAMES: Final = 8


def words_of(message: Any) -> str:
    """A message on one line, without a host or an id."""
    if isinstance(message, TaskContainer):
        return f"{message.task}{_about(message)}"
    if isinstance(message, ResultContainer):
        return printable(f"{message.result}: {_outcomes(message.results)}")
    if isinstance(message, Presence):
        return f"is {message.status}"
    if isinstance(message, Progress):
        percent = "" if message.percent is None else f" {message.percent:.0f} %"
        return printable(f"{message.task} {message.vm_name or ''}: {message.phase}{percent}")
    return "something that cannot be read"


def flow(tree: Any) -> str:
    """A plain tree as YAML on one line."""
    if isinstance(tree, dict):
        return f"{{{_pairs(tree)}}}"
    if isinstance(tree, list):
        return f"[{', '.join(map(flow, tree))}]"
    return _scalar(tree)


def on_one_line(message: Any) -> str:
    """A message as YAML on one line, its outer braces left out."""
    return printable(_pairs(message.emit()))


def _pairs(tree: dict[str, Any]) -> str:
    return ", ".join(f"{key}: {flow(value)}" for key, value in tree.items())


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    plain = text and not set(text) & set(",[]{}#&*!|>'\"%@`") and ": " not in text
    return text if plain else repr(text)


def printable(text: str) -> str:
    """The text with nothing in it that a terminal would obey."""
    return text if text.isprintable() else repr(text)[1:-1]


def names(found: Iterable[str]) -> str:
    """Names, not too many of them."""
    listed = list(found)
    if len(listed) > MOST_NAMES:
        return f"{', '.join(listed[: MOST_NAMES - 1])} and {len(listed) - MOST_NAMES + 1} more"
    return ", ".join(listed)


def count(number: int, what: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def size(number: float) -> str:
    """Bytes in the unit that suits them."""
    value = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float) -> str:
    """Seconds, small ones as milliseconds."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _about(container: TaskContainer) -> str:
    vms = names(name for task in container.tasks if (name := getattr(task, "vm_name", None)))
    about = f" {vms}" if vms else ""
    task = next(iter(container.tasks), None)
    if isinstance(task, Migrate):
        swapped = task.parameter and task.parameter.swap_with
        about += f" to {task.destination}"
        about += f" while {swapped.vm_name} comes back" if swapped else ""
    elif isinstance(task, Evacuate):
        about += f" to {names(task.destinations)}"
    elif (id := getattr(task, "id", None)) is not None:
        about += f" {id}"
    return printable(about)


def _outcomes(results: Iterable[Result]) -> str:
    """Successes together, and errors with their reasons."""
    listed = list(results)
    good = [result.vm_name for result in listed if result.status == "success"]
    named = names(name for name in good if name not in NOBODY)
    told = [f"success{f' {named}' if named else ''}"] if good else []
    if len(listed) == 1 and good and listed[0].details:
        told = [f"{told[0]}: {listed[0].details}"]
    bad = [result for result in listed if result.status != "success"]
    told += [f"error {result.vm_name}: {result.details}" for result in bad[:3]]
    told += [f"{len(bad) - 3} more errors"] if len(bad) > 3 else []
    return "; ".join(told)
