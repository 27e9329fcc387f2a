"""The orders of a schedule: their tasks, and how one is recognised in a message."""

import re
from typing import Final, Literal

from fastlib import Migrate, MigrateParameter, Start, Stop, Task

Order = tuple[str, str]
"""A title and a domain. All orders of a schedule that shall be told apart differ in these."""

Kind = Literal["start", "stop", "migrate"]

ORDER_TITLES: Final = ("start vm", "stop vm", "migrate vm")
"""The titles of what schedulers and sender order; others query, cancel and quit."""

_TASK: Final = re.compile(rb"^task: (.+)$", re.MULTILINE)
_VM_NAME: Final = re.compile(rb"vm-name: (\S+)")


def make_task(kind: Kind, name: str, *, retries: int) -> Task:
    """Return the task of an order. Only a migration is tried again."""
    if kind == "start":
        return Start(vm_name=name, probe_with_ssh=False)
    if kind == "stop":
        return Stop(vm_name=name)
    parameter = MigrateParameter(retry_counter=retries) if retries else None
    return Migrate(vm_name=name, destination="other", parameter=parameter)


def order_in(payload: bytes) -> Order | None:
    """Return the order in the text of a container with one task, None if it is about others."""
    task = _TASK.search(payload)
    assert task is not None, payload
    title = task[1].decode()
    if title not in ORDER_TITLES:
        return None
    name = _VM_NAME.search(payload)
    assert name is not None, payload
    return title, name[1].decode()
