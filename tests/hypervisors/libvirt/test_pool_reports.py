"""Storage pools: libvirt's driver `test` has real ones, and a boundary fake blocks calls.

The fake replaces the functions that call libvirt, because no call of the driver `test` hangs. The
laboratory has a pool whose file system hangs (`tests/laboratory/test_tasks.py`). Time does not
pass by itself: a test skips it when all other calls have ended.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from fastlib.message.hardware import StoragePoolReport
from fastlib.migfra.hypervisors.libvirt import LibvirtOptions, pool_reports
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.storage_pools import read_names, read_pool
from fastlib.migfra.hypervisors.libvirt.known_problems import KnownProblems
from fastlib.migfra.hypervisors.libvirt.pool_reports import ANSWER_SECONDS, MOST_CALLS, PoolReports
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.libvirt.fake_domain import refusal

POOL = "<pool type='dir'><name>{}</name><target><path>/srv/{}</path></target></pool>"
HOST = f"<node>{POOL.format('b', 'b')}{POOL.format('a', 'a')}{POOL.format('c', 'c')}</node>"
SILENT = f"libvirt does not answer within {ANSWER_SECONDS:g} s; the storage of a pool may hang"


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose timers wait until a test skips the time."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Site:
    """A host with the pools a, b and c. Calls about chosen pools, or for the list, hang."""

    def __init__(self, file: Any) -> None:
        options = LibvirtOptions(driver="test", local_uri=f"test://{file}")
        self.node = NodeContext("node01")
        self.runtime = LibvirtRuntime(options, self.node)
        self.reports = PoolReports(self.runtime, KnownProblems(self.node.log))
        self.hung: dict[str | None, threading.Event] = {}
        """The pools that hang until their event is set. None is the list of all pools."""
        self.begun: list[str | None] = []
        """The calls that began: a pool, or None for the list."""

    def names(self, connection: Any) -> list[str] | None:
        return self._call(None, lambda: read_names(connection))

    def pool(self, connection: Any, name: str) -> StoragePoolReport | None:
        return self._call(name, lambda: read_pool(connection, name))

    def _call(self, what: str | None, function: Callable[[], Any]) -> Any:
        self.begun.append(what)
        if what in self.hung:
            self.hung[what].wait()
        return function()

    def hang(self, *pools: str | None) -> None:
        self.hung = {pool: threading.Event() for pool in pools}

    def release(self) -> None:
        for event in self.hung.values():
            event.set()
        self.hung = {}

    async def read(self) -> list[StoragePoolReport] | None:
        """Read the pools. The time passes only when nothing but hung calls is in flight."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SkippingLoop)
        reading = asyncio.ensure_future(self.reports.read(None))
        while not reading.done():
            await asyncio.sleep(0)
            if set(self.in_flight()) and set(self.in_flight()) <= set(self.hung):
                loop.now += ANSWER_SECONDS / 4
        return await reading

    async def all_ended(self) -> None:
        while self.in_flight():
            await asyncio.sleep(0)

    def in_flight(self) -> list[str | None]:
        return [pool for _, pool in self.reports._calls]


@pytest.fixture
def site(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    file = tmp_path / "host.xml"
    file.write_text(HOST)
    made = Site(file)
    monkeypatch.setattr(pool_reports, "read_names", made.names)
    monkeypatch.setattr(pool_reports, "read_pool", made.pool)
    yield made
    made.release()


def run(site: Site, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        try:
            await scenario()
        finally:
            site.reports.close()
            site.release()
            await site.runtime.connections.close()

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(main())


def known(pools: list[StoragePoolReport] | None) -> dict[str, str | None]:
    """Return the paths of the pools, and the reasons of those without."""
    assert pools is not None
    return {pool.name: pool.path or pool.details for pool in pools}


ALL = {"a": "/srv/a", "b": "/srv/b", "c": "/srv/c"}


def test_pools_are_reported_by_name(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        pools = await site.read()
        assert known(pools) == ALL
        assert list(known(pools)) == ["a", "b", "c"]
        assert [(each.type, each.state, each.details) for each in pools or ()] == [
            ("dir", "running", None)
        ] * 3
        assert not caplog.records

    run(site, scenario)


def test_hung_pool_makes_only_its_own_row_incomplete(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        site.hang("b")
        assert known(await site.read()) == ALL | {"b": SILENT}
        assert known(await site.read()) == ALL | {"b": SILENT}
        assert site.begun.count("b") == 1, "a second call would hang, too"
        assert [record.getMessage() for record in caplog.records] == [
            f"the storage pool b is not known: {SILENT}"
        ]
        site.release()
        await site.all_ended()
        assert known(await site.read()) == ALL
        site.hang("b")
        await site.read()
        assert len(caplog.records) == 2, "the problem began again"

    run(site, scenario)


def test_other_pools_are_read_while_the_list_hangs(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        site.hang(None)
        assert await site.read() is None
        assert [record.getMessage() for record in caplog.records] == [
            f"the storage pools of this host are not known: {SILENT}"
        ]
        site.release()
        await site.all_ended()
        assert known(await site.read()) == ALL
        site.hang(None, "c")
        assert known(await site.read()) == ALL | {"c": SILENT}

    run(site, scenario)


def test_hung_calls_never_use_up_the_connection(site: Site) -> None:
    async def scenario() -> None:
        await site.read()
        site.hang(None, "a", "b", "c")
        assert known(await site.read()) == dict.fromkeys("abc", SILENT)
        assert len(site.in_flight()) == MOST_CALLS
        site.reports._names[None] = ["a", "b", "c", "d"]
        pools = known(await site.read())
        assert pools["d"] is not None
        assert f"{MOST_CALLS} calls to libvirt's storage driver hang" in pools["d"]
        assert len(site.in_flight()) == MOST_CALLS < 5

    run(site, scenario)


def test_simultaneous_queries_share_their_calls(site: Site) -> None:
    async def scenario() -> None:
        site.hang("a")
        both = asyncio.gather(site.read(), site.reports.read(None))
        assert [known(pools) for pools in await both] == [ALL | {"a": SILENT}] * 2
        assert site.begun.count("a") == 1

    run(site, scenario)


def test_error_of_libvirt_is_reported_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Any, *name: str) -> None:
        if name in ((), ("a",)):
            raise refusal("INTERNAL_ERROR", "no storage")

    async def scenario() -> None:
        monkeypatch.setattr(pool_reports, "read_pool", fail)
        for _ in range(2):
            (pool,) = await site.read() or ()
            assert (pool.name, pool.path) == ("a", None)
            assert "no storage" in (pool.details or "")
        monkeypatch.setattr(pool_reports, "read_names", fail)
        for _ in range(2):
            assert await site.read() is None
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 2
        assert "the storage pool a is not known" in said[0]
        assert "the storage pools of this host are not known" in said[1]

    run(site, scenario)


# The calls of libvirt


@pytest.fixture
def connection() -> Iterator[Any]:
    """A connection to the driver `test`, whose host has only the pool `default-pool`."""
    raw = api().open("test:///default")
    yield raw
    raw.close()


def test_inactive_pool_has_no_size(connection: Any) -> None:
    pool = connection.storagePoolDefineXML(POOL.format("spare", "spare"), 0)
    try:
        assert read_names(connection) == ["default-pool", "spare"]
        assert read_pool(connection, "spare") == StoragePoolReport(
            name="spare", type="dir", path="/srv/spare", state="inactive"
        )
        pool.create(0)
        found = read_pool(connection, "spare")
        assert found is not None
        assert (found.state, found.capacity, found.free) == ("running", 102400, 102400)
    finally:
        if pool.isActive():
            pool.destroy()
        pool.undefine()


def test_removed_pool_is_left_out(connection: Any) -> None:
    assert read_pool(connection, "gone") is None


def test_transient_pools_of_the_daemon_are_left_out(connection: Any) -> None:
    pool = connection.storagePoolCreateXML(POOL.format("fastlib-copy-1", "x"), 0)
    try:
        assert read_names(connection) == ["default-pool"]
    finally:
        pool.destroy()


def test_driver_without_storage_has_no_pools() -> None:
    class Without:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def listAllStoragePools(self, flags: int) -> None:
            raise self.error

    assert read_names(Without(refusal("NO_SUPPORT", "no storage driver"))) is None
    broken = refusal("INTERNAL_ERROR", "broken")
    with pytest.raises(type(broken), match="broken"):
        read_names(Without(broken))
