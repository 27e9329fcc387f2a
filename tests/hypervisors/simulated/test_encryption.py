"""Encrypted migrations of the simulated cluster follow the rules of real ones, in virtual time."""

import msgspec
import pytest

from fastlib import Evacuate, EvacuateParameter, Migrate, MigrateParameter, SwapWith
from fastlib.migfra.errors import FinalError
from fastlib.migfra.plugin_api.context import Context
from tests.support.migfra.simulation import GIB, cluster_of, live, simulated

DOMAINS = (
    ("vm1", "a", {"memory": 4 * GIB}),
    ("vm2", "b", {"memory": 2 * GIB}),
    ("off", "a", {"state": "shut off"}),
)


def cluster(*with_certificates, memory=64):
    """Hosts a and b, of which some have certificates."""
    described = cluster_of(*DOMAINS, memory=memory * GIB)
    hosts = [
        msgspec.structs.replace(host, certificates=host.name in with_certificates)
        for host in described.hosts
    ]
    return msgspec.structs.replace(described, hosts=hosts)


def outcome_of(description, task, **options):
    """Return whether each result says that it was encrypted, or the error of the task."""

    async def scenario(simulation):
        before = simulation.cluster.domains()
        method = getattr(simulation["a"], type(task).__name__.lower())
        try:
            outcome = await method(task, Context("a"))
        except FinalError as error:
            assert simulation.cluster.domains() == before
            return str(error)
        results = outcome if isinstance(outcome, list) else [outcome]
        return [result.encrypted if result.status == "success" else "error" for result in results]

    return simulated(description, scenario, **options)


def migrate(**parameter):
    return Migrate(vm_name="vm1", destination="b", parameter=live(**parameter))


@pytest.mark.parametrize(
    ("hosts", "options", "ordered", "expected"),
    [
        ("", {}, None, None),
        ("a", {}, None, False),
        ("b", {}, None, False),
        ("ab", {}, None, True),
        ("ab", {}, True, True),
        ("ab", {}, False, False),
        ("ab", {"encryption": "off"}, None, False),
        ("ab", {"encryption": "required"}, None, True),
    ],
)
def test_hosts_with_certificates_encrypt(hosts, options, ordered, expected):
    assert outcome_of(cluster(*hosts), migrate(encrypted=ordered), **options) == [expected]


@pytest.mark.parametrize(
    ("hosts", "options", "ordered", "words"),
    [
        ("a", {}, True, "vm1 cannot be sent encrypted: b has no certificates"),
        ("b", {"encryption": "required"}, None, "vm1 cannot be sent encrypted: a has no cert"),
        ("ab", {"encryption": "off"}, True, "encrypted: true does not work with encryption: off"),
        ("ab", {"encryption": "required"}, False, "encrypted: false does not work with encrypti"),
    ],
)
def test_refused_order_changes_nothing(hosts, options, ordered, words):
    assert words in outcome_of(cluster(*hosts), migrate(encrypted=ordered), **options)


def test_each_kind_of_migration_says_whether_it_was_encrypted():
    swap = migrate(swap_with=SwapWith(vm_name="vm2"))
    assert outcome_of(cluster("a", "b"), swap) == [True]
    evacuate = Evacuate(destinations=["b"], parameter=EvacuateParameter(migration_type="live"))
    assert outcome_of(cluster("a", "b"), evacuate) == [True]
    offline = MigrateParameter(migration_type="offline")
    task = Migrate(vm_name="off", destination="b", parameter=offline)
    assert outcome_of(cluster("a", "b"), task, encryption="required") == [None]


def test_domain_of_an_evacuation_that_cannot_be_encrypted_stays():
    evacuate = Evacuate(
        destinations=["b"], parameter=EvacuateParameter(migration_type="live", encrypted=True)
    )
    assert outcome_of(cluster("a"), evacuate) == ["error"]


def test_rdma_is_not_encrypted():
    assert outcome_of(cluster("a", "b"), migrate(rdma_migration=True)) == [False]
    text = outcome_of(cluster("a", "b"), migrate(rdma_migration=True), encryption="required")
    assert "rdma-migration does not work with encrypted" in text


def test_memory_is_not_saved_to_a_file_where_it_must_be_encrypted():
    swap = migrate(swap_with=SwapWith(vm_name="vm2"), encrypted=True)
    text = outcome_of(cluster("a", "b", memory=5), swap)
    assert "the memory in a file is not encrypted" in text
