"""From the words of the client's methods to a container, and from its results to theirs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from fastlib.message import (
    Cancel,
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    Query,
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
from .options import (
    EvacuateOptions,
    MigrateOptions,
    StartOptions,
    StopOptions,
    SubmitOptions,
    TaskOptions,
)

R = TypeVar("R")


class Order(Generic[R]):
    """What to send where, and what to make of the answer."""

    def __init__(
        self,
        host: str,
        work: TaskContainer | Task | Iterable[Task],
        pick: Callable[[ResultContainer], R],
        *,
        id: str | None = None,
        **sending: Any,
    ) -> None:
        """`sending` is `timeout` and `on_progress` of `SubmitOptions`, where given."""
        if id is not None:
            if isinstance(work, TaskContainer):
                work = msgspec.structs.replace(work, id=id)
            else:
                work = TaskContainer(tasks=[work] if isinstance(work, Task) else list(work), id=id)
        self.host = host
        self.work = work
        self.pick = pick
        self.on_progress: Callable[[Progress], None] | None = sending.pop("on_progress", None)
        self.has_timeout = "timeout" in sending
        self.timeout: float | None = sending.pop("timeout", None)
        if sending:
            raise TypeError(f"unexpected keyword: {', '.join(sending)}")


def everything(results: ResultContainer) -> ResultContainer:
    """All that was answered."""
    return results


def one(results: ResultContainer) -> Result:
    """The result of the one task that was sent."""
    if len(results.results) != 1:
        raise UnexpectedResultError(
            f"'{results.result}' (id {results.id!r}): expected one result, "
            f"got {len(results.results)}"
        )
    return results.results[0]


def several(results: ResultContainer) -> tuple[Result, ...]:
    """A result for each domain that was concerned."""
    return tuple(results.results)


def node(results: ResultContainer) -> NodeResult:
    """The result of a query."""
    result = one(results)
    assert isinstance(result, NodeResult)  # its type is declared with the query
    return result


def submit(
    host: str,
    work: TaskContainer | Task | Iterable[Task],
    options: SubmitOptions,
) -> Order[ResultContainer]:
    return Order(host, work, everything, **options)


def start(host: str, vm_name: str | None, options: StartOptions) -> Order[Result]:
    fields, sending = _split(options)
    return Order(host, Start(vm_name=vm_name, **fields), one, **sending)


def stop(host: str, vm_name: str, options: StopOptions) -> Order[Result]:
    fields, sending = _split(options)
    return Order(host, Stop(vm_name=vm_name, **fields), one, **sending)


def stop_matching(host: str, regex: str, options: StopOptions) -> Order[tuple[Result, ...]]:
    fields, sending = _split(options)
    return Order(host, Stop(regex=regex, **fields), several, **sending)


def suspend(host: str, vm_name: str, options: TaskOptions) -> Order[Result]:
    fields, sending = _split(options)
    return Order(host, Suspend(vm_name=vm_name, **fields), one, **sending)


def resume(host: str, vm_name: str, options: TaskOptions) -> Order[Result]:
    fields, sending = _split(options)
    return Order(host, Resume(vm_name=vm_name, **fields), one, **sending)


def repin(
    host: str, vm_name: str, vcpu_map: Sequence[Sequence[int]], options: TaskOptions
) -> Order[Result]:
    fields, sending = _split(options)
    return Order(host, Repin(vm_name=vm_name, vcpu_map=vcpu_map, **fields), one, **sending)


def migrate(vm_name: str, source: str, destination: str, options: MigrateOptions) -> Order[Result]:
    fields, sending = _split(options)
    if isinstance(fields.get("swap_with"), str):
        fields["swap_with"] = SwapWith(vm_name=fields["swap_with"])
    parameter = _parameter(MigrateParameter, fields)
    task = Migrate(vm_name=vm_name, destination=destination, parameter=parameter, **fields)
    return Order(source, task, one, **sending)


def evacuate(
    host: str, destinations: Sequence[str], options: EvacuateOptions
) -> Order[tuple[Result, ...]]:
    fields, sending = _split(options)
    parameter = _parameter(EvacuateParameter, fields)
    task = Evacuate(destinations=destinations, parameter=parameter, **fields)
    return Order(host, task, several, **sending)


def query(host: str, options: TaskOptions) -> Order[NodeResult]:
    fields, sending = _split(options)
    return Order(host, Query(**fields), node, **sending)


def cancel(host: str, id: str, options: SubmitOptions) -> Order[Result]:
    return Order(host, Cancel(id=id), one, **options)


def quit_daemon(host: str, options: SubmitOptions) -> Order[Result]:
    return Order(host, Quit(), one, **options)


_SENDING = SubmitOptions.__annotations__.keys()


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the task, and how it is sent."""
    fields = {key: value for key, value in options.items() if key not in _SENDING}
    return fields, {key: value for key, value in options.items() if key in _SENDING}


P = TypeVar("P", MigrateParameter, EvacuateParameter)


def _parameter(kind: type[P], fields: dict[str, Any]) -> P | None:
    """The parameter, out of those fields that are its own; None if there are none."""
    if "migration_timeout" in fields:
        fields["timeout"] = fields.pop("migration_timeout")
    own = {name: fields.pop(name) for name in kind.__struct_fields__ if name in fields}
    return kind(**own) if own else None
