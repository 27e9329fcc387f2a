"""The call of a migration: its end, its errors, and the wait for one that an earlier run made."""

import asyncio
from concurrent.futures import Future

import pytest

from fastlib.migfra import HypervisorError
from fastlib.migfra.hypervisors.libvirt.errors import LostError
from fastlib.migfra.hypervisors.libvirt.migration import monitor
from fastlib.migfra.hypervisors.libvirt.migration.arguments import migrate_arguments
from fastlib.migfra.hypervisors.libvirt.migration.call import (
    await_call,
    follow,
    run_migration,
    wait_for_job_end,
)
from tests.support.libvirt.fake_domain import RUNNING, refusal
from tests.support.libvirt.watched_migration import LONGEST, run_scenario


def call_of(watched, error=None):
    """Return a call of libvirt that ends with this error after an abort."""
    call = Future()

    def end():
        if not call.done():
            call.set_exception(error) if error else call.set_result(None)

    watched.domain.on["abort"] = end
    return call, end


async def awaited(watched, call):
    async with asyncio.timeout(LONGEST):
        with watched.scope:
            await await_call(watched.monitor, call)


def test_await_call_returns_after_success():
    async def scenario(watched):
        call, end = call_of(watched)
        watched.loop.call_at(5, end)
        await awaited(watched, call)

    run_scenario(scenario)


def test_await_call_raises_error_of_the_call():
    async def scenario(watched):
        call, end = call_of(watched, HypervisorError("no route to node02"))
        watched.loop.call_at(5, end)
        with pytest.raises(HypervisorError, match="no route to node02"):
            await awaited(watched, call)

    run_scenario(scenario)


def test_await_call_raises_reason_of_the_abort():
    """The reason of the abort has more information."""

    async def scenario(watched):
        call, _ = call_of(watched, HypervisorError("it was aborted"))
        with pytest.raises(HypervisorError, match="nothing has moved"):
            await awaited(watched, call)

    run_scenario(scenario, moving=False)


def test_await_call_returns_when_call_succeeds_after_abort():
    async def scenario(watched):
        call, _ = call_of(watched)
        await awaited(watched, call)
        assert watched.calls == ["abort"]

    run_scenario(scenario, moving=False)


def test_await_call_gives_up_when_call_does_not_return():
    async def scenario(watched):
        with pytest.raises(HypervisorError, match="nothing has moved for 30 s"):
            await awaited(watched, Future())
        assert watched.loop.time() == pytest.approx(30 + monitor._GRACE_SECONDS, abs=1.5)

    run_scenario(scenario, moving=False)


@pytest.mark.parametrize("there", [True, False])
def test_lost_connection_names_the_right_host(there):
    """libvirt on the source reports the end of its own connection to the destination."""

    async def scenario(watched):
        def lost():
            watched.source.is_there = there
            raise refusal("SYSTEM_ERROR", "Cannot recv data: Connection reset by peer")

        watched.domain.migrateToURI3 = lambda *_: lost()
        arguments = migrate_arguments(
            watched.spec, persistent=True, peer="qemu:///", migration_uri=None
        )
        with pytest.raises(HypervisorError) as caught, watched.scope:
            await run_migration(
                watched.runtime, watched.spec, arguments, watched.scope, watched.context
            )
        if there:
            assert str(caught.value) == (
                "the connection to libvirt on node02 is lost (Cannot recv data: Connection reset by"
                " peer); check that host, its network and its libvirtd"
            )
        else:
            assert isinstance(caught.value, LostError)
            assert "libvirt on node01 is lost" in str(caught.value)

    run_scenario(scenario)


def test_follow_waits_for_end_of_the_job():
    async def scenario(watched):
        def over():
            watched.domain.job = None
            watched.domain.state_now = [RUNNING, 1]

        watched.loop.call_at(50, over)
        with watched.scope:
            assert await follow(watched.runtime, watched.spec, watched.monitor) is None
        assert watched.loop.time() == pytest.approx(50, abs=0.6)

    run_scenario(scenario)


@pytest.mark.parametrize("gone", [10, 40])
def test_follow_waits_for_unreachable_source_for_a_while(gone):
    async def scenario(watched):
        def away(is_there):
            watched.source.is_there = is_there

        watched.loop.call_at(5, away, False)
        watched.loop.call_at(5 + gone, away, True)
        watched.loop.call_at(100, setattr, watched.domain, "job", None)
        await wait_for_job_end(watched.runtime, watched.spec)
        patience = watched.runtime.options.unreachable_timeout
        ended = 100 if gone < patience else 5 + patience
        assert watched.loop.time() == pytest.approx(ended, abs=0.6)

    run_scenario(scenario)
