"""The table of the options of a migration that work together, with the versions that they need.

`CHOICES` has the options, `RULES` the pairs that are refused or need certain versions. The
hypervisors use this table to refuse orders before they change anything.
docs/reference/migration-options.md shows it, and tests/laboratory/test_combinations.py tests it on
real hosts.

A pair without a rule works.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Final, Literal

import msgspec

from fastlib.message.tasks import MigrateParameter
from fastlib.migfra.errors import FinalError

from .migration_spec import MigrationSpec

Program = Literal["QEMU", "libvirt"]
Version = tuple[int, int]
"""Major and minor."""

MOST_CONNECTIONS: Final = 255
"""The most connections: QEMU counts them in a byte."""
LONGEST_DOWNTIME_MS: Final = 2_000_000
"""The longest downtime in ms that QEMU accepts."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of a program that support something."""

    program: Program
    since: Version
    before: Version | None = None
    """The first version that no longer supports it."""
    where: Literal["both", "destination"] = "both"
    process_counts: bool = False
    """Whether the version of a running domain's process counts, because no other check covers it.

    The process is older than the installed emulator if the host was upgraded after its start.
    """

    def __str__(self) -> str:
        text = f"{self.program} {version_text(self.since)} or newer"
        if self.before is not None:
            text += f", but older than {version_text(self.before)},"
        return text + (" on both hosts" if self.where == "both" else " on the destination")

    def allows(self, version: Version) -> bool:
        """Return whether a version supports it."""
        return self.since <= version and (self.before is None or version < self.before)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """An option, or a value of one, that an order has or does not have."""

    option: str
    """Its key on the wire. An order has at most one choice of each option."""
    value: str | None = None
    """The value, if different values follow different rules."""
    kind: Literal["order", "daemon", "domain", "condition"] = "order"
    """Whether the task, the daemon's configuration, or the domain has it.

    A condition is a property of the domain that matters for a few options only.
    """
    only_qemu: bool = False
    """Whether only QEMU has it."""
    bounds: tuple[Bound, ...] = ()
    not_shown: str | None = None
    """The reason why the laboratory cannot test it. None if it does."""

    def __str__(self) -> str:
        return self.option if self.value is None else f"{self.option}: {self.value}"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """The rule of a pair of choices that not every version allows."""

    verdict: Literal["refused", "versions", "no effect"]
    """Refused always, refused outside of some versions, or allowed without an effect of the second.
    """
    reason: str
    """The reason, as the end of a sentence."""
    remedy: str = "leave out one of the two"
    bounds: tuple[Bound, ...] = ()
    source: str
    """The source of the rule."""


class HostVersions(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of one of the two hosts."""

    host: str
    kind: str
    """Type of the hypervisor as libvirt calls it, such as QEMU."""
    hypervisor: Version | None
    """Version of the emulator that runs the domain here, or will run it. None if not known."""
    libvirt: Version

    def version(self, program: Program) -> Version | None:
        """Return the version of a program. None if it is not known."""
        return self.hypervisor if program == "QEMU" else self.libvirt


# The options

LIVE: Final = Choice(option="migration-type", value="live")
WARM: Final = Choice(option="migration-type", value="warm")
OFFLINE: Final = Choice(option="migration-type", value="offline")
ABORT: Final = Choice(option="on-timeout", value="abort", only_qemu=True)
PAUSE: Final = Choice(option="on-timeout", value="pause", only_qemu=True)
POST_COPY: Final = Choice(
    option="on-timeout",
    value="post-copy",
    only_qemu=True,
    bounds=(Bound(program="QEMU", since=(2, 6)), Bound(program="libvirt", since=(1, 3))),
)
POST_COPY_RESUMES: Final = (
    Bound(program="QEMU", since=(3, 0)),
    Bound(program="libvirt", since=(8, 5)),
)
"""The versions that can resume a post-copy which was interrupted."""
MAX_DOWNTIME: Final = Choice(option="max-downtime", only_qemu=True)
BANDWIDTH_LIMIT: Final = Choice(option="bandwidth-limit", only_qemu=True)
AUTO_CONVERGE: Final = Choice(option="auto-converge", only_qemu=True)
PARALLEL: Final = Choice(
    option="parallel-connections",
    only_qemu=True,
    bounds=(Bound(program="QEMU", since=(4, 0)), Bound(program="libvirt", since=(5, 2))),
)
XBZRLE: Final = Choice(option="compression", value="xbzrle", only_qemu=True)
MT: Final = Choice(
    option="compression",
    value="mt",
    only_qemu=True,
    bounds=(Bound(program="QEMU", since=(2, 4), before=(9, 1)),),
)
_MULTIFD_COMPRESSION: Final = (
    Bound(program="QEMU", since=(5, 0)),
    Bound(program="libvirt", since=(9, 4)),
)
_OLD_LIBVIRT: Final = "the laboratory's libvirt is older than 9.4"
ZLIB: Final = Choice(
    option="compression",
    value="zlib",
    only_qemu=True,
    bounds=_MULTIFD_COMPRESSION,
    not_shown=_OLD_LIBVIRT,
)
ZSTD: Final = Choice(
    option="compression",
    value="zstd",
    only_qemu=True,
    bounds=_MULTIFD_COMPRESSION,
    not_shown=_OLD_LIBVIRT,
)
RDMA: Final = Choice(
    option="rdma-migration", only_qemu=True, not_shown="the laboratory has no RDMA hardware"
)
ENCRYPTED: Final = Choice(
    option="encrypted",
    only_qemu=True,
    bounds=(Bound(program="QEMU", since=(2, 7)), Bound(program="libvirt", since=(6, 0))),
)
_VOLUMES: Final = (Bound(program="libvirt", since=(4, 1)),)
COPY_ALL: Final = Choice(option="copy-storage", value="all", only_qemu=True, bounds=_VOLUMES)
COPY_INCREMENTAL: Final = Choice(
    option="copy-storage", value="incremental", only_qemu=True, bounds=_VOLUMES
)
VCPU_MAP: Final = Choice(option="vcpu-map")
MEMNODE_MAP: Final = Choice(option="memnode-map", only_qemu=True)
SWAP: Final = Choice(option="swap-with")
PSCOM: Final = Choice(option="pscom-hook-procs")
MANAGED: Final = Choice(option="migration", value="managed", kind="daemon")
DEVICES: Final = Choice(option="devices that are detached", kind="domain")
PAUSED: Final = Choice(option="a domain that is paused", kind="condition")
FILE_MEMORY: Final = Choice(option="a domain that has memory in files", kind="condition")
NO_MEMORY_LIMIT: Final = Choice(
    option="a domain that has no hard_limit of memory", kind="condition"
)

CHOICES: Final = (
    LIVE, WARM, OFFLINE, ABORT, PAUSE, POST_COPY, MAX_DOWNTIME, BANDWIDTH_LIMIT, AUTO_CONVERGE,
    PARALLEL, XBZRLE, MT, ZLIB, ZSTD, RDMA, ENCRYPTED, COPY_ALL, COPY_INCREMENTAL, VCPU_MAP,
    MEMNODE_MAP, SWAP, PSCOM, MANAGED, DEVICES, PAUSED, FILE_MEMORY, NO_MEMORY_LIMIT,
)  # fmt: skip
NEUTRAL: Final = (
    *("retry_counter", "timeout", "transport", "mode", "overbooking"),
    *("copy_disks", "source_disks"),
)
"""Fields that work with every option: they are not part of libvirt's call, or refine an option."""
COMPRESSIONS: Final = tuple(
    sorted(str(choice.value) for choice in CHOICES if choice.option == "compression")
)
"""The known methods of compression."""
PARALLEL_ONLY: Final = frozenset({"zlib", "zstd"})
"""The only methods that several connections can use."""

# The pairs

Pair = frozenset[Choice]


def _pairs() -> Iterator[tuple[Choice, Choice, Rule]]:
    for kind in (WARM, OFFLINE):
        yield (
            POST_COPY,
            kind,
            Rule(
                verdict="refused",
                reason="post-copy needs migration-type: live, because the domain runs in the "
                "meantime",
                remedy="choose live, or another on-timeout",
                source="libvirt refuses it (qemuMigrationSrcBegin)",
            ),
        )
    yield (
        OFFLINE,
        SWAP,
        Rule(
            verdict="refused",
            reason="domains that are shut off are not swapped",
            remedy="migrate each offline",
            source="fastlib",
        ),
    )
    for bound in (VCPU_MAP, MEMNODE_MAP):
        yield (
            OFFLINE,
            bound,
            Rule(
                verdict="refused",
                reason="only a domain that arrives running gets CPUs and memory nodes",
                remedy=f"leave out {bound}, and give it to 'start vm' on the destination",
                source="fastlib",
            ),
        )
    for copied in (COPY_ALL, COPY_INCREMENTAL):
        yield (
            OFFLINE,
            copied,
            Rule(
                verdict="refused",
                reason="QEMU copies disks, and it does not run for a domain that is shut off",
                remedy="start the domain and choose live or warm, or copy its images with virsh "
                "vol-download and vol-upload",
                source="fastlib",
            ),
        )
        yield (
            RDMA,
            copied,
            Rule(
                verdict="refused",
                reason="neither QEMU's tests nor ours show copies of disks beside RDMA",
                source="fastlib",
            ),
        )
    without_memory = Rule(
        verdict="no effect", reason="no memory is sent and nothing runs", source="fastlib"
    )
    for choice in (
        ABORT, PAUSE, MAX_DOWNTIME, BANDWIDTH_LIMIT, AUTO_CONVERGE, PARALLEL, XBZRLE, MT, ZLIB,
        ZSTD, RDMA, ENCRYPTED, PSCOM, DEVICES,
    ):  # fmt: skip
        yield OFFLINE, choice, without_memory
    yield (
        POST_COPY,
        BANDWIDTH_LIMIT,
        Rule(
            verdict="versions",
            reason="older ones cannot limit post-copy",
            bounds=(Bound(program="QEMU", since=(3, 0)), Bound(program="libvirt", since=(5, 1))),
            source="max-postcopy-bandwidth of QEMU, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY",
        ),
    )
    yield (
        POST_COPY,
        MT,
        Rule(
            verdict="versions",
            reason="older ones cannot decompress pages during post-copy",
            bounds=(Bound(program="QEMU", since=(5, 0)),),
            source="QEMU before 5.0 refuses it (migrate_caps_check)",
        ),
    )
    for parallel in (PARALLEL, ZLIB, ZSTD):
        yield (
            POST_COPY,
            parallel,
            Rule(
                verdict="versions",
                reason="older ones abort at the destination after the switch, and the domain is "
                "gone on both hosts",
                bounds=(Bound(program="QEMU", since=(10, 1), process_counts=True),),
                source="QEMU 10.1: migration: enable multifd and postcopy together",
            ),
        )
    for single in (XBZRLE, MT):
        yield (
            PARALLEL,
            single,
            Rule(
                verdict="refused",
                reason="several connections are compressed with zlib or zstd only",
                remedy="take zlib or zstd, or leave out one of the two",
                source="QEMU refuses it (migrate_caps_check), 7.2 ignores xbzrle",
            ),
        )
    for parallel in (PARALLEL, ZLIB, ZSTD):
        yield (
            RDMA,
            parallel,
            Rule(
                verdict="refused",
                reason="RDMA has one connection, and these options need several",
                source="QEMU refuses it when it begins to send (multifd_save_setup)",
            ),
        )
    for single in (XBZRLE, MT):
        yield (
            RDMA,
            single,
            Rule(
                verdict="refused",
                reason="pages that move by RDMA are not compressed",
                source="QEMU (control_save_page comes before any compression)",
            ),
        )
    for parallel in (PARALLEL, ZLIB, ZSTD):
        yield (
            ENCRYPTED,
            parallel,
            Rule(
                verdict="versions",
                reason="older ones encrypt only the first connection",
                bounds=(Bound(program="QEMU", since=(5, 2), process_counts=True),),
                source="QEMU 5.2: migration/tls: add support for multifd tls-handshake",
            ),
        )
    yield (
        RDMA,
        ENCRYPTED,
        Rule(
            verdict="refused",
            reason="the network card moves the memory, and QEMU does not encrypt it",
            remedy="leave out one of the two",
            source="QEMU (rdma_start_outgoing_migration has no TLS)",
        ),
    )
    yield (
        RDMA,
        POST_COPY,
        Rule(
            verdict="refused",
            reason="neither QEMU's tests nor ours show post-copy by RDMA, and a failure after the "
            "switch ends the domain",
            remedy="choose another on-timeout, or leave out rdma-migration",
            source="fastlib; QEMU has code for it, but no test",
        ),
    )
    yield (
        RDMA,
        NO_MEMORY_LIMIT,
        Rule(
            verdict="refused",
            reason="libvirt locks the domain's memory for RDMA only up to a limit",
            remedy="give the domain a hard_limit in its memtune, or leave out rdma-migration",
            source="libvirt refuses it (qemuMigrationSrcPerformNative)",
        ),
    )
    yield (
        POST_COPY,
        PAUSED,
        Rule(
            verdict="refused",
            reason="a paused domain arrives paused, and it changes no memory in the meantime",
            remedy="resume it first, or choose another on-timeout",
            source="libvirt refuses it (qemuMigrationDstPrepareAny)",
        ),
    )
    yield (
        POST_COPY,
        FILE_MEMORY,
        Rule(
            verdict="versions",
            reason="older ones notice only after the switch that a file system cannot be filled by "
            "post-copy, and the domain is gone",
            remedy="choose another on-timeout, or give the domain the source type memfd in its "
            "memoryBacking",
            bounds=(Bound(program="QEMU", since=(8, 1), where="destination"),),
            source="QEMU 8.1 checks it beforehand (test_ramblock_postcopiable)",
        ),
    )


RULES: Final[Mapping[Pair, Rule]] = {
    frozenset((first, second)): rule for first, second, rule in _pairs()
}


def rule_for(first: Choice, second: Choice) -> Rule | None:
    """Return the rule for a pair. None if every version allows it."""
    return RULES.get(frozenset((first, second)))


def pairs() -> Iterator[tuple[Choice, Choice]]:
    """Yield each pair that an order can have, in the order of the table."""
    for first, second in combinations(CHOICES, 2):
        is_condition = "condition" in (first.kind, second.kind)
        if first.option != second.option and (rule_for(first, second) or not is_condition):
            yield first, second


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


# Refusals


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


def version_of(number: int) -> Version:
    """Return major and minor of libvirt's number for a version."""
    return number // 1_000_000, number // 1000 % 1000


def version_text(version: Version) -> str:
    """Return a version in the usual form, such as 9.0."""
    return f"{version[0]}.{version[1]}"
