"""Results: made from a hypervisor's values, stored in the journal, and written as a payload."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from fastlib.codec.errors import MessageError, ValidationError
from fastlib.message import Result, ResultContainer, Start, Task, TaskContainer, TimeMeasurement
from fastlib.message.request_digest import request_digest, short_digest
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.domain_results import sound
from fastlib.migfra.virt.domain_xml import read_domain
from fastlib.transport import ReceivedMessage

NO_DOMAIN: Final = "n/a"
"""The text in place of a domain's name if there is none."""


def vm_name_of(task: Task) -> str:
    """Return the domain of a task, `n/a` for a task without one."""
    name = getattr(task, "vm_name", None)
    if not name and isinstance(task, Start) and task.xml is not None:
        try:
            name = read_domain(task.xml).name
        except HypervisorError:  # the hypervisor reports the error
            name = None
    return str(name) if name else NO_DOMAIN


def domains_of(container: TaskContainer) -> tuple[list[str], bool]:
    """Return the domains that a container names, each once, and whether it may affect others."""
    names: dict[str, None] = {}
    for task in container.tasks:
        names[vm_name_of(task)] = None
        swap = getattr(getattr(task, "parameter", None), "swap_with", None)
        if swap is not None:
            names[swap.vm_name] = None
    any_domain = NO_DOMAIN in names or not names
    names.pop(NO_DOMAIN, None)
    return list(names), any_domain


def failure(vm_name: str, reason: str, measurement: TimeMeasurement | None = None) -> Result:
    """Return an error as a result; characters that a message cannot have are replaced."""
    details = sound(reason) or "the hypervisor gave no reason for the failure"
    result = Result(vm_name=vm_name, status="error", details=details)
    return _with_timers(result, measurement) if measurement else result


def results_of(
    outcome: Any, task: Task, retries: int, measurement: TimeMeasurement
) -> tuple[Result, ...]:
    """Return the results of a member, made from the value of its method.

    None and a text mean success; Results are taken as they are. Results without timers of their own
    get those of the member. A single success without details gets the number of retries, as None
    does.

    Raises HypervisorError for a value that a method must not return.
    """
    if outcome is None or isinstance(outcome, str):
        results: Sequence[Result] = (_success(task, outcome, retries),)
    else:
        results = _checked(outcome, task)
        if isinstance(outcome, Result) and outcome.status == "success" and not outcome.details:
            details = _retries(task, retries)
            results = (msgspec.structs.replace(outcome, details=details),)
    if not measurement:  # nobody has asked for timers
        return results if isinstance(results, tuple) else tuple(results)
    return tuple(_with_timers(result, measurement) for result in results)


def _success(task: Task, text: str | None, retries: int) -> Result:
    """Return the result of a success; without a text, `details` is the number of retries."""
    if text is not None:
        details: str | None = sound(text)
    else:
        details = _retries(task, retries)
    return task.declaration.result_type(vm_name=vm_name_of(task), status="success", details=details)


def _retries(task: Task, retries: int) -> str | None:
    """Return the number of retries, if the task asked for some."""
    return None if retry_counter(task) is None else str(retries)


def _checked(outcome: Any, task: Task) -> Sequence[Result]:
    results = (outcome,) if isinstance(outcome, Result) else outcome
    if isinstance(results, Sequence) and all(isinstance(result, Result) for result in results):
        return results
    raise HypervisorError(
        f"the hypervisor must answer {task.declaration.task} with None, a text, a Result or a "
        f"sequence of Results; got {type(outcome).__name__}"
    )


def _with_timers(result: Result, measurement: TimeMeasurement) -> Result:
    if result.time_measurement:
        return result
    return msgspec.structs.replace(result, time_measurement=measurement.snapshot())


def retry_counter(task: Task) -> int | None:
    """Return the number of retries that the task requests, None if it requests none."""
    counter: int | None = getattr(getattr(task, "parameter", None), "retry_counter", None)
    return counter


def answer_to(container: TaskContainer, results: Iterable[Result]) -> ResultContainer:
    """Return the answer to a container with its results. Results of a wrong type become errors."""
    given = tuple(results)
    try:
        return ResultContainer.answer(container, given)
    except ValidationError as error:
        name = vm_name_of(container.tasks[0]) if container.tasks else NO_DOMAIN
        reason = f"the hypervisor returned results that cannot be sent: {error}"
        return ResultContainer.answer(container, (failure(name, reason),))


def quit_answer(container: TaskContainer, left: str | None = None) -> ResultContainer:
    """Return the answer to a quit; `left` names the tasks that have not ended."""
    result = Result(vm_name=NO_DOMAIN, status="success", details=left)
    return ResultContainer.answer(container, (result,))


def without_order(answer: ResultContainer, message: ReceivedMessage) -> ResultContainer:
    """Return the answer to a message that the journal does not have as an order.

    It names the message, since its id and its key may be those of another sender's order.
    """
    digest = None
    if message.size == len(message.payload):
        digest = request_digest(message.payload)
    elif message.sha256 is not None:  # only the beginning of the message is known
        digest = short_digest(message.sha256)
    return msgspec.structs.replace(answer, request_digest=digest)


def executed_before(answer: bytes, executed: float) -> bytes:
    """Return a stored answer with the time when its task was executed, in seconds since 1970."""
    time = datetime.fromtimestamp(executed, UTC)
    try:
        return write(msgspec.structs.replace(ResultContainer.from_yaml(answer), executed=time))
    except MessageError:  # an older fastlib or a missing plugin wrote it; it is still true
        return answer


def write(answer: ResultContainer) -> bytes:
    """Return the payload of an answer."""
    return answer.to_yaml().encode()


def store(results: Iterable[Result]) -> bytes:
    """Return results in the form that the journal stores."""
    return msgspec.json.encode([result.emit() for result in results])


def restore(stored: bytes, task: Task) -> tuple[Result, ...]:
    """Return results from the form that the journal stores."""
    shape = task.declaration.result_type
    return tuple(shape.load(tree) for tree in msgspec.json.decode(stored))
