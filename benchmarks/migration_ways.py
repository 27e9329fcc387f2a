"""The parts of the benchmark of migrations: what is moved, and by whom.

Each part prepares its domains on the first host, and returns the ways to move them. All ways of a
part move the same domains with the same flags.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .codec import OWN
from .laboratory import Mover
from .movers import DISKS, TLS

if TYPE_CHECKING:
    from fastlib.client import Handle
    from tests.support.lab.fleet import Fleet
    from tests.support.lab.guest import GuestOptions

PATIENCE = 300.0
"""Seconds until a migration fails."""
HOSTS = ("hostA", "hostB")

VIRSH = "virsh"
CALL = "libvirt's call"
LARGER = "the larger alone"
IN_A_ROW = "four in a row"
NO_POOL = "fastlib without a pool"
IN_CLEAR = "fastlib in clear"
"""Who is measured beside fastlib and virsh. The bare call on an open connection is what neither can
be faster than. The others are migrations by fastlib, which show what an option or a pool costs or
saves.
"""

SMALL: "GuestOptions" = {"memory": 96, "dirty": 4, "rate": 1}
LARGE: "GuestOptions" = {"memory": 384, "dirty": 128, "rate": 1}
"""Guests: MiB of memory, MiB of that they rewrite, and MiB a second that they do."""

Way = Callable[[str, str], float]
"""Moves what is to be moved from a host to the other; gives the seconds that it took."""


class Bench:
    """The laboratory of a run, and what moves domains in it without fastlib."""

    def __init__(self, fleet: "Fleet", movers: Mapping[str, Mover], stack: ExitStack) -> None:
        self.fleet = fleet
        self.movers = movers
        self.stack = stack
        """It ends with the part."""

    def migrated(self, name: str, **options: Any) -> Way:
        """Migrate by fastlib; return the seconds from the message to its result."""
        client = self.fleet.client
        return lambda source, destination: _timed(
            lambda: client.migrate(name, source, destination, migration_type="live", **options),
            [name],
        )

    def moved(self, how: str, names: list[str], *more: str) -> Way:
        """Migrate without fastlib, all domains at once; `more` are options of virsh."""

        def move(source: str, destination: str) -> float:
            self.movers[source].begin(how, destination, names, more)
            return self.movers[source].end()

        return move


def one_domain(bench: Bench) -> dict[str, Way]:
    """A domain without a disk, in clear."""
    bench.fleet.run_guest(HOSTS[0], "vm1", **SMALL)
    return {
        OWN: bench.migrated("vm1"),
        VIRSH: bench.moved("virsh", ["vm1"]),
        CALL: bench.moved("call", ["vm1"]),
    }


def disk(bench: Bench) -> dict[str, Way]:
    """A domain with a disk, which is copied. Both hosts have a storage pool: virsh needs it.

    The image that stays on the source is removed after each migration, outside of its time.
    """
    from tests.support.lab.local_disks import FOLDER, LocalDisk, make_folder

    hosts = [bench.fleet.lab.host(name) for name in HOSTS]
    image = LocalDisk(hosts[0], "vm1", "qcow2")
    for host in hosts:
        make_folder(host)
    options: GuestOptions = {**SMALL, "disk": image}
    bench.fleet.run_guest(HOSTS[0], "vm1", **options)
    pool = ["pool-create-as", "images", "dir", "--target", str(FOLDER)]

    def with_pools(way: Way) -> Way:
        def move(source: str, destination: str) -> float:
            for host in hosts:
                host.virsh(*pool)
            try:
                return cleared(way)(source, destination)
            finally:
                for host in hosts:
                    host.virsh("pool-destroy", "images")

        return move

    def cleared(way: Way) -> Way:
        def move(source: str, destination: str) -> float:
            seconds = way(source, destination)
            bench.fleet.lab.host(source).run(["rm", image.path])
            return seconds

        return move

    return {
        OWN: with_pools(bench.migrated("vm1", copy_storage="all")),
        VIRSH: with_pools(bench.moved("virsh", ["vm1"], DISKS)),
        CALL: with_pools(bench.moved("call", ["vm1"], DISKS)),
        NO_POOL: cleared(bench.migrated("vm1", copy_storage="all")),
    }


def encrypted(bench: Bench) -> dict[str, Way]:
    """A domain without a disk, encrypted."""
    from tests.support.lab.qemu_certificates import certified

    bench.stack.enter_context(certified(bench.fleet.lab))
    bench.fleet.run_guest(HOSTS[0], "vm1", **SMALL)
    return {
        OWN: bench.migrated("vm1", encrypted=True),
        VIRSH: bench.moved("virsh", ["vm1"], TLS),
        CALL: bench.moved("call", ["vm1"], TLS),
        IN_CLEAR: bench.migrated("vm1", encrypted=False),
    }


def swap(bench: Bench) -> dict[str, Way]:
    """Two domains; the smaller one is at the destination, and stays there for the larger alone."""
    bench.fleet.run_guest(HOSTS[0], "vm1", **LARGE)
    bench.fleet.run_guest(HOSTS[1], "vm2", **SMALL)
    movers = bench.movers

    def by_virsh(source: str, destination: str) -> float:
        begin = time.perf_counter()
        movers[source].begin("virsh", destination, ["vm1"])
        movers[destination].begin("virsh", source, ["vm2"])
        movers[source].end()
        movers[destination].end()
        return time.perf_counter() - begin

    return {
        OWN: bench.migrated("vm1", swap_with="vm2"),
        VIRSH: by_virsh,
        LARGER: bench.migrated("vm1"),
    }


def evacuation(bench: Bench) -> dict[str, Way]:
    """Four domains without disks."""
    names = ["vm1", "vm2", "vm3", "vm4"]
    bench.fleet.run_guests(HOSTS[0], names, **SMALL)
    client = bench.fleet.client
    one_by_one = [bench.migrated(name) for name in names]

    def evacuated(source: str, destination: str) -> float:
        return _timed(lambda: client.evacuate(source, [destination], migration_type="live"), names)

    return {
        OWN: evacuated,
        VIRSH: bench.moved("virsh", names),
        IN_A_ROW: lambda source, destination: sum(way(source, destination) for way in one_by_one),
    }


PARTS: Mapping[str, Callable[[Bench], dict[str, Way]]] = {
    "one domain": one_domain,
    "disk": disk,
    "encrypted": encrypted,
    "swap": swap,
    "evacuation": evacuation,
}
BASES: Mapping[str, str] = {
    "one domain": VIRSH,
    "disk": VIRSH,
    "encrypted": VIRSH,
    "swap": LARGER,
    "evacuation": IN_A_ROW,
}
"""What each part is compared with."""


def there_and_back(ways: Mapping[str, Way], order: Iterable[str]) -> dict[str, list[float]]:
    """Move there and back by each way in turn; return the seconds of both directions."""
    return {name: [ways[name](*HOSTS), ways[name](*HOSTS[::-1])] for name in order}


def _timed(submit: Callable[[], "Handle[Any]"], names: list[str]) -> float:
    from fastlib import Result

    begin = time.perf_counter()
    answer = submit().result(PATIENCE)
    seconds = time.perf_counter() - begin
    results = [answer] if isinstance(answer, Result) else list(answer)
    if [(each.vm_name, each.status) for each in results] != [(name, "success") for name in names]:
        raise RuntimeError(f"not migrated: {results}")
    return seconds
