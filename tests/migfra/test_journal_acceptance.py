"""New and repeated orders in the journal, also after restarts, and their stored parts."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fastlib.migfra.journal import journal_file
from fastlib.migfra.journal.acceptance import Acceptance
from fastlib.migfra.journal.journal import Journal
from tests.support.migfra.desk import AtDesk, Desk


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


def test_window_of_an_order_after_a_reboot_begins_with_the_order(
    at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(desk: Desk) -> None:
        await desk.journal.close()
        monkeypatch.setattr(journal_file, "_boot_id", lambda: "another boot")
        desk.open()
        for seconds, kind in ((0.0, "new"), (4.9, "unanswered"), (0.1, "new")):
            desk.clock.run(seconds)
            assert await desk.kind("stop") == kind

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


def test_repetition_by_its_key_is_a_message_between(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("start", key="k", vm_names=("vm2",)) == "new"
        assert await desk.kind("stop") == "new"
        assert await desk.kind("start", key="k", vm_names=("vm2",)) == "unanswered"
        assert await desk.kind("stop") == "new"

    at_desk(scene)


def test_repetition_of_the_newest_order_is_no_message_between(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop") == "new"
        for kind in ("new", "unanswered"):
            assert await desk.kind("start", key="k", vm_names=("vm2",)) == kind
        assert await desk.kind("stop") == "unanswered"

    at_desk(scene)


def test_order_without_room_is_a_message_between_only_for_its_id(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        for id, kind in (("other", "unanswered"), (":-)", "new")):
            await desk.kind("stop")
            refused = await desk.journal.accept(id, b"d", b"p", has_room=False)
            assert refused == Acceptance("full", 0)
            assert await desk.kind("stop") == kind

    at_desk(scene)


def test_known_order_is_named_with_its_number(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        journal = desk.journal
        await journal.accept("first", b"d", b"p", key="1")
        number = (await journal.accept("second", b"d", b"p", key="2")).number
        again = await journal.accept("third", b"d", b"p", key="2")
        assert again == Acceptance("unanswered", number)
        other = await journal.accept("third", b"other", b"other", key="2")
        assert other == Acceptance("other", number, other_id=b"second")
        await journal.answer(number, b"answer")
        again = await journal.accept("third", b"d", b"p", key="2")
        assert again == Acceptance("answered", number, b"answer", desk.clock.now())

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


def test_message_of_a_later_run_shows_that_packets_are_settled(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1, connection=5) == "new"
        await desk.restart()
        assert await desk.kind("start", packet=2, connection=1) == "new"
        desk.clock.run(1000)
        assert await desk.kind("stop", packet=1, dup=True, connection=2) == "new"

    at_desk(scene)


def test_event_of_a_repetition_says_how_it_was_known(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        await desk.kind("stop", packet=1)
        await desk.kind("stop", packet=1, dup=True, connection=2)
        await desk.kind("stop", packet=2, connection=2)
        (found,) = await desk.journal.history()
        assert [(event.kind, event.text) for event in found.events[1:]] == [
            ("repeated", "by the broker"),
            ("repeated", "by the sender"),
        ]

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


def test_settled_packets_stay_settled_after_a_restart(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        assert await desk.kind("start", packet=2, connection=2) == "new"
        await desk.restart()
        desk.clock.run(1000)
        assert await desk.kind("stop", packet=1, dup=True) == "new"

    at_desk(scene)


def test_repeated_packet_settles_no_others(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        assert await desk.kind("start", packet=2) == "new"
        assert await desk.kind("stop", packet=1, dup=True, connection=2) == "unanswered"
        await desk.restart()
        desk.clock.run(1000)
        assert await desk.kind("start", packet=2, dup=True) == "unanswered"

    at_desk(scene)


def test_packet_with_a_key_is_known_by_the_key(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1, key="k") == "new"
        assert await desk.kind("stop", packet=1, dup=True, connection=2) == "new"
        assert await desk.kind("stop", packet=1, dup=True, connection=2, key="k") == "unanswered"

    at_desk(scene)


def test_packet_id_that_an_order_with_a_key_has_used_is_new(at_desk: AtDesk) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.kind("stop", packet=1) == "new"
        assert await desk.kind("start", packet=1, key="k") == "new"
        desk.clock.run(1000)
        assert await desk.kind("stop", packet=1, dup=True, connection=2) == "new"

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
        ((b"1", b"same"), (None, b"same"), "unanswered", []),
        ((None, b"same"), (b"2", b"same"), "unanswered", []),
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
