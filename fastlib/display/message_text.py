"""Summarize messages in one line of text."""

from collections.abc import Iterable, Iterator
from typing import Final

from fastlib.codec.instants import write_instant
from fastlib.codec.writer import write_tree
from fastlib.message import Evacuate, Message, Migrate, Result, ResultContainer, TaskContainer
from fastlib.message.node import Presence, Progress
from fastlib.message.result_container import CANCELLED_BEFORE, NOT_BEGUN

from .text import join_names, printable, word

NO_DOMAIN: Final = ("", "n/a")
"""Values of `vm-name` in results and progress that are about no domain."""
MAX_ERRORS: Final = 3
"""Errors that `summarize_briefly` lists at most."""

_SUMMARIZED: Final = {"vm-name", "status", "details"}
"""Keys of a result that `summarize_result` covers."""


# --- complete -------------------------------------------------------------------------------------


def summarize(message: Message) -> str:
    """Return every domain, status and detail of a message on one line."""
    if isinstance(message, ResultContainer):
        results = "; ".join(map(summarize_result, message.results))
        text = f"{message.result}: {results}" if results else message.result
        if (repeated := answered_from_journal(message)) is not None:
            text += f"; {repeated}"
    elif isinstance(message, TaskContainer):
        names = ", ".join(map(word, domain_names(message)))
        text = f"{message.task}: {names}" if names else message.task
    elif isinstance(message, Progress):
        parts = (message.task, _domain_word(message), format_phase(message))
        text = ": ".join(part for part in parts if part)
    elif isinstance(message, Presence):
        since = ""
        if message.status == "offline" and message.time is not None:
            since = f"since {write_instant(message.time)}"
        known = (message.status, since, message.hypervisor, message.version)
        text = " ".join(part for part in known if part)
        if message.degraded:
            text += f", degraded: {message.degraded}"
    else:
        text = repr(message)
    return printable(text)


def domain_names(container: TaskContainer) -> list[str]:
    """Return the names of the domains that the members name."""
    names = (getattr(task, "vm_name", None) for task in container.tasks)
    return [name for name in names if name]


def domain_of(progress: Progress) -> str | None:
    """Return the domain that a report of progress is about, None for the whole task."""
    return None if progress.vm_name in NO_DOMAIN else progress.vm_name


def _domain_word(progress: Progress) -> str | None:
    domain = domain_of(progress)
    return None if domain is None else word(domain)


def summarize_result(result: Result) -> str:
    """Return for example `vm1: error: no such domain`."""
    name = "" if result.vm_name in NO_DOMAIN else f"{word(result.vm_name)}: "
    details = f": {result.details}" if result.details else ""
    return printable(f"{name}{result.status}{details}")


def format_phase(progress: Progress) -> str:
    """Return for example `memory 42 %`, or `queued, place 3`."""
    percent = "" if progress.percent is None else f" {progress.percent:.0f} %"
    place = "" if progress.position is None else f", place {progress.position}"
    return printable(f"{progress.phase}{percent}{place}")


def answered_from_journal(results: ResultContainer) -> str | None:
    """Return the sentence about an answer to a repeated order; None for a first answer."""
    if results.executed is None:
        return None
    executed = write_instant(results.executed)
    details = [result.details or "" for result in results.results]
    if all(text.startswith(NOT_BEGUN) for text in details):
        return f"answered from the journal: expired, refused at {executed}, never executed"
    if all(text.startswith((NOT_BEGUN, CANCELLED_BEFORE)) for text in details):
        return f"answered from the journal: cancelled, ended at {executed}, never executed"
    return f"answered from the journal: executed at {executed}, not executed again"


def extra_result_lines(result: Result) -> Iterator[str]:
    """Yield the fields of a result that `summarize_result` leaves out, as lines of YAML."""
    tree = {key: value for key, value in result.emit().items() if key not in _SUMMARIZED}
    if tree:
        for line in write_tree(tree, literal=True).split("\n"):
            if line != "---":
                yield printable(line)


# --- brief ----------------------------------------------------------------------------------------


def summarize_briefly(message: Message | None) -> str:
    """Return a message on one short line, without host and id; None is an unreadable one."""
    if isinstance(message, TaskContainer):
        return printable(f"{message.task}{_task_details(message)}")
    if isinstance(message, ResultContainer):
        return printable(f"{message.result}: {_group_results(message.results)}")
    if isinstance(message, Presence):
        return f"is {message.status}" + (", degraded" if message.degraded else "")
    if isinstance(message, Progress):
        about = " ".join(filter(None, (message.task, _domain_word(message))))
        return printable(f"{about}: {format_phase(message)}")
    return "unreadable message" if message is None else printable(repr(message))


def _task_details(container: TaskContainer) -> str:
    names = join_names(map(word, domain_names(container)))
    text = f" {names}" if names else ""
    task = next(iter(container.tasks), None)
    if isinstance(task, Migrate):
        swapped = task.parameter and task.parameter.swap_with
        text += f" to {task.destination}"
        text += f" in exchange for {swapped.vm_name}" if swapped else ""
    elif isinstance(task, Evacuate):
        text += f" to {join_names(task.destinations)}"
    elif (id := getattr(task, "id", None)) is not None:
        text += f" {word(id)}"
    return text


def _group_results(results: Iterable[Result]) -> str:
    """List the successes together, then errors with their reasons."""
    listed = list(results)
    good = [result.vm_name for result in listed if result.status == "success"]
    names = join_names(word(name) for name in good if name not in NO_DOMAIN)
    parts = [f"success{f' {names}' if names else ''}"] if good else []
    if len(listed) == 1 and good and listed[0].details:
        parts = [f"{parts[0]}: {listed[0].details}"]
    bad = [result for result in listed if result.status != "success"]
    parts += [f"error {word(result.vm_name)}: {result.details}" for result in bad[:MAX_ERRORS]]
    parts += [f"{len(bad) - MAX_ERRORS} more errors"] if len(bad) > MAX_ERRORS else []
    return "; ".join(parts)
