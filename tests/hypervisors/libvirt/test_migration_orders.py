"""What libvirt is asked for when a domain migrates: every option of a task has its place in it.

The orders are those that a migration gives on hosts that are played (see played.py).
"""

import asyncio

import pytest

from fastlib import Migrate, MigrateParameter, SwapWith
from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt import job, pscom
from fastlib.migfra.hypervisors.libvirt.api import api
from fastlib.migfra.hypervisors.libvirt.cancel_scope import Stopping
from fastlib.migfra.hypervisors.libvirt.migrate import trip_of
from fastlib.migfra.hypervisors.libvirt.migration import Migration
from fastlib.migfra.hypervisors.libvirt.swap import trips_of
from fastlib.migfra.tasks.results import retry_counter
from fastlib.migfra.virt import precopy
from tests.support.libvirt.played import Stage

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
    "swap_with": SwapWith(vm_name="vm2"),
    "vcpu_map": [[0], [1]],
}
"""A value for each option that is another one than that of its absence."""


def task_of(**parameter):
    return Migrate(vm_name="vm1", destination="node02", parameter=MigrateParameter(**parameter))


def migration_of(stage, task):
    trip = trip_of(stage.site, task)
    stopping = Stopping(stage.context)
    return Migration(stage.site, trip, stopping, stage.context, stage.context.measurement)


@pytest.fixture
def order_of(monkeypatch):
    """Gives the order of a migration, as it comes to what carries it out."""
    orders = []

    async def run(site, trip, order, stopping, context):
        orders.append(order)

    monkeypatch.setattr(job, "run", run)

    def order_of(task, *, persistent=True, **options):
        async def scene():
            stage = Stage(**options)
            stage.domain.persistent = persistent
            migration = migration_of(stage, task)
            migration._persistent = persistent
            await migration._move()

        asyncio.run(scene())
        return orders.pop()

    return order_of


def named(flags):
    """The names of flags. All are known, or the number would not come out."""
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


def test_every_option_has_a_probe():
    assert set(PROBES) == set(MigrateParameter.__struct_fields__)


@pytest.mark.parametrize("mode", ["peer-to-peer", "managed"])
@pytest.mark.parametrize("field", sorted(MigrateParameter.__struct_fields__))
def test_no_option_is_ignored(order_of, field, mode):
    """Each changes the order, or what is decided on the way, or what is done around it."""

    def effects(**parameter):
        stage = Stage(migration=mode)
        task = task_of(**parameter)
        trip = trip_of(stage.site, task)
        swaps = task.parameter is not None and task.parameter.swap_with is not None
        return [
            order_of(task, migration=mode),
            precopy.Options.of(trip.parameter),
            stage.site.connections.uri("node02", trip.driver, trip.transport),
            asyncio.run(pscom.count_of(stage.site, trip)),
            retry_counter(task),
            trips_of(trip, task)[1].name if swaps else None,
        ]

    assert effects(**{field: PROBES[field]}) != effects()
    assert effects(**{field: None}) == effects()


@pytest.mark.parametrize("kind", ["live", "warm", "offline", None])
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("mode", ["peer-to-peer", "managed"])
def test_kinds(order_of, kind, persistent, mode):
    order = order_of(task_of(migration_type=kind), persistent=persistent, migration=mode)
    expected = PERSISTENT if persistent else set()
    expected = expected | (PEER if mode == "peer-to-peer" else set())
    if kind in ("live", "offline"):
        expected = expected | {kind.upper()}
    assert named(order.flags) == expected
    assert order.parameters == {}
    assert order.name == "vm1"
    assert order.destination_uri == (PEER_URI if mode == "peer-to-peer" else None)


@pytest.mark.parametrize(
    ("parameter", "flags", "parameters"),
    [
        ({"vcpu_map": [[0], [1]]}, {"PAUSED"}, {}),
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
def test_options(order_of, parameter, flags, parameters):
    order = order_of(task_of(**parameter))
    assert named(order.flags) == PERSISTENT | PEER | flags
    assert order.parameters == keys(**parameters)


def test_all_at_once(order_of):
    order = order_of(
        task_of(
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
    assert named(order.flags) == PERSISTENT | PEER | {
        "LIVE", "PAUSED", "AUTO_CONVERGE", "POSTCOPY", "COMPRESSED", "PARALLEL",
    }  # fmt: skip
    assert order.parameters == keys(
        URI="rdma://node02-fast",
        BANDWIDTH=1,
        BANDWIDTH_POSTCOPY=1,
        PARALLEL_CONNECTIONS=255,
        COMPRESSION="zstd",
    )
    assert order.destination_uri == "qemu+tcp://node02/system"


def test_offline_moves_only_the_definition(order_of):
    """No memory is sent, so nothing is said of how."""
    parameter = {**PROBES, "migration_type": "offline", "swap_with": None}
    order = order_of(task_of(**parameter), migration_host="<host>-mig")
    assert named(order.flags) == PERSISTENT | PEER | {"OFFLINE"}
    assert order.parameters == {}


def test_another_network_for_memory(order_of):
    order = order_of(task_of(), migration_host="<host>-mig")
    assert order.parameters == keys(URI="tcp://node02-mig")


class Performing:
    """A domain that notes how it is asked to migrate."""

    def lookupByName(self, name):
        self.name = name
        return self

    def migrateToURI3(self, *arguments):
        self.asked = ("migrateToURI3", *arguments)

    def migrate3(self, *arguments):
        self.asked = ("migrate3", *arguments)


@pytest.mark.parametrize("mode", ["peer-to-peer", "managed"])
def test_who_is_asked(order_of, mode):
    order = order_of(task_of(bandwidth_limit=5), migration=mode)
    source, destination = Performing(), object()
    job._perform(source, "vm1", order, destination)
    assert source.name == "vm1"
    call, where = ("migrateToURI3", PEER_URI) if mode == "peer-to-peer" else (
        "migrate3", destination,
    )  # fmt: skip
    assert source.asked == (call, where, order.parameters, order.flags)


# Options that contradict each other


@pytest.mark.parametrize(
    ("parameter", "why"),
    [
        ({"on_timeout": "post-copy"}, "post-copy needs migration-type: live"),
        ({"on_timeout": "post-copy", "migration_type": "warm"}, "needs migration-type: live"),
        ({"on_timeout": "post-copy", "migration_type": "offline"}, "needs migration-type: live"),
        ({"parallel_connections": 256}, "parallel-connections is at most 255, not 256"),
        ({"compression": "lzma"}, "compression is one of mt, xbzrle, zlib, zstd, not 'lzma'"),
        ({"compression": "x" * 99}, f"not '{'x' * 40}'"),
        ({"compression": "mt", "parallel_connections": 2},
         "compression mt does not go with parallel-connections; take zlib or zstd"),
        ({"compression": "xbzrle", "parallel_connections": 2},
         "compression xbzrle does not go with parallel-connections"),
    ],
)  # fmt: skip
def test_refusals(parameter, why):
    trip = trip_of(Stage().site, task_of(**parameter))
    with pytest.raises(HypervisorError, match=why):
        job.check_parameter(trip)


@pytest.mark.parametrize(
    "parameter",
    [
        {},
        {"on_timeout": "post-copy", "migration_type": "live"},
        {"parallel_connections": 255, "compression": "zlib"},
        {"parallel_connections": 2, "compression": "zstd"},
        {"compression": "mt"},
        {"compression": "xbzrle"},
    ],
)
def test_what_is_not_refused(parameter):
    job.check_parameter(trip_of(Stage().site, task_of(**parameter)))
