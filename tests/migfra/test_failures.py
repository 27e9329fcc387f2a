"""Unexpected exceptions, planted in each part of the daemon, are logged and end clearly."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fastlib import Migrate, Start, TaskContainer
from fastlib.message import Query
from fastlib.migfra import Daemon
from fastlib.migfra.journal.group_commit import GroupCommit
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.tasks.container_loader import ContainerLoader
from fastlib.migfra.tasks.dispatcher import Dispatcher
from fastlib.migfra.tasks.member_execution import MemberExecution
from fastlib.migfra.telemetry.presence import PresencePublisher
from fastlib.transport import AsyncCommunicator
from tests.support.migfra.bench import Bench, Play, patiently
from tests.support.migfra.planted import Planted, fails, fails_async, logged
from tests.support.migfra.scripted import Recovering, Scripted
from tests.support.waiting import wait_until_async


async def ends_with_failure(daemon: Daemon) -> None:
    await patiently(daemon.ended.wait())
    assert isinstance(daemon.failure, Planted)


# The journal in a daemon


def test_member_is_answered_when_its_end_cannot_be_journalled(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Journal, "done", fails_async)

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        answer = await bench.ask(TaskContainer(tasks=[Start(vm_name="a"), Start(vm_name="b")]))
        assert [result.status for result in answer.results] == ["success", "success"]
        assert not daemon.stopping

    play(scene)
    logged(caplog, "start vm failed because of an error in the daemon")


def test_member_is_answered_when_it_cannot_be_executed(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(MemberExecution, "_place", fails_async)

    async def scene(bench: Bench) -> None:
        await bench.daemon()
        answer = await bench.ask(TaskContainer(tasks=[Start(vm_name="a"), Start(vm_name="b")]))
        assert [(result.vm_name, result.status) for result in answer.results] == [
            ("a", "error"),
            ("b", "error"),
        ]
        assert answer.results[0].details == (
            "the daemon failed; check the state of the domain: Planted: by a test"
        )

    play(scene)
    logged(caplog, "start vm failed because of an error in the daemon")


def test_task_is_answered_when_its_begin_cannot_be_journalled(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Journal, "begin", fails_async)

    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        await bench.daemon(hypervisor)
        alone = TaskContainer(tasks=[Start(vm_name="a")], concurrent_execution=False)
        answer = await bench.ask(alone)  # others begin with their acceptance
        assert answer.results[0].details == "Planted: by a test"
        assert hypervisor.calls == []

    play(scene)
    logged(caplog, "start vm failed with an unexpected error")


def test_container_that_cannot_be_accepted_is_refused(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()
        daemon = await bench.daemon(hypervisor)
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "accept", fails_async)
            answer = await bench.ask(Start(vm_name="a"), "1")
        assert answer.id == "1"
        assert answer.results[0].details == (
            "the daemon failed to accept the order and does not execute it: Planted: by a test"
        )
        assert hypervisor.calls == []
        assert daemon.counters.messages["refused"] == 1
        assert (await bench.ask(Start(vm_name="a"), "1")).results[0].status == "success"

    play(scene)
    logged(caplog, "accepting failed: start vm")


def test_daemon_ends_when_an_answer_cannot_be_journalled(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "answer", fails_async)
            daemon = await bench.daemon()
            await bench.send(Start(vm_name="a"), "1")
            await ends_with_failure(daemon)
        second = Recovering()
        await bench.daemon(second)
        assert (await bench.result()).id == "1"
        assert second.calls == [("recover", "a")]

    play(scene)
    logged(caplog, "the execution of a container failed unexpectedly: Planted: by a test")


def test_daemon_ends_when_the_journal_fails(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        with monkeypatch.context() as patch:
            patch.setattr(GroupCommit, "_commit", fails)
            await bench.send(Start(vm_name="a"), "1")
            await ends_with_failure(daemon)
        second = Scripted()
        await bench.daemon(second)
        assert (await bench.result()).id == "1"
        assert second.calls == [("start", "a")]

    play(scene)
    logged(caplog, "the journal failed unexpectedly: Planted: by a test")
    assert "the daemon ends; the next run continues from the journal" in caplog.text


# The way of a task


@pytest.mark.parametrize("part", ["messages", "begin"])
def test_daemon_ends_when_the_receiver_fails(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    async def scene(bench: Bench) -> None:
        with monkeypatch.context() as patch:
            if part == "messages":
                patch.setattr(AsyncCommunicator, "messages", fails)
            else:
                patch.setattr(Dispatcher, "begin", fails)
            daemon = await bench.daemon()
            await bench.send(Start(vm_name="a"), "1")
            await ends_with_failure(daemon)
        await bench.daemon()
        assert (await bench.result()).id == "1"

    play(scene)
    logged(caplog, "the receiver failed unexpectedly: Planted: by a test")


def test_message_is_answered_when_its_decoder_fails(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        await bench.daemon()
        with monkeypatch.context() as patch:
            patch.setattr("fastlib.migfra.tasks.receiver.read", fails)
            answer = await bench.ask(Start(vm_name="a"), "1")
        assert answer.results[0].details == "the daemon failed to read the message: Planted"

    play(scene)
    logged(caplog, "reading a message failed")


def test_daemon_ends_when_the_dispatcher_fails(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ContainerLoader, "load", fails_async)
            daemon = await bench.daemon()
            task = Start(vm_name="a")
            await bench.send(TaskContainer(tasks=[task], id="1", concurrent_execution=False))
            await ends_with_failure(daemon)
        await bench.daemon()
        assert (await bench.result()).id == "1"

    play(scene)
    logged(caplog, "the dispatcher failed unexpectedly: Planted: by a test")


def test_daemon_reports_the_first_of_several_failures(play: Play) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        first, second = Planted("first"), Planted("second")
        daemon._fail("a part", first)
        daemon._fail("another part", second)
        assert daemon.failure is first
        await patiently(daemon.ended.wait())

    play(scene)


# What goes out


def planted_send(monkeypatch: pytest.MonkeyPatch, topic_part: str) -> Callable[[], None]:
    """Let sending to topics with this part fail, until the returned function is called."""
    send, send_now = AsyncCommunicator.send, AsyncCommunicator.send_now
    planted = True

    async def failing(self: AsyncCommunicator, payload: bytes, topic: str, *more: Any, **m: Any):
        if planted and topic_part in topic:
            raise Planted("by a test")
        return await send(self, payload, topic, *more, **m)

    def failing_now(self: AsyncCommunicator, payload: bytes, topic: str, *more: Any, **m: Any):
        if planted and topic_part in topic:
            raise Planted("by a test")
        return send_now(self, payload, topic, *more, **m)

    def mend() -> None:
        nonlocal planted
        planted = False

    monkeypatch.setattr(AsyncCommunicator, "send", failing)
    monkeypatch.setattr(AsyncCommunicator, "send_now", failing_now)
    return mend


def test_answer_that_cannot_be_sent_is_sent_by_the_next_run(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        mend = planted_send(monkeypatch, "/result")
        await bench.send(Start(vm_name="a"), "1")
        await wait_until_async(lambda: "a result could not be sent" in caplog.text)
        mend()
        assert (await bench.ask(Start(vm_name="b"), "2")).id == "2"
        assert daemon.runtime.publisher.unconfirmed == 0
        await patiently(daemon.close())
        await bench.daemon()
        assert (await bench.result()).id == "1"

    play(scene)
    logged(caplog, "a result could not be sent: Planted: by a test")


def test_lost_confirmation_does_not_block_the_end(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Journal, "confirmed", fails)

    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        assert (await bench.ask(Start(vm_name="a"), "1")).id == "1"
        await wait_until_async(lambda: daemon.runtime.publisher.unconfirmed == 0)
        await patiently(daemon.close())

    play(scene)
    logged(caplog, "the broker's confirmation of a result could not be stored")


def test_daemon_works_on_when_its_presence_cannot_be_published(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        with monkeypatch.context() as patch:
            patch.setattr(PresencePublisher, "_publish", fails_async)
            daemon.runtime.presence.changed()
            await wait_until_async(
                lambda: "this daemon could not publish its presence" in caplog.text
            )
            assert (await bench.ask(Start(vm_name="a"))).results[0].status == "success"
            await patiently(daemon.close())
        assert daemon.failure is None

    play(scene)
    logged(caplog, "this daemon could not publish its presence")


@pytest.mark.parametrize("part", ["sending", "building"])
def test_progress_that_fails_does_not_harm_the_task(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    async def scene(bench: Bench) -> None:
        hypervisor = Scripted()

        async def plan(context: Any) -> None:
            context.progress("copy", transferred=1)
            await wait_until_async(lambda: "could not be sent" in caplog.text)

        hypervisor.plan["vm1"] = plan
        await bench.daemon(hypervisor)
        if part == "sending":
            planted_send(monkeypatch, "/progress")
        else:
            monkeypatch.setattr("fastlib.migfra.tasks.progress.Progress", fails)
        answer = await bench.ask(Migrate(vm_name="vm1", destination="b"))
        assert answer.results[0].status == "success"

    play(scene)
    logged(caplog, "progress")


def test_query_is_answered_when_the_table_of_jobs_fails(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastlib.migfra.tasks.jobs.JobTable.reports", fails)

    async def scene(bench: Bench) -> None:
        await bench.daemon()
        answer = await bench.ask(Query(), "q")
        assert answer.results[0].details == "Planted: by a test"

    play(scene)


def test_daemon_ends_when_a_part_fails_to_close(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        monkeypatch.setattr(Dispatcher, "abandon", fails_async)
        daemon = await bench.daemon()
        await patiently(daemon.close())
        assert isinstance(daemon.failure, Planted)

    play(scene)
    logged(caplog, "the daemon could not close everything")


def test_daemon_ends_when_finishing_fails(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(bench: Bench) -> None:
        daemon = await bench.daemon()
        monkeypatch.setattr(Dispatcher, "finish", fails_async)
        await patiently(daemon.close())
        assert isinstance(daemon.failure, Planted)

    play(scene)
    logged(caplog, "the daemon failed while it ended")


def test_parts_of_a_daemon_exist_only_after_open() -> None:
    from tests.support.migfra.bench import configuration

    async def main() -> None:
        with pytest.raises(RuntimeError, match="the daemon is not open"):
            _ = Daemon(configuration(), in_memory=True).runtime

    asyncio.run(main())
