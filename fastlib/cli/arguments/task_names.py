"""Name the commands of tasks: `fastlib migrate` sends `migrate vm`."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from fastlib.codec.own_doc import own_doc
from fastlib.message.task import TaskDeclaration, declarations

_OWN = f"{__name__.partition('.')[0]}."


def task_commands(taken: Collection[str]) -> dict[str, TaskDeclaration]:
    """Return the declared tasks by the names of their commands, which avoid the `taken` names.

    A name is the first word of the title. If several titles have the same first word, the name is
    the whole title with hyphens; only the one that fastlib itself declares first keeps the word.
    Tasks of other packages never change the names of fastlib's own. Tasks that are declared without
    a command are left out.
    """
    with_command = [declared for declared in declarations() if declared.has_command]
    own = [declared for declared in with_command if _is_own(declared)]
    others = [declared for declared in with_command if not _is_own(declared)]
    found = dict(_named(own, set(taken), shared=()))
    shared = {word for word, number in Counter(map(_first_word, others)).items() if number > 1}
    found.update(_named(others, {*taken, *found}, shared))
    return found


def summary_of(declared: TaskDeclaration) -> str:
    """Return a one-line summary of the task in the style of the other commands."""
    words = " ".join((own_doc(declared.type) or "").split("\n\n")[0].split()).rstrip(".")
    return f"{words[:1].lower()}{words[1:]}" or f"send '{declared.task}'"


def hyphenated(words: str) -> str:
    """Return words joined by hyphens, for a command or an option; may be empty."""
    return re.sub(r"[\W_]+", "-", words).strip("-")


def _is_own(declared: TaskDeclaration) -> bool:
    return declared.type.__module__.startswith(_OWN)


def _named(
    group: Iterable[TaskDeclaration], taken: set[str], shared: Collection[str]
) -> Iterator[tuple[str, TaskDeclaration]]:
    for declared in group:
        name = _first_word(declared)
        if name in taken or name in shared:
            name = hyphenated(declared.task) or "task"
        while name in taken:
            name += "-task"
        taken.add(name)
        yield name, declared


def _first_word(declared: TaskDeclaration) -> str:
    return hyphenated(declared.task).partition("-")[0] or "task"
