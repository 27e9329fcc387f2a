"""Refuse the orders whose options do not work together, by the table of combinations. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final

from fastlib.message.tasks import MigrateParameter
from fastlib.migfra.errors import FinalError

from .combinations import (
    ABORT,
    AUTO_CONVERGE,
    BANDWIDTH_LIMIT,
    CHOICES,
    COMPRESSIONS,
    COPY_ALL,
    COPY_INCREMENTAL,
    ENCRYPTED,
    LIVE,
    MAX_DOWNTIME,
    MEMNODE_MAP,
    MT,
    OFFLINE,
    PARALLEL,
    PAUSE,
    POST_COPY,
    POST_COPY_RESUMES,
    PSCOM,
    RDMA,
    SWAP,
    VCPU_MAP,
    WARM,
    XBZRLE,
    ZLIB,
    ZSTD,
    Choice,
    rule_for,
)
from .migration_spec import MigrationSpec
from .program_versions import Bound, HostVersions, version_text

MOST_CONNECTIONS: Final = 255
"""The most connections: QEMU counts them in a byte."""
LONGEST_DOWNTIME_MS: Final = 2_000_000
"""The longest downtime in ms that QEMU accepts."""


# Choices of an order

_USED: Final[Mapping[Choice, Callable[[MigrationSpec], object]]] = {
    LIVE: lambda spec: spec.kind == "live",
    WARM: lambda spec: spec.kind == "warm",
    OFFLINE: lambda spec: spec.kind == "offline",
    ABORT: lambda spec: (
        spec.parameter.timeout is not None and spec.parameter.on_timeout in (None, "abort")
    ),
    PAUSE: lambda spec: spec.parameter.on_timeout == "pause",
    POST_COPY: lambda spec: spec.parameter.on_timeout == "post-copy",
    MAX_DOWNTIME: lambda spec: spec.parameter.max_downtime is not None,
    BANDWIDTH_LIMIT: lambda spec: spec.parameter.bandwidth_limit,
    AUTO_CONVERGE: lambda spec: spec.parameter.auto_converge,
    PARALLEL: lambda spec: spec.parameter.parallel_connections is not None,
    XBZRLE: lambda spec: spec.parameter.compression == "xbzrle",
    MT: lambda spec: spec.parameter.compression == "mt",
    ZLIB: lambda spec: spec.parameter.compression == "zlib",
    ZSTD: lambda spec: spec.parameter.compression == "zstd",
    RDMA: lambda spec: spec.parameter.rdma_migration,
    ENCRYPTED: lambda spec: spec.parameter.encrypted,
    COPY_ALL: lambda spec: spec.parameter.copy_storage == "all",
    COPY_INCREMENTAL: lambda spec: spec.parameter.copy_storage == "incremental",
    VCPU_MAP: lambda spec: spec.vcpu_map is not None,
    MEMNODE_MAP: lambda spec: spec.memnode_map is not None,
    SWAP: lambda spec: (
        isinstance(spec.parameter, MigrateParameter) and spec.parameter.swap_with is not None
    ),
    PSCOM: lambda spec: spec.pscom_hook_procs is not None,
}


def choices_of(spec: MigrationSpec) -> tuple[Choice, ...]:
    """Return the choices of an order, in the order of the table."""
    return tuple(choice for choice in CHOICES if choice in _USED and _USED[choice](spec))


def problem_of_order(spec: MigrationSpec) -> str | None:
    """Return why no version can execute an order. None if no such reason is known."""
    parameter = spec.parameter
    count, method, downtime = (
        parameter.parallel_connections,
        parameter.compression,
        parameter.max_downtime,
    )
    if count is not None and count > MOST_CONNECTIONS:
        return f"parallel-connections must be at most {MOST_CONNECTIONS}, not {count}"
    if method is not None and method not in COMPRESSIONS:
        return f"compression must be one of {', '.join(COMPRESSIONS)}, not {method[:40]!r}"
    if downtime is not None and downtime > LONGEST_DOWNTIME_MS:
        return f"max-downtime must be at most {LONGEST_DOWNTIME_MS} ms, not {downtime}"
    return problem_of_pairs(choices_of(spec))


def check_order(spec: MigrationSpec, *conditions: Choice) -> None:
    """Raise FinalError for an order that no version can execute for a domain in such conditions."""
    problem = problem_of_order(spec) or problem_of_pairs((*choices_of(spec), *conditions))
    if problem is not None:
        raise FinalError(problem)


def problem_of_pairs(chosen: Iterable[Choice]) -> str | None:
    """Return the sentence about two choices that no version supports together, or None."""
    for first, second in combinations(_sorted(chosen), 2):
        rule = rule_for(first, second)
        if rule is not None and rule.verdict == "refused":
            return f"{first} does not work with {second}: {rule.reason}; {rule.remedy}"
    return None


def problem_of_hosts(chosen: Iterable[Choice], hosts: Sequence[HostVersions]) -> str | None:
    """Return what source and destination do not support. None if they support all choices."""
    chosen = _sorted(chosen)
    if OFFLINE in chosen:
        return None  # no memory is sent
    for choice in chosen:
        for host in hosts:
            if choice.only_qemu and host.kind != "QEMU":
                return (
                    f"{choice} needs QEMU, but {host.host} has the hypervisor {host.kind}; leave "
                    "it out"
                )
        for bound in choice.bounds:
            if problem := _bound_problem(str(choice), bound, hosts):
                return f"{problem}; leave it out, or change the version there"
    for first, second in combinations(chosen, 2):
        rule = rule_for(first, second)
        if rule is None or rule.verdict != "versions":
            continue
        for bound in rule.bounds:
            if problem := _bound_problem(f"{first} with {second}", bound, hosts):
                return f"{problem} ({rule.reason}); {rule.remedy}, or change the version there"
    return None


def problem_of_resume(hosts: Sequence[HostVersions]) -> str | None:
    """Return why an interrupted post-copy could not be resumed. None if it could."""
    for bound in POST_COPY_RESUMES:
        if problem := _bound_problem(f"resuming an interrupted {POST_COPY}", bound, hosts):
            return (
                f"{problem}, and without that a cut link ends the domain; choose another "
                "on-timeout, change the version there, or let the operator set "
                "post-copy-without-recovery in the section hypervisor"
            )
    return None


def supported_compressions(host: HostVersions) -> list[str]:
    """Return the methods of compression that a host supports."""
    return [
        str(choice.value)
        for choice in CHOICES
        if choice.option == "compression" and problem_of_hosts((choice,), (host, host)) is None
    ]


def bounds_of(chosen: Iterable[Choice]) -> Iterator[Bound]:
    """Yield the bounds of choices and of their pairs."""
    chosen = _sorted(chosen)
    for choice in chosen:
        yield from choice.bounds
    for first, second in combinations(chosen, 2):
        if (rule := rule_for(first, second)) is not None:
            yield from rule.bounds


def _bound_problem(what: str, bound: Bound, hosts: Sequence[HostVersions]) -> str | None:
    for host in hosts if bound.where == "both" else hosts[-1:]:
        version = host.version(bound.program)
        if version is None:
            unknown = f"the {bound.program} version of {host.host} is unknown"
            return f"{what} needs {bound}, but {unknown}"
        if not bound.allows(version):
            return (
                f"{what} needs {bound}, but {host.host} has {bound.program} {version_text(version)}"
            )
    return None


def _sorted(chosen: Iterable[Choice]) -> list[Choice]:
    return sorted(set(chosen), key=CHOICES.index)
