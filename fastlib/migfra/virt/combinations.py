"""The table of the options of a migration that work together, with the versions that they need.

`CHOICES` has the options, `RULES` the pairs that are refused or need certain versions. By this
table, `combination_checks.py` refuses orders before a hypervisor changes anything.
docs/reference/migration-options.md shows it, and tests/laboratory/test_combinations.py tests it on
real hosts.

A pair without a rule works.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Final, Literal

import msgspec

from .program_versions import Bound


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
