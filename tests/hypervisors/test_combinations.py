"""The table of options: its refusals, their versions, and the texts of the errors."""

import itertools

import pytest

from fastlib import EvacuateParameter, Migrate, MigrateParameter, SwapWith
from fastlib.migfra import FinalError, HypervisorError
from fastlib.migfra.virt import combinations
from fastlib.migfra.virt.combination_checks import (
    bounds_of,
    check_order,
    choices_of,
    problem_of_hosts,
    problem_of_order,
    problem_of_pairs,
    supported_compressions,
)
from fastlib.migfra.virt.combinations import (
    CHOICES,
    FILE_MEMORY,
    LIVE,
    MT,
    NO_MEMORY_LIMIT,
    PARALLEL,
    POST_COPY,
    RDMA,
    VCPU_MAP,
    ZSTD,
)
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.program_versions import HostVersions, version_of, version_text
from tests.support.migration_options import (
    LABORATORY,
    SHOWN,
    SHOWN_OFFLINE,
    parameter_with,
    works_in_the_laboratory,
)


def spec_of(**parameter):
    task = Migrate(vm_name="vm1", destination="node02", parameter=MigrateParameter(**parameter))
    return MigrationSpec.from_task(task, "node01")


def hosts(source=(10, 1), destination=(10, 1), *, libvirt=(11, 0), kind="QEMU"):
    return [
        HostVersions(host=host, kind=kind, hypervisor=version, libvirt=libvirt)
        for host, version in (("node01", source), ("node02", destination))
    ]


# The table


def test_every_field_is_in_the_table_or_neutral():
    """Each option must have a row, or be declared to work with all others."""
    fields = {
        field.encode_name.replace("-", "_")
        for kind in (MigrateParameter, EvacuateParameter)
        for field in combinations.msgspec.structs.fields(kind)
    }
    rows = {choice.option.replace("-", "_") for choice in CHOICES if choice.kind == "order"}
    assert fields == rows | set(combinations.NEUTRAL)
    assert not rows & set(combinations.NEUTRAL)


def test_rules_are_for_pairs_that_an_order_can_have():
    possible = {frozenset(pair) for pair in combinations.pairs()}
    assert set(combinations.RULES) <= possible


@pytest.mark.parametrize("choice", [each for each in CHOICES if each.kind == "order"], ids=str)
def test_choice_is_found_in_its_order(choice):
    spec = MigrationSpec.from_task(
        Migrate(vm_name="vm1", destination="node02", parameter=parameter_with([choice])), "node01"
    )
    found = [each for each in choices_of(spec) if each.option != "migration-type"]
    if choice.option == "migration-type":
        assert choice in choices_of(spec)
    else:
        assert found == [choice]


@pytest.mark.parametrize(
    "parameter",
    [
        {"bandwidth_limit": 0, "rdma_migration": False, "auto_converge": False},
        {"on_timeout": "abort"},
        {"timeout": None, "transport": "tls", "retry_counter": 3},
    ],
)
def test_options_without_a_request_are_not_choices(parameter):
    assert choices_of(spec_of(**parameter)) == (combinations.WARM,)


@pytest.mark.parametrize(
    ("first", "second"),
    [pair for pair in combinations.pairs() if {each.kind for each in pair} == {"order"}],
    ids=str,
)
def test_table_decides_on_every_order_with_two_options(first, second):
    """An order is refused without asking a host exactly if its row says so."""
    parameter = parameter_with([first, second])
    task = Migrate(vm_name="vm1", destination="node02", parameter=parameter)
    problem = problem_of_order(MigrationSpec.from_task(task, "node01"))
    rule = combinations.rule_for(first, second)
    if rule is not None and rule.verdict == "refused":
        assert str(first) in problem
        assert str(second) in problem
        assert problem.endswith(rule.remedy)
    else:
        assert problem is None


# Versions


@pytest.mark.parametrize("second", [PARALLEL, combinations.ZLIB, ZSTD], ids=str)
@pytest.mark.parametrize(
    ("source", "destination", "old"),
    [
        ((7, 2), (7, 2), "node01 has QEMU 7.2"),
        ((10, 0), (10, 1), "node01 has QEMU 10.0"),
        ((10, 1), (10, 0), "node02 has QEMU 10.0"),
        ((10, 1), (9, 9), "node02 has QEMU 9.9"),
        ((10, 1), (10, 1), None),
        ((11, 0), (10, 2), None),
    ],
)
def test_post_copy_with_connections_needs_qemu_10_1_on_both_hosts(second, source, destination, old):
    problem = problem_of_hosts((LIVE, POST_COPY, second), hosts(source, destination))
    if old is None:
        assert problem is None
    else:
        assert problem == (
            f"on-timeout: post-copy with {second} needs QEMU 10.1 or newer on both hosts, but "
            f"{old} (older ones abort at the destination after the switch, and the domain is gone "
            "on both hosts); leave out one of the two, or change the version there"
        )


@pytest.mark.parametrize(
    ("source", "destination", "old"),
    [((4, 2), (4, 2), "node01"), ((5, 0), (4, 2), "node02"), ((5, 0), (5, 0), None)],
)
def test_post_copy_with_compressed_pages_needs_qemu_5_on_both_hosts(source, destination, old):
    problem = problem_of_hosts((LIVE, POST_COPY, MT), hosts(source, destination))
    if old is None:
        assert problem is None
    else:
        assert problem.startswith(
            "on-timeout: post-copy with compression: mt needs QEMU 5.0 or newer on both hosts, but "
            f"{old} has QEMU 4.2"
        )


def test_unknown_version_is_refused_where_it_matters():
    problem = problem_of_hosts((LIVE, POST_COPY, PARALLEL), hosts(None, (10, 1)))
    assert "needs QEMU 2.6 or newer" in problem
    assert "the QEMU version of node01 is unknown" in problem
    assert problem_of_hosts((LIVE, VCPU_MAP), hosts(None, None)) is None


@pytest.mark.parametrize(
    ("choice", "qemu", "libvirt", "why"),
    [
        (ZSTD, (7, 2), (9, 0), "compression: zstd needs libvirt 9.4 or newer on both hosts, but "
         "node01 has libvirt 9.0; leave it out, or change the version there"),
        (ZSTD, (4, 2), (9, 4), "needs QEMU 5.0 or newer on both hosts, but node01 has QEMU 4.2"),
        (ZSTD, (5, 0), (9, 4), None),
        (MT, (9, 0), (9, 0), None),
        (MT, (9, 1), (10, 0), "compression: mt needs QEMU 2.4 or newer, but older than 9.1, on "
         "both hosts, but node01 has QEMU 9.1"),
        (PARALLEL, (4, 0), (5, 1), "needs libvirt 5.2"),
        (PARALLEL, (3, 1), (5, 2), "needs QEMU 4.0"),
    ],
)  # fmt: skip
def test_single_option_needs_versions(choice, qemu, libvirt, why):
    problem = problem_of_hosts((LIVE, choice), hosts(qemu, qemu, libvirt=libvirt))
    if why is None:
        assert problem is None
    else:
        assert why in problem
    assert problem_of_hosts((combinations.OFFLINE, choice), hosts(qemu, qemu)) is None


def test_post_copy_into_files_needs_a_destination_that_checks_it():
    chosen = (LIVE, POST_COPY, FILE_MEMORY)
    assert problem_of_hosts(chosen, hosts((7, 2), (8, 1))) is None
    problem = problem_of_hosts(chosen, hosts((8, 1), (7, 2)))
    assert problem.startswith(
        "on-timeout: post-copy with a domain that has memory in files needs QEMU 8.1 or newer on "
        "the destination, but node02 has QEMU 7.2"
    )


@pytest.mark.parametrize("choice", [each for each in CHOICES if each.only_qemu], ids=str)
def test_other_hypervisors_are_refused_choices_of_qemu(choice):
    problem = problem_of_hosts((LIVE, choice), hosts(kind="Xen"))
    assert problem == (f"{choice} needs QEMU, but node01 has the hypervisor Xen; leave it out")
    plain = (LIVE, VCPU_MAP, combinations.SWAP, combinations.PSCOM)
    assert problem_of_hosts(plain, hosts(kind="Xen")) is None


def test_rdma_needs_a_memory_limit():
    problem = problem_of_pairs((LIVE, RDMA, NO_MEMORY_LIMIT))
    assert problem == (
        "rdma-migration does not work with a domain that has no hard_limit of memory: libvirt "
        "locks the domain's memory for RDMA only up to a limit; give the domain a hard_limit in "
        "its memtune, or leave out rdma-migration"
    )


@pytest.mark.parametrize(
    ("chosen", "counts"),
    [
        ((LIVE, POST_COPY, PARALLEL), True),
        ((LIVE, POST_COPY, ZSTD), True),
        ((LIVE, POST_COPY), False),
        ((LIVE, PARALLEL, ZSTD), False),
        ((LIVE, POST_COPY, FILE_MEMORY), False),
    ],
)
def test_version_of_the_process_counts_if_no_other_program_checks_it(chosen, counts):
    assert any(bound.process_counts for bound in bounds_of(chosen)) is counts


def test_bounds_are_those_of_options_and_pairs():
    assert list(bounds_of((LIVE, combinations.BANDWIDTH_LIMIT))) == []
    assert [str(bound) for bound in bounds_of((PARALLEL, POST_COPY, LIVE))] == [
        "QEMU 2.6 or newer on both hosts",
        "libvirt 1.3 or newer on both hosts",
        "QEMU 4.0 or newer on both hosts",
        "libvirt 5.2 or newer on both hosts",
        "QEMU 10.1 or newer on both hosts",
    ]


@pytest.mark.parametrize(
    ("qemu", "libvirt", "kind", "methods"),
    [
        ((7, 2), (9, 0), "QEMU", ["xbzrle", "mt"]),
        ((9, 0), (10, 0), "QEMU", ["xbzrle", "mt", "zlib", "zstd"]),
        ((9, 1), (10, 0), "QEMU", ["xbzrle", "zlib", "zstd"]),
        (None, (10, 0), "Xen", []),
    ],
)
def test_host_supports_compression_by_its_versions(qemu, libvirt, kind, methods):
    (host, _) = hosts(qemu, libvirt=libvirt, kind=kind)
    assert supported_compressions(host) == methods


def test_versions_compare_as_numbers():
    versions = [version_of(number) for number in (7_002_022, 9_001_000, 10_001_000)]
    assert versions == [(7, 2), (9, 1), (10, 1)]
    assert all(older < newer for older, newer in itertools.pairwise(versions))
    assert version_text((10, 1)) == "10.1"


# Values


@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        ({"parallel_connections": 256}, "parallel-connections must be at most 255, not 256"),
        ({"compression": "lzma"}, "compression must be one of mt, xbzrle, zlib, zstd, not 'lzma'"),
        ({"compression": "x" * 99}, f"not '{'x' * 40}'"),
        ({"max_downtime": 2_000_001}, "max-downtime must be at most 2000000 ms, not 2000001"),
        ({"swap_with": SwapWith(vm_name="vm2"), "migration_type": "offline"},
         "migration-type: offline does not work with swap-with: domains that are shut off are not "
         "swapped; migrate each offline"),
        ({"on_timeout": "post-copy"}, "migration-type: warm does not work with on-timeout: "
         "post-copy: post-copy needs migration-type: live"),
    ],
)  # fmt: skip
def test_impossible_order_is_refused_and_not_retried(parameter, why):
    with pytest.raises(FinalError) as caught:
        check_order(spec_of(**parameter))
    assert isinstance(caught.value, HypervisorError)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "parameter",
    [
        {},
        {"parallel_connections": 255, "compression": "zlib", "migration_type": "live"},
        {"on_timeout": "post-copy", "migration_type": "live", "timeout": 0},
        {"max_downtime": 2_000_000},
        {"compression": "mt"},
    ],
)
def test_possible_order_is_accepted(parameter):
    check_order(spec_of(**parameter))


# What the laboratory shows


def test_laboratory_shows_each_pair_that_works():
    groups = (*SHOWN, SHOWN_OFFLINE)
    shown = {frozenset(pair) for group in groups for pair in itertools.combinations(group, 2)}
    works = {frozenset(pair) for pair in combinations.pairs() if works_in_the_laboratory(*pair)}
    missing = [" with ".join(map(str, pair)) for pair in works - shown]
    assert not missing
    assert shown <= works


def test_options_that_cannot_be_shown_are_refused_in_the_laboratory():
    """So no option has this mark that the laboratory could show."""
    for choice in CHOICES:
        if choice.not_shown is not None:
            conditions = (LIVE, choice, NO_MEMORY_LIMIT)
            assert problem_of_pairs(conditions) or problem_of_hosts(conditions, LABORATORY)
