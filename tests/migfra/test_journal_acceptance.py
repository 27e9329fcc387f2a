"""New and repeated orders in the journal, also after restarts, and their stored parts."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fastlib.migfra.journal import journal as journal_module
from fastlib.migfra.journal import journal_file
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.records import Event
from fastlib.migfra.journal.repetition import Origin
from tests.support.clock import SetClock


class Desk:
    """A journal that orders come to, and the clock of its host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.clock = SetClock()
        self.open()

    def open(self) -> None:
        self.journal = Journal(self._path, clock=self.clock, host="node01")

    async def restart(self) -> None:
        await self.journal.close()
        self.open()

    async def kind(
        self,
        text: str,
        id: str | None = ":-)",
        *,
        key: str | None = None,
        packet: int | None = None,
        dup: bool = False,
        connection: int = 1,
        session: int = 0,
        vm_names: tuple[str, ...] = ("vm1",),
        any_domain: bool = False,
    ) -> str:
        accepted = await self.journal.accept(
            id,
            hashlib.sha256(text.encode()).digest(),
            f"{id}: {text}".encode(),
            key=key,
            origin=Origin(packet, dup, connection, session),
            task=text,
            vm_names=vm_names,
            any_domain=any_domain,
        )
        return accepted.kind


@pytest.fixture
def at_desk(tmp_path: Path) -> Callable[[Callable[[Desk], Awaitable[None]]], None]:
    def play(scene: Callable[[Desk], Awaitable[None]]) -> None:
        async def main() -> None:
            desk = Desk(tmp_path / "journal")
            await scene(desk)
            await desk.journal.close()

        asyncio.run(main())

    return play


AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]


@pytest.mark.parametrize("id", [":-)", None])
@pytest.mark.parametrize(("seconds", "again"), [(0.0, True), (4.999, True), (5.0, False)])
def test_same_bytes_are_one_order_within_the_window(
    at_desk: AtDesk, id: str | None, seconds: float, again: bool
) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", id) == "new"
        desk.clock.run(seconds)
        desk.clock.jump(1e9)  # the wall clock does not count
        assert await desk.kind("stop", id) == ("unanswered" if again else "new")

    at_desk(scene)


def test_window_continues_after_a_restart(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop") == "new"
        desk.clock.run(4.9)
        await desk.restart()
        assert await desk.kind("stop") == "unanswered"
        desk.clock.run(0.1)
        assert await desk.kind("stop") == "new"

    at_desk(scene)


@pytest.mark.parametrize(("since_boot", "again"), [(4.9, True), (5.0, False)])
def test_after_a_reboot_only_the_time_since_it_counts(
    at_desk: AtDesk, since_boot: float, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop") == "new"
        await desk.journal.close()
        monkeypatch.setattr(journal_file, "_boot_id", lambda: "another boot")
        desk.clock.run(since_boot - desk.clock.monotonic())
        desk.open()
        assert await desk.kind("stop") == ("unanswered" if again else "new")

    at_desk(scene)


@pytest.mark.parametrize(
    ("between", "again"),
    [
        ({"text": "start"}, False),
        ({"text": "start", "key": "k"}, False),
        ({"text": "start", "vm_names": ("vm2",)}, True),
        ({"text": "start", "vm_names": ("vm2", "vm1")}, False),
        ({"text": "regex", "vm_names": (), "any_domain": True}, False),
        ({"text": "start", "id": "other"}, True),
        ({"text": "start", "id": None}, True),
    ],
    ids=str,
)
def test_order_between_makes_a_new_order_if_it_may_be_about_the_same_domain(
    at_desk: AtDesk, between: dict[str, Any], again: bool
) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop") == "new"
        assert await desk.kind(**between) == "new"
        assert await desk.kind("stop") == ("unanswered" if again else "new")

    at_desk(scene)


def test_order_for_any_domain_is_repeated_only_without_anything_between(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        regex: dict[str, Any] = {"text": "regex", "vm_names": (), "any_domain": True}
        assert await desk.kind(**regex) == "new"
        assert await desk.kind(**regex) == "unanswered"
        assert await desk.kind("stop") == "new"
        assert await desk.kind(**regex) == "new"

    at_desk(scene)


@pytest.mark.parametrize("end", ["none", "restart", "kill"])
def test_query_between_makes_a_new_order(at_desk: AtDesk, end: str) -> None:
    async def scene(desk: Desk) -> None:
        for id in (":-)", None):
            assert await desk.kind("stop", id) == "new"
            desk.journal.came_between("another id")
            assert await desk.kind("stop", id) == "unanswered"
            desk.journal.came_between(id)
            if end == "kill":
                await desk.journal.unfinished()  # everything before it is written
                desk.journal.give_up()
            if end != "none":
                await desk.restart()
            assert await desk.kind("stop", id) == "new"

    at_desk(scene)


def test_query_after_a_restart_makes_a_new_order(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop") == "new"
        await desk.restart()
        desk.journal.came_between(":-)")
        assert await desk.kind("stop") == "new"

    at_desk(scene)


def test_refused_order_between_makes_a_new_order(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("start", key="k", vm_names=("vm2",)) == "new"
        assert await desk.kind("stop") == "new"
        assert await desk.kind("migrate", key="k", vm_names=("vm2",)) == "other"
        assert await desk.kind("stop") == "new"

    at_desk(scene)


def test_key_is_compared_after_any_time(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", key="k") == "new"
        assert await desk.kind("start") == "new"
        desk.clock.run(500_000)
        await desk.restart()
        assert await desk.kind("stop", key="k") == "unanswered"
        assert await desk.kind("stop", "other id", key="k2") == "new"
        assert await desk.kind("start", key="k") == "other"

    at_desk(scene)


def test_repeated_packet_is_known_after_the_window_and_a_restart(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        assert await desk.kind("start", packet=2) == "new"
        desk.clock.run(1000)
        await desk.restart()
        assert await desk.kind("stop", packet=1, dup=True) == "unanswered"
        assert await desk.kind("start", packet=2, dup=True) == "unanswered"
        # The acknowledgements were lost once more.
        assert await desk.kind("stop", packet=1, dup=True, connection=2) == "unanswered"
        assert await desk.kind("stop", packet=3, connection=2) == "new"

    at_desk(scene)


def test_packet_that_never_arrived_is_new(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        desk.clock.run(1000)
        assert await desk.kind("stop", packet=2, dup=True, connection=2) == "new"
        assert await desk.kind("start", packet=1, dup=True, connection=2) == "new"
        assert await desk.kind("stop", packet=None, dup=True, connection=2) == "new"

    at_desk(scene)


def test_packet_of_a_repetition_by_the_sender_is_known(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        assert await desk.kind("stop", packet=2) == "unanswered"
        desk.clock.run(1000)
        assert await desk.kind("stop", packet=1, dup=True, connection=2) == "unanswered"
        assert await desk.kind("stop", packet=2, dup=True, connection=2) == "unanswered"

    at_desk(scene)


def test_packet_id_that_is_in_use_again_is_new(at_desk: AtDesk) -> None:
    """A message without DUP on a later connection shows that older packets are settled."""

    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        assert await desk.kind("start", packet=2, connection=2) == "new"
        desk.clock.run(1000)
        assert await desk.kind("stop", packet=1, dup=True, connection=3) == "new"
        assert await desk.kind("start", packet=2, dup=True, connection=3) == "unanswered"

    at_desk(scene)


def test_settled_packets_stay_settled_after_a_repetition_and_a_restart(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        assert await desk.kind("start", packet=2, connection=2) == "new"
        assert await desk.kind("start", packet=2, dup=True, connection=3) == "unanswered"
        await desk.restart()
        desk.clock.run(1000)
        assert await desk.kind("stop", packet=1, dup=True) == "new"

    at_desk(scene)


def test_packet_with_a_key_is_known_by_the_key(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1, key="k") == "new"
        assert await desk.kind("stop", packet=1, dup=True, connection=2) == "new"
        assert await desk.kind("stop", packet=1, dup=True, connection=2, key="k") == "unanswered"

    at_desk(scene)


def test_new_session_uses_packet_ids_again(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        desk.clock.run(1000)
        again: dict[str, Any] = {"text": "stop", "packet": 1, "dup": True}
        assert await desk.kind(**again, connection=2, session=2) == "new"
        await desk.restart()
        desk.clock.run(1000)
        assert await desk.kind(**again) == "unanswered"  # of the same session
        desk.journal.session_began(1)  # without any order
        await desk.restart()
        desk.clock.run(1000)
        assert await desk.kind(**again) == "new"

    at_desk(scene)


def test_executed_is_when_the_first_member_began(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        journal, digest = desk.journal, b"d"
        number = (await journal.accept("1", digest, b"p", key="k")).number
        desk.clock.run(10)
        began = desk.clock.now()
        await journal.begin(number, 1)
        desk.clock.run(10)
        await journal.begin(number, 0)
        desk.clock.run(10)
        await journal.answer(number, b"answer")
        again = await journal.accept("1", digest, b"p", key="k")
        assert (again.kind, again.answer, again.executed) == ("answered", b"answer", began)

    at_desk(scene)


def test_order_that_never_began_has_the_time_of_its_answer(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        number = (await desk.journal.accept("1", b"d", b"p", key="k")).number
        desk.clock.run(10)
        answered = desk.clock.now()
        await desk.journal.answer(number, b"expired")
        desk.clock.run(10)
        assert (await desk.journal.accept("1", b"d", b"p", key="k")).executed == answered

    at_desk(scene)


def test_history_has_the_outcome_of_an_order(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        journal, start = desk.journal, desk.clock.now()
        number = (
            await journal.accept(
                "1", b"d", b"p", key="k", task="stop vm", vm_names=("vm2", "vm1"), expires=5.0
            )
        ).number
        desk.clock.run(1)
        await journal.begin(number, 0)
        journal.note(number, 0, "phase", "copy \ud800", vm_name="vm9")
        journal.note(number, None, "retry", "1 of 2")
        desk.clock.run(1)
        await journal.accept("1", b"d", b"p", key="k")
        await journal.accept("1", b"other", b"p", key="k")
        await journal.answer(number, b"answer")
        desk.clock.run(1)
        journal.confirmed(number)
        (found,) = await journal.history(vm_name="vm9")
        assert [found] == await journal.history("1") == await journal.history(key="k")
        assert [found] == await journal.history("1", "k", "vm1") == await journal.history()
        assert await journal.history("2") == await journal.history("1", "other key") == []
        assert (found.number, found.id, found.key, found.host) == (number, "1", "k", "node01")
        assert (found.task, found.vm_names) == ("stop vm", ("vm1", "vm2", "vm9"))
        assert (found.accepted, found.began, found.answered, found.confirmed) == (
            start, start + 1, start + 2, start + 3,
        )  # fmt: skip
        assert (found.state, found.cancelled, found.expires) == ("confirmed", False, 5.0)
        assert (found.payload, found.answer) == (b"p", b"answer")
        assert found.events == (
            Event(None, start, "accepted"),
            Event(0, start + 1, "begun"),
            Event(0, start + 1, "phase", "copy \ud800", "vm9"),
            Event(None, start + 1, "retry", "1 of 2"),
            Event(None, start + 2, "repeated", "with the same key"),
            Event(None, start + 2, "refused", "the key came with another order"),
            Event(None, start + 2, "answered"),
            Event(None, start + 3, "confirmed"),
        )

    at_desk(scene)


def test_history_has_repetitions_after_their_answer(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        journal = desk.journal
        number = (await journal.accept("1", b"d", b"p", key="k")).number
        await journal.accept("1", b"d", b"p", key="k")
        desk.clock.run(1)
        await journal.answer(number, b"")
        desk.clock.run(1)
        await journal.accept("1", b"d", b"p", key="k")
        desk.clock.run(1)
        journal.confirmed(number)
        desk.clock.run(1)
        await journal.accept("1", b"d", b"p", key="k")
        (found,) = await journal.history()
        kinds = [event.kind for event in found.events]
        assert kinds == ["accepted", "repeated", "answered", "repeated", "confirmed", "repeated"]

    at_desk(scene)


def test_history_has_the_answer_after_entries_of_a_clock_ahead(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        number = (await desk.journal.accept("1", b"d", b"p", key="k")).number
        desk.clock.run(1)
        desk.journal.note(number, 0, "ended", "success")
        desk.clock.jump(-100.0)
        await desk.journal.answer(number, b"")
        (found,) = await desk.journal.history()
        assert [event.kind for event in found.events] == ["accepted", "ended", "answered"]

    at_desk(scene)


def test_history_has_the_newest_first_and_one_more_than_the_limit(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        for number in range(5):
            await desk.kind(str(number), None)
        found = await desk.journal.history(limit=2)
        assert [record.task for record in found] == ["4", "3", "2"]
        assert [record.state for record in found] == ["unanswered"] * 3

    at_desk(scene)


def test_history_is_read_while_nothing_can_be_written(
    at_desk: AtDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FLUSH_SECONDS", 0.01)

    async def scene(desk: Desk) -> None:
        await desk.kind("stop")
        with closing(sqlite3.connect(tmp_path / "journal", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            desk.journal.trim()
            assert [record.task for record in await desk.journal.history()] == ["stop"]
            other.execute("ROLLBACK")

    at_desk(scene)


def test_note_is_written_without_a_separate_transaction(
    at_desk: AtDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "NOTE_SECONDS", 3600.0)

    async def scene(desk: Desk) -> None:
        statements: list[str] = []
        number = (await desk.journal.accept("1", b"d", b"p")).number
        desk.journal._file.connection.set_trace_callback(statements.append)
        for count in range(1000):
            desk.journal.note(number, 0, "phase", str(count))
        await asyncio.sleep(0)
        assert statements == []
        await desk.journal.begin(number, 0)
        assert statements.count("COMMIT") == 1
        with closing(sqlite3.connect(tmp_path / "journal")) as other:
            (count,) = other.execute("SELECT count(*) FROM events WHERE kind = 'phase'").fetchone()
        assert count == 1000
        desk.journal.note(number, 0, "ended")
        await desk.restart()  # and what waits is written at the end
        assert (await desk.journal.history())[0].events[-1].kind == "ended"

    at_desk(scene)


def test_note_is_written_when_nothing_else_is(
    at_desk: AtDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "NOTE_SECONDS", 0.01)

    async def scene(desk: Desk) -> None:
        number = (await desk.journal.accept("1", b"d", b"p")).number
        desk.journal.note(number, 0, "ended")
        while desk.journal.waiting:
            await asyncio.sleep(0.01)
        desk.journal.give_up()
        desk.journal.note(number, 0, "too late")  # says nothing
        await desk.restart()
        assert [event.kind for event in (await desk.journal.history())[0].events] == [
            "accepted",
            "ended",
        ]

    at_desk(scene)


def test_began_says_since_when_all_orders_are_known(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SetClock()
        first = clock.now()
        journal = Journal(tmp_path / "journal", max_age=10, clock=clock)
        assert journal.began == first
        clock.run(1)
        for id in ("a", "b"):
            number = (await journal.accept(id, b"d", b"p", key=id)).number
            await journal.answer(number, b"")
            journal.confirmed(number)
        clock.run(11)
        journal.trim()
        assert await journal.history() == []
        assert journal.began == first + 1
        await journal.close()
        journal = Journal(tmp_path / "journal", clock=clock)
        assert journal.began == first + 1
        await journal.close()

    asyncio.run(main())


def test_host_and_identity_are_kept(tmp_path: Path) -> None:
    async def main() -> None:
        identities = set()
        for host, earlier in (("a", None), ("b", "a"), ("b", "b")):
            journal = Journal(tmp_path / "journal", host=host)
            identities.add(journal.identity)
            assert (journal.host, journal.earlier_host) == (host, earlier)
            await journal.accept(host, b"d", b"p", key=journal.identity + str(earlier))
            await journal.close()
        assert len(identities) == 1
        journal = Journal(tmp_path / "journal", host="c")
        assert [left.host for left in await journal.unfinished()] == ["a", "b", "b"]
        await journal.close()
        other = Journal(tmp_path / "other")
        assert other.identity not in identities
        await other.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("stored", "came", "kind", "computed"),
    [
        ((None, b"same"), (None, b"same"), "unanswered", []),
        ((None, b"same 1"), (None, b"same 2"), "unanswered", [b"same 1", b"same 2"]),
        ((None, b"same"), (None, b"other"), "other", [b"same", b"other"]),
        ((b"same", b"earlier"), (None, b"same"), "unanswered", [b"same"]),
        ((b"same", b"earlier"), (None, b"other"), "other", [b"other"]),
        ((None, b"same"), (b"same", b"later"), "unanswered", [b"same"]),
        ((b"1", b"same"), (b"2", b"same"), "other", []),
    ],
)
def test_digests_are_computed_only_for_a_key_that_comes_again_with_other_bytes(
    tmp_path: Path,
    stored: tuple[bytes | None, bytes],
    came: tuple[bytes | None, bytes],
    kind: str,
    computed: list[bytes],
) -> None:
    """Each order has a digest, or None, and a payload."""
    calls: list[bytes] = []

    def digest_of(payload: bytes) -> bytes:
        calls.append(payload)
        return payload.split()[0]

    async def main() -> None:
        journal = Journal(tmp_path / "journal", digest_of=digest_of)
        assert (await journal.accept("1", *stored, key="k")).kind == "new"
        assert calls == []
        assert (await journal.accept("1", *came, key="k")).kind == kind
        assert calls == computed
        await journal.close()

    asyncio.run(main())
