"""Orders that have certain choices of the table of combinations, and those that show each pair."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastlib import MigrateParameter, SwapWith
from fastlib.migfra.virt import combination_checks, combinations, program_versions
from fastlib.migfra.virt.combinations import Choice

VALUES: Final[Mapping[Choice, Mapping[str, Any]]] = {
    combinations.LIVE: {"migration_type": "live"},
    combinations.WARM: {"migration_type": "warm"},
    combinations.OFFLINE: {"migration_type": "offline"},
    combinations.ABORT: {"on_timeout": "abort", "timeout": 1},
    combinations.PAUSE: {"on_timeout": "pause", "timeout": 1},
    combinations.POST_COPY: {"on_timeout": "post-copy", "timeout": 1},
    combinations.MAX_DOWNTIME: {"max_downtime": 500},
    combinations.BANDWIDTH_LIMIT: {"bandwidth_limit": 20},
    combinations.AUTO_CONVERGE: {"auto_converge": True},
    combinations.PARALLEL: {"parallel_connections": 2},
    combinations.XBZRLE: {"compression": "xbzrle"},
    combinations.MT: {"compression": "mt"},
    combinations.ZLIB: {"compression": "zlib"},
    combinations.ZSTD: {"compression": "zstd"},
    combinations.RDMA: {"rdma_migration": True},
    combinations.ENCRYPTED: {"encrypted": True},
    combinations.COPY_ALL: {"copy_storage": "all"},
    combinations.COPY_INCREMENTAL: {"copy_storage": "incremental"},
    combinations.VCPU_MAP: {"vcpu_map": [[0]]},
    combinations.MEMNODE_MAP: {"memnode_map": [[0]]},
    combinations.SWAP: {"swap_with": SwapWith(vm_name="vm2")},
    combinations.PSCOM: {"pscom_hook_procs": "1"},
}
"""The fields that make an order have a choice."""


LABORATORY: Final = tuple(
    program_versions.HostVersions(host=host, kind="QEMU", hypervisor=(7, 2), libvirt=(9, 0))
    for host in ("hostA", "hostB")
)
"""The hosts of the laboratory, as Debian 12 has them."""


def works_in_the_laboratory(first: Choice, second: Choice) -> bool:
    """Return True if a pair must work on the hosts of the laboratory."""
    rule = combinations.rule_for(first, second)
    return (
        (rule is None or rule.verdict == "versions")
        and not (first.not_shown or second.not_shown)
        and combination_checks.problem_of_hosts((first, second), LABORATORY) is None
    )


ALWAYS: Final = (
    combinations.BANDWIDTH_LIMIT,
    combinations.MAX_DOWNTIME,
    combinations.AUTO_CONVERGE,
    combinations.PSCOM,
    combinations.DEVICES,
    combinations.VCPU_MAP,
    combinations.MEMNODE_MAP,
)
SHOWN: Final[tuple[tuple[Choice, ...], ...]] = tuple(
    (*ALWAYS, *group)
    for group in (
        (combinations.LIVE, combinations.POST_COPY, combinations.XBZRLE, combinations.SWAP,
         combinations.ENCRYPTED, combinations.COPY_ALL),
        (combinations.LIVE, combinations.POST_COPY, combinations.MT, combinations.MANAGED,
         combinations.ENCRYPTED, combinations.COPY_INCREMENTAL),
        (combinations.LIVE, combinations.PAUSE, combinations.PARALLEL, combinations.ENCRYPTED,
         combinations.COPY_ALL),
        (combinations.WARM, combinations.PAUSE, combinations.XBZRLE, combinations.MANAGED,
         combinations.ENCRYPTED, combinations.COPY_INCREMENTAL),
        (combinations.WARM, combinations.PAUSE, combinations.MT, combinations.SWAP,
         combinations.COPY_ALL),
        (combinations.LIVE, combinations.ABORT, combinations.XBZRLE, combinations.ENCRYPTED,
         combinations.COPY_INCREMENTAL),
        (combinations.WARM, combinations.ABORT, combinations.PARALLEL, combinations.SWAP,
         combinations.MANAGED, combinations.COPY_INCREMENTAL),
        (combinations.LIVE, combinations.ABORT, combinations.MT, combinations.MANAGED,
         combinations.COPY_ALL),
    )
)  # fmt: skip
"""Orders whose choices are all in effect at once. Together they show each pair that works."""
SHOWN_OFFLINE: Final = (combinations.OFFLINE, combinations.MANAGED)


def parameter_with(choices: Iterable[Choice]) -> MigrateParameter:
    """Make the parameter of a migration that has these choices.

    A migration with none of the types is live where it may have to be, for post-copy.
    """
    fields: dict[str, Any] = {}
    chosen = list(choices)
    if combinations.POST_COPY in chosen:
        fields["migration_type"] = "live"
    for choice in chosen:
        fields.update(VALUES.get(choice, {}))
    return MigrateParameter(**fields)
