"""Build the request for each method of the client, and extract the method's result."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

import msgspec

from fastlib.argument_checks import check_bool, check_callable, check_str
from fastlib.codec.load_context import nearest_word
from fastlib.message import (
    Cancel,
    Evacuate,
    EvacuateParameter,
    HistoryResult,
    Migrate,
    MigrateParameter,
    MigrationResult,
    Query,
    QueryHistory,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
    TaskContainer,
)
from fastlib.message.node import NodeResult, Progress

from .errors import UnexpectedResultError
from .expiry import check_expires
from .keywords import keywords_of
from .options import (
    EvacuateOptions,
    HistoryOptions,
    MigrateOptions,
    StartOptions,
    StopOptions,
    SubmitOptions,
    TaskOptions,
)

R = TypeVar("R")


class TaskRequest(Generic[R]):
    """The tasks to send to a host, and the extraction of the result from the answer."""

    def __init__(
        self,
        host: str,
        work: TaskContainer | Task | Iterable[Task],
        extract: Callable[[ResultContainer], R],
        *,
        id: str | None = None,
        **send_options: Any,
    ) -> None:
        """`send_options` may have the other keys of `SubmitOptions`."""
        check_str("host", host)
        check_work(work)
        if not isinstance(work, TaskContainer):
            work = TaskContainer(tasks=[work] if isinstance(work, Task) else list(work))
        given = {"id": id, "idempotency_key": send_options.pop("idempotency_key", None)}
        changes = {name: value for name, value in given.items() if value is not None}
        self.host = host
        self.container = msgspec.structs.replace(work, **changes) if changes else work
        self.extract = extract
        self.on_progress: Callable[[Progress], None] | None = send_options.pop("on_progress", None)
        self.has_timeout = "timeout" in send_options
        self.timeout: float | None = send_options.pop("timeout", None)
        self.has_expires = "expires" in send_options
        self.expires: datetime | timedelta | None = send_options.pop("expires", None)
        check_expires(self.expires)
        self.only_if_online: bool = send_options.pop("only_if_online", False)
        check_callable("on_progress", self.on_progress, optional=True)
        check_bool("only_if_online", self.only_if_online)
        if send_options:
            raise TypeError(f"unexpected keyword: {', '.join(send_options)}")


def check_work(work: object) -> None:
    """Check the work of `submit`. Raises TypeError with the remedy."""
    if isinstance(work, TaskContainer | Task):
        return
    if isinstance(work, Iterable) and not isinstance(work, str | bytes):
        return  # the container checks its tasks
    remedy = "; for a text, use `fastlib.load`" if isinstance(work, str | bytes) else ""
    raise TypeError(
        "`work` must be a task, several tasks of one type, or a TaskContainer, not "
        f"{type(work).__name__}{remedy}"
    )


def all_results(results: ResultContainer) -> ResultContainer:
    """Return the complete answer."""
    return results


def single_result(results: ResultContainer) -> Result:
    """Return the result of the only task. Raises UnexpectedResultError."""
    if len(results.results) != 1:
        raise UnexpectedResultError(
            f"'{results.result}' (id {results.id!r}): expected one result, "
            f"got {len(results.results)}"
        )
    return results.results[0]


def result_tuple(results: ResultContainer) -> tuple[Result, ...]:
    """Return one result for each affected domain."""
    return tuple(results.results)


def migration_result(results: ResultContainer) -> MigrationResult:
    """Return the result of a migration. Raises UnexpectedResultError."""
    result = single_result(results)
    assert isinstance(result, MigrationResult)  # declared as the result type of the task
    return result


def migration_results(results: ResultContainer) -> tuple[MigrationResult, ...]:
    """Return the result of each domain of an evacuation."""
    found = results.results
    # declared as the result type of the task
    return tuple(result for result in found if isinstance(result, MigrationResult))


def node_result(results: ResultContainer) -> NodeResult:
    """Return the result of a query. Raises UnexpectedResultError."""
    result = single_result(results)
    assert isinstance(result, NodeResult)  # declared as the result type of a query
    return result


def history_result(results: ResultContainer) -> HistoryResult:
    """Return the result of a query for the history. Raises UnexpectedResultError."""
    result = single_result(results)
    assert isinstance(result, HistoryResult)  # declared as the result type of the task
    return result


def submit(
    host: str,
    work: TaskContainer | Task | Iterable[Task],
    options: SubmitOptions,
) -> TaskRequest[ResultContainer]:
    return TaskRequest(host, work, all_results, **_checked("submit", SubmitOptions, options))


def start(host: str, vm_name: str | None, options: StartOptions) -> TaskRequest[Result]:
    fields, send_options = _split("start", StartOptions, options)
    return TaskRequest(host, Start(vm_name=vm_name, **fields), single_result, **send_options)


def stop(host: str, vm_name: str, options: StopOptions) -> TaskRequest[Result]:
    fields, send_options = _split("stop", StopOptions, options)
    return TaskRequest(host, Stop(vm_name=vm_name, **fields), single_result, **send_options)


def stop_matching(host: str, regex: str, options: StopOptions) -> TaskRequest[tuple[Result, ...]]:
    fields, send_options = _split("stop", StopOptions, options)
    return TaskRequest(host, Stop(regex=regex, **fields), result_tuple, **send_options)


def suspend(host: str, vm_name: str, options: TaskOptions) -> TaskRequest[Result]:
    fields, send_options = _split("suspend", TaskOptions, options)
    return TaskRequest(host, Suspend(vm_name=vm_name, **fields), single_result, **send_options)


def resume(host: str, vm_name: str, options: TaskOptions) -> TaskRequest[Result]:
    fields, send_options = _split("resume", TaskOptions, options)
    return TaskRequest(host, Resume(vm_name=vm_name, **fields), single_result, **send_options)


def repin(
    host: str, vm_name: str, vcpu_map: Sequence[Sequence[int]], options: TaskOptions
) -> TaskRequest[Result]:
    fields, send_options = _split("repin", TaskOptions, options)
    return TaskRequest(
        host, Repin(vm_name=vm_name, vcpu_map=vcpu_map, **fields), single_result, **send_options
    )


def migrate(
    vm_name: str, source: str, destination: str, options: MigrateOptions
) -> TaskRequest[MigrationResult]:
    fields, send_options = _split("migrate", MigrateOptions, options)
    if isinstance(fields.get("swap_with"), str):
        fields["swap_with"] = SwapWith(vm_name=fields["swap_with"])
    parameter = _parameter(MigrateParameter, fields)
    task = Migrate(vm_name=vm_name, destination=destination, parameter=parameter, **fields)
    return TaskRequest(source, task, migration_result, **send_options)


def evacuate(
    host: str, destinations: Sequence[str], options: EvacuateOptions
) -> TaskRequest[tuple[MigrationResult, ...]]:
    fields, send_options = _split("evacuate", EvacuateOptions, options)
    parameter = _parameter(EvacuateParameter, fields)
    task = Evacuate(destinations=destinations, parameter=parameter, **fields)
    return TaskRequest(host, task, migration_results, **send_options)


def query(host: str, options: TaskOptions) -> TaskRequest[NodeResult]:
    fields, send_options = _split("query", TaskOptions, options)
    return TaskRequest(host, Query(**fields), node_result, **send_options)


def history(host: str, options: HistoryOptions) -> TaskRequest[HistoryResult]:
    fields, send_options = _split("history", HistoryOptions, options)
    return TaskRequest(host, QueryHistory(**fields), history_result, **send_options)


def cancel(host: str, id: str, options: SubmitOptions) -> TaskRequest[Result]:
    return TaskRequest(
        host, Cancel(id=id), single_result, **_checked("cancel", SubmitOptions, options)
    )


def quit_daemon(host: str, options: SubmitOptions) -> TaskRequest[Result]:
    return TaskRequest(host, Quit(), single_result, **_checked("quit", SubmitOptions, options))


_SEND_OPTIONS = SubmitOptions.__annotations__.keys()


_NONE_MEANS: Final = ("timeout", "expires")
"""Options for which None is a value."""


def _checked(method: str, typed: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given options of a method. Raises TypeError that lists all unknown options."""
    known = keywords_of(typed)
    unknown = [name for name in options if name not in known]
    if unknown:
        problems = []
        for name in unknown:
            near = nearest_word(name, known)
            problems.append(f"{name!r}" + (f" (did you mean {near!r}?)" if near else ""))
        word = "option" if len(unknown) == 1 else "options"
        raise TypeError(f"{method}: unknown {word} {', '.join(problems)}")
    return {
        name: value for name, value in options.items() if value is not None or name in _NONE_MEANS
    }


def _split(
    method: str, typed: Any, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate the fields of the task from the options of sending. Raises TypeError."""
    options = _checked(method, typed, options)
    fields = {key: value for key, value in options.items() if key not in _SEND_OPTIONS}
    return fields, {key: value for key, value in options.items() if key in _SEND_OPTIONS}


P = TypeVar("P", MigrateParameter, EvacuateParameter)


def _parameter(kind: type[P], fields: dict[str, Any]) -> P | None:
    """Move the fields of a parameter out of `fields`; return None if there are none."""
    for name, keyword in kind.__keywords__.items():
        if keyword in fields:
            fields[name] = fields.pop(keyword)
    found = {name: fields.pop(name) for name in kind.__struct_fields__ if name in fields}
    return kind(**found) if found else None
