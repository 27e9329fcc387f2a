"""The arguments of libvirt's call that migrates a domain. Each option of a task affects them.

The orders are those that a migration gives on fake hosts (see fake_libvirt.py).
"""

import asyncio

import msgspec
import pytest

from fastlib import MigrateParameter, SwapWith
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.disks_xml import Disk
from fastlib.migfra.hypervisors.libvirt.domain.file_probe import FileFacts
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Image
from fastlib.migfra.hypervisors.libvirt.migration import (
    arguments,
    disks_decision,
    migration,
    pscom,
)
from fastlib.migfra.hypervisors.libvirt.migration.call import _perform
from fastlib.migfra.hypervisors.libvirt.migration.destination_xml import (
    arrives_by_xml,
    with_maps,
)
from fastlib.migfra.hypervisors.libvirt.migration.disks_check import CopyPlan, PlannedCopy
from fastlib.migfra.hypervisors.libvirt.migration.disks_copy import DiskCopies
from fastlib.migfra.hypervisors.libvirt.migration.disks_decision import DiskFacts
from fastlib.migfra.hypervisors.libvirt.migration.record import (
    DiskCopy,
    MigrationRecord,
    MigrationState,
)
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.tasks.results import retry_counter
from fastlib.migfra.virt import precopy
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.orders import migrate_task, migration_of

PERSISTENT = {"PERSIST_DEST", "UNDEFINE_SOURCE"}
PEER = {"PEER2PEER"}
PEER_URI = "qemu+ssh://node02/system?no_tty=1"
NAMES = (
    "LIVE", "PEER2PEER", "TUNNELLED", "PERSIST_DEST", "UNDEFINE_SOURCE", "PAUSED",
    "NON_SHARED_DISK", "NON_SHARED_INC", "CHANGE_PROTECTION", "UNSAFE", "OFFLINE", "COMPRESSED",
    "ABORT_ON_ERROR", "AUTO_CONVERGE", "RDMA_PIN_ALL", "POSTCOPY", "TLS", "PARALLEL",
    "NON_SHARED_SYNCHRONOUS_WRITES", "POSTCOPY_RESUME", "ZEROCOPY",
)  # fmt: skip
PROBES = {
    "retry_counter": 3,
    "migration_type": "live",
    "rdma_migration": True,
    "pscom_hook_procs": "4",
    "transport": "tls",
    "bandwidth_limit": 100,
    "max_downtime": 500,
    "timeout": 60,
    "on_timeout": "pause",
    "auto_converge": True,
    "parallel_connections": 4,
    "compression": "zlib",
    "encrypted": False,
    "swap_with": SwapWith(vm_name="vm2"),
    "vcpu_map": [[0], [1]],
    "memnode_map": [[0]],
    "copy_storage": "all",
    "copy_disks": ["vda"],
    "source_disks": "remove",
}
"""A value for each option that is another one than that of its absence."""
NEEDED = {"copy_disks": {"copy_storage": "all"}, "source_disks": {"copy_storage": "all"}}
"""Other options that an option needs."""
MAPPABLE = "<domain><vcpu>2</vcpu></domain>"
DISKS = [Disk(target=name, kind="file", path=f"/{name}") for name in ("vda", "vdb")]
NOWHERE = FileFacts(presence="absent")


@pytest.fixture
def migrate_arguments(monkeypatch):
    """Return the order of a migration with which the call is made."""
    orders = []

    async def run(runtime, spec, arguments, scope, context):
        orders.append(arguments)

    monkeypatch.setattr(migration, "run_migration", run)

    def migrate_arguments(task, *, persistent=True, has_certificates=False, kind="QEMU", **options):
        async def scenario():
            hosts = FakeHosts(**options)
            if has_certificates:
                hosts.give_certificates()
            hosts.domain.persistent = persistent
            hosts.source.kind = hosts.destination.kind = kind
            migration = migration_of(hosts, MigrationSpec.from_task(task, "node01"))
            encryption = await migration._decide_encryption()
            by_xml = arrives_by_xml(migration.spec, hosts.source.kind)
            migration.record.state = msgspec.structs.replace(
                migration.record.state,
                is_persistent=persistent,
                arrives_paused=arguments.arrives_paused(
                    migration.spec, migration._plan, by_xml=by_xml
                ),
                arrives_by_xml=by_xml,
                server_name=None if encryption is None else encryption.server_name,
            )
            await migration._move()

        asyncio.run(scenario())
        return orders.pop()

    return migrate_arguments


async def after_copies(hosts, spec):
    """The sentence about the images on the source, when the domain has arrived."""
    copy = DiskCopy(target="vda", image=Image(path="/vda", format="raw", capacity=1))
    record = MigrationRecord(hosts.context, spec.name, MigrationState(disks=(copy,)))
    copies = DiskCopies(hosts.runtime, spec, record, CancelScope(hosts.context), hosts.context)
    return await copies.finish(is_certain=False)


@pytest.mark.parametrize(("incremental", "flag"), [(False, "DISK"), (True, "INC")])
def test_plan_sets_flags_and_names_the_disks(incremental, flag):
    planned = PlannedCopy(target="vdb", image=Image(path="/vdb", format="qcow2", capacity=1 << 30))
    plan = CopyPlan(copies=[planned], is_incremental=incremental)
    spec = MigrationSpec.from_task(migrate_task(migration_type="live"), "node01")
    made = arguments.migrate_arguments(
        spec, persistent=False, peer=None, migration_uri=None, plan=plan
    )
    assert named(made.flags) == {"LIVE", f"NON_SHARED_{flag}"}
    assert made.parameters == keys(MIGRATE_DISKS=["vdb"])


@pytest.mark.parametrize(
    ("disks", "parameter", "paused"),
    [
        ("copied", {"migration_type": "live"}, True),
        ("copied", {"migration_type": "warm"}, True),
        ("copied", {"migration_type": "live", "on_timeout": "post-copy"}, False),
        ("copied", {"migration_type": "live", "on_timeout": "pause"}, True),
        ("copied", {"migration_type": "offline"}, False),
        ("unlocked", {"migration_type": "live"}, True),
        ("unlocked", {"migration_type": "live", "on_timeout": "post-copy"}, False),
        ("locked", {"migration_type": "live"}, False),
        ("locked", {"migration_type": "live", "vcpu_map": [[0]]}, True),
    ],
)
def test_daemon_starts_domain_whose_disks_could_have_two_writers(disks, parameter, paused):
    planned = PlannedCopy(target="vdb", image=Image(path="/vdb", format="qcow2", capacity=1 << 30))
    plan = CopyPlan(copies=[planned] if disks == "copied" else [], has_unlocked=disks == "unlocked")
    spec = MigrationSpec.from_task(migrate_task(**parameter), "node01")
    assert arguments.arrives_paused(spec, plan, by_xml=False) == paused
    assert arguments.arrives_paused(spec, plan, by_xml=True) == (paused and disks != "locked")
    made = arguments.migrate_arguments(
        spec, persistent=False, peer=None, migration_uri=None, plan=plan, arrives_paused=paused
    )
    assert ("PAUSED" in named(made.flags)) == paused


def test_disks_that_are_shown_to_be_shared_need_no_file_system_that_libvirt_knows():
    spec = MigrationSpec.from_task(migrate_task(migration_type="live"), "node01")
    made = arguments.migrate_arguments(
        spec, persistent=False, peer=None, migration_uri=None, plan=CopyPlan(shows_shared=True)
    )
    assert named(made.flags) == {"LIVE", "UNSAFE"}
    assert made.parameters == {}


def named(flags):
    """Return the names of flags. Fail if a flag has no name."""
    libvirt = api()
    found = {name for name in NAMES if flags & getattr(libvirt, f"VIR_MIGRATE_{name}")}
    assert flags == sum(getattr(libvirt, f"VIR_MIGRATE_{name}") for name in found)
    return found


def keys(**parameters):
    """Parameters by the names of libvirt's constants."""
    libvirt = api()
    return {
        getattr(libvirt, f"VIR_MIGRATE_PARAM_{name}"): value for name, value in parameters.items()
    }


def test_every_option_has_a_test_value():
    assert set(PROBES) == set(MigrateParameter.__struct_fields__)


@pytest.mark.parametrize("mode", ["peer-to-peer", "managed"])
@pytest.mark.parametrize("field", sorted(MigrateParameter.__struct_fields__))
def test_every_option_has_an_effect(migrate_arguments, field, mode):
    """Each option changes the call, a decision, or a step before or after the migration."""

    def effects(**parameter):
        hosts = FakeHosts(migration=mode)
        task = migrate_task(**parameter)
        spec = MigrationSpec.from_task(task, hosts.runtime.host)
        swaps = task.parameter is not None and task.parameter.swap_with is not None
        return [
            migrate_arguments(task, has_certificates=True, migration=mode),
            precopy.Options.of(spec.parameter),
            hosts.runtime.connections.uri("node02", spec.driver, spec.transport),
            asyncio.run(pscom.process_count(hosts.runtime, spec)),
            retry_counter(task),
            spec.swap_specs(task)[1].name if swaps else None,
            with_maps(spec, MAPPABLE, None),
            disks_decision.decide(
                spec, DISKS, DiskFacts(there=dict.fromkeys(("/vda", "/vdb"), NOWHERE))
            ),
            asyncio.run(after_copies(hosts, spec)),
        ]

    needed = NEEDED.get(field, {})
    assert effects(**needed, **{field: PROBES[field]}) != effects(**needed)
    assert effects(**{field: None}) == effects()


@pytest.mark.parametrize("kind", ["live", "warm", "offline", None])
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("mode", ["peer-to-peer", "managed"])
def test_migration_type_sets_flags(migrate_arguments, kind, persistent, mode):
    arguments = migrate_arguments(
        migrate_task(migration_type=kind), persistent=persistent, migration=mode
    )
    expected = PERSISTENT if persistent else set()
    expected = expected | (PEER if mode == "peer-to-peer" else set())
    if kind in ("live", "offline"):
        expected = expected | {kind.upper()}
    assert named(arguments.flags) == expected
    assert arguments.parameters == {}
    assert arguments.name == "vm1"
    assert arguments.destination_uri == (PEER_URI if mode == "peer-to-peer" else None)


@pytest.mark.parametrize(
    ("parameter", "flags", "parameters"),
    [
        ({"auto_converge": True}, {"AUTO_CONVERGE"}, {}),
        ({"auto_converge": False}, set(), {}),
        ({"bandwidth_limit": 100}, set(), {"BANDWIDTH": 100}),
        ({"bandwidth_limit": 0}, set(), {}),
        ({"on_timeout": "abort"}, set(), {}),
        ({"on_timeout": "pause"}, set(), {}),
        ({"on_timeout": "post-copy", "migration_type": "live"}, {"LIVE", "POSTCOPY"}, {}),
        (
            {"on_timeout": "post-copy", "migration_type": "live", "bandwidth_limit": 7},
            {"LIVE", "POSTCOPY"},
            {"BANDWIDTH": 7, "BANDWIDTH_POSTCOPY": 7},
        ),
        ({"parallel_connections": 4}, {"PARALLEL"}, {"PARALLEL_CONNECTIONS": 4}),
        ({"compression": "xbzrle"}, {"COMPRESSED"}, {"COMPRESSION": "xbzrle"}),
        ({"compression": "mt"}, {"COMPRESSED"}, {"COMPRESSION": "mt"}),
        # These two are only for several connections; how many, libvirt knows.
        ({"compression": "zlib"}, {"COMPRESSED", "PARALLEL"}, {"COMPRESSION": "zlib"}),
        (
            {"compression": "zstd", "parallel_connections": 2},
            {"COMPRESSED", "PARALLEL"},
            {"COMPRESSION": "zstd", "PARALLEL_CONNECTIONS": 2},
        ),
        ({"rdma_migration": True}, set(), {"URI": "rdma://node02-ib"}),
        ({"rdma_migration": False}, set(), {}),
    ],
)
def test_option_sets_flags_and_parameters(migrate_arguments, parameter, flags, parameters):
    arguments = migrate_arguments(migrate_task(**parameter))
    assert named(arguments.flags) == PERSISTENT | PEER | flags
    assert arguments.parameters == keys(**parameters)


def test_encryption_names_the_destination(migrate_arguments):
    for parameter in ({"encrypted": True}, {}):
        task = migrate_task(migration_type="live", **parameter)
        arguments = migrate_arguments(task, has_certificates=True, migration_host="<host>")
        assert named(arguments.flags) == PERSISTENT | PEER | {"LIVE", "TLS"}
        assert arguments.parameters == keys(TLS_DESTINATION="node02", URI="tcp://node02")
    arguments = migrate_arguments(migrate_task(encrypted=False), has_certificates=True)
    assert named(arguments.flags) == PERSISTENT | PEER
    assert arguments.parameters == {}


def test_all_options_combine(migrate_arguments):
    """The check refuses this order, but the arguments still have each option."""
    arguments = migrate_arguments(
        migrate_task(
            migration_type="live",
            rdma_migration=True,
            transport="tcp",
            bandwidth_limit=1,
            on_timeout="post-copy",
            auto_converge=True,
            parallel_connections=255,
            compression="zstd",
            vcpu_map=[[3]],
        ),
        migration_host="<host>-mig",
        rdma_host="<host>-fast",
    )
    assert named(arguments.flags) == PERSISTENT | PEER | {
        "LIVE", "AUTO_CONVERGE", "POSTCOPY", "COMPRESSED", "PARALLEL",
    }  # fmt: skip
    xml = arguments.parameters.pop(api().VIR_MIGRATE_PARAM_DEST_XML)
    assert arguments.parameters.pop(api().VIR_MIGRATE_PARAM_PERSIST_XML) == xml
    assert '<vcpupin vcpu="0" cpuset="3" />' in xml
    assert arguments.parameters == keys(
        URI="rdma://node02-fast",
        BANDWIDTH=1,
        BANDWIDTH_POSTCOPY=1,
        PARALLEL_CONNECTIONS=255,
        COMPRESSION="zstd",
    )
    assert arguments.destination_uri == "qemu+tcp://node02/system"


@pytest.mark.parametrize("mode", ["peer-to-peer", "managed"])
def test_maps_are_in_the_xml_of_the_destination(migrate_arguments, mode):
    task = migrate_task(migration_type="live", vcpu_map=[[1], [0]], memnode_map=[[2]])
    arguments = migrate_arguments(task, migration=mode)
    assert "PAUSED" not in named(arguments.flags)
    for name in ("DEST_XML", "PERSIST_XML"):
        xml = arguments.parameters[getattr(api(), f"VIR_MIGRATE_PARAM_{name}")]
        assert '<vcpupin vcpu="0" cpuset="1" /><vcpupin vcpu="1" cpuset="0" />' in xml
        assert '<numatune><memory mode="strict" nodeset="2" /></numatune>' in xml
    arguments = migrate_arguments(task, migration=mode, persistent=False)
    assert api().VIR_MIGRATE_PARAM_PERSIST_XML not in arguments.parameters


def test_vcpus_of_other_hypervisors_are_pinned_while_the_domain_is_paused(migrate_arguments):
    arguments = migrate_arguments(migrate_task(vcpu_map=[[1]]), kind="Xen")
    assert "PAUSED" in named(arguments.flags)
    assert arguments.parameters == {}


def test_resume_of_post_copy_keeps_its_limit_and_names_no_disks_and_no_xml(migrate_arguments):
    task = migrate_task(
        migration_type="live", on_timeout="post-copy", vcpu_map=[[1]], bandwidth_limit=7
    )
    resumed = arguments.resuming(migrate_arguments(task))
    assert named(resumed.flags) == PERSISTENT | PEER | {"LIVE", "POSTCOPY", "POSTCOPY_RESUME"}
    assert resumed.parameters == keys(BANDWIDTH=7, BANDWIDTH_POSTCOPY=7)


def test_offline_migration_ignores_transfer_options(migrate_arguments):
    """No memory is sent, so the call has no options of sending."""
    parameter = {**PROBES, "migration_type": "offline", "swap_with": None}
    arguments = migrate_arguments(migrate_task(**parameter), migration_host="<host>-mig")
    assert named(arguments.flags) == PERSISTENT | PEER | {"OFFLINE"}
    assert arguments.parameters == {}


def test_migration_host_sets_uri_for_memory(migrate_arguments):
    arguments = migrate_arguments(migrate_task(), migration_host="<host>-mig")
    assert arguments.parameters == keys(URI="tcp://node02-mig")


class Performing:
    """A domain that records the arguments of its migration."""

    def lookupByName(self, name):
        self.name = name
        return self

    def migrateToURI3(self, *arguments):
        self.asked = ("migrateToURI3", *arguments)

    def migrate3(self, *arguments):
        self.asked = ("migrate3", *arguments)


@pytest.mark.parametrize("mode", ["peer-to-peer", "managed"])
def test_migration_mode_selects_call_of_libvirt(migrate_arguments, mode):
    arguments = migrate_arguments(migrate_task(bandwidth_limit=5), migration=mode)
    source, destination = Performing(), object()
    _perform(source, destination, "vm1", arguments)
    assert source.name == "vm1"
    call, where = ("migrateToURI3", PEER_URI) if mode == "peer-to-peer" else (
        "migrate3", destination,
    )  # fmt: skip
    assert source.asked == (call, where, arguments.parameters, arguments.flags)
