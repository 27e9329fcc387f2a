"""The tables of the journal: each fact that a run reads, and the orders that a trim forgets."""

import math
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fastlib.migfra.journal import schema
from fastlib.migfra.journal.schema import (
    ACCEPTED,
    ANSWERED,
    CONFIRMED,
    KEPT_IN_A_ROW,
    TRIMMED_AT_ONCE,
    MemberState,
    Run,
    Unfinished,
)
from fastlib.migfra.plugin_api.expiry import latest_begin_after_restart

BOOT = "this boot"


@pytest.fixture
def tables() -> Iterator[sqlite3.Connection]:
    with closing(schema.open_tables(None, 7.0)) as connection:
        yield connection


def add(connection: sqlite3.Connection, number: int, **facts: object) -> None:
    """Add an order with these columns."""
    row = {"number": number, "digest": b"", "accepted": 0.0, "state": CONFIRMED, **facts}
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO containers ({columns}) VALUES ({places})", tuple(row.values()))


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [n for (n,) in connection.execute("SELECT number FROM containers ORDER BY number")]


def meta(connection: sqlite3.Connection) -> Mapping[str, Any]:
    return dict(connection.execute("SELECT name, value FROM meta"))


# Opening


def test_new_tables_begin_at_the_given_time(tables: sqlite3.Connection) -> None:
    assert meta(tables)["began"] == 7.0
    with closing(schema.open_tables(None)) as connection:
        assert meta(connection)["began"] == 0.0


def test_mode_of_the_file_is_corrected(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    path.chmod(0o644)
    schema.open_tables(path).close()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_first_run_has_the_facts_of_a_new_journal(tmp_path: Path) -> None:
    connection, run = schema.open_journal(tmp_path / "journal", "hostA", BOOT, 7.0)
    with closing(connection):
        identity = meta(connection)["identity"]
        assert len(identity) >= 16
    assert run == Run(
        number=1,
        is_new=True,
        identity=identity,
        began=7.0,
        seconds=0.0,
        session=0,
        fresh=(0, 0),
        earlier_host=None,
        order=0,
        newest=None,
        packets=frozenset(),
        hypervisor_state=None,
    )


def test_second_run_has_the_facts_of_the_first(tmp_path: Path) -> None:
    connection, first = schema.open_journal(tmp_path / "journal", "hostA", BOOT, 7.0)
    with closing(connection):
        add(connection, 3, accepted=100.0, settled=40.0)
        add(connection, 4, accepted=90.0)
        connection.execute("INSERT INTO packets VALUES (11, 4, 5, 1, 1)")
        schema.set_fresh(connection, (8, 9))
        schema.set_meta(connection, schema.HYPERVISOR_STATE, b"{}")
    connection, second = schema.open_journal(tmp_path / "journal", None, BOOT, 8.0)
    connection.close()
    assert second == Run(
        number=2,
        is_new=False,
        identity=first.identity,
        began=7.0,
        seconds=40.0,
        session=5,
        fresh=(8, 9),
        earlier_host="hostA",
        order=4,
        newest=90.0,
        packets=frozenset([11]),
        hypervisor_state=b"{}",
    )


def test_first_run_of_an_upgraded_journal_is_not_new(tables: sqlite3.Connection) -> None:
    add(tables, 2)
    assert not schema.begin_run(tables, None, BOOT).is_new


def test_numbers_of_forgotten_orders_are_not_used_again(tables: sqlite3.Connection) -> None:
    schema.set_meta(tables, "order", 9)
    add(tables, 4, accepted=100.0)
    assert schema.begin_run(tables, None, BOOT).order == 9


# Trimming


def test_trim_of_nothing_forgets_nothing(tables: sqlite3.Connection) -> None:
    assert schema.trim(tables, 1e9, 1 << 30) is None
    assert (meta(tables)["order"], meta(tables)["began"]) == (0, 7.0)


def test_trim_forgets_orders_confirmed_before_the_oldest(tables: sqlite3.Connection) -> None:
    add(tables, 1, accepted=30.0, settled=1.0)
    add(tables, 2, accepted=20.0, settled=1.9)
    add(tables, 3, accepted=40.0, settled=2.0)
    add(tables, 4, accepted=50.0)
    for packet, container in enumerate([1, 2, 3, 9]):
        tables.execute("INSERT INTO packets VALUES (?, ?, 0, 0, 0)", (packet, container))
    assert schema.trim(tables, 2.0, 1 << 30) == 30.0
    assert numbers(tables) == [3, 4]
    assert (meta(tables)["order"], meta(tables)["began"]) == (2, 30.0)
    assert [p for (p,) in tables.execute("SELECT container FROM packets")] == [3, 9]


def test_orders_of_a_fraction_of_a_second_are_trimmed_with_their_time(
    tables: sqlite3.Connection,
) -> None:
    schema.set_meta(tables, "began", 0.0)
    add(tables, 1, accepted=0.25, settled=0.0)
    assert schema.trim(tables, 1.0, 1 << 30) == 0.25
    add(tables, 2, accepted=0.5)
    assert schema.trim(tables, 0.0, 0) == 0.5


def test_trim_never_sets_the_beginning_back(tables: sqlite3.Connection) -> None:
    add(tables, 1, accepted=3.0, settled=0.0)
    assert schema.trim(tables, 1.0, 1 << 30) == 7.0
    assert meta(tables)["began"] == 7.0


def test_trim_by_size_forgets_the_oldest_confirmed_orders(tables: sqlite3.Connection) -> None:
    count = TRIMMED_AT_ONCE + 2
    for number in range(2, count + 2):
        add(tables, number, accepted=200.0 - number, payload=b"x" * 5000)
    add(tables, 1, state=ANSWERED)
    add(tables, 500, state=ACCEPTED)
    assert schema.trim(tables, 0.0, schema.size(tables) - 1) == 198.0
    assert numbers(tables) == [1, count, count + 1, 500]
    assert meta(tables)["order"] == count - 1
    assert schema.trim(tables, 0.0, 0) == 200.0 - 2
    assert numbers(tables) == [1, 500]
    assert meta(tables)["order"] == count + 1


def test_trim_by_age_and_size_counts_both(tables: sqlite3.Connection) -> None:
    add(tables, 1, accepted=10.0)
    add(tables, 2, accepted=90.0, settled=0.0)
    assert schema.trim(tables, 1.0, 0) == 90.0
    assert (numbers(tables), meta(tables)["order"]) == ([], 2)


@pytest.mark.parametrize(
    ("younger", "is_found"), [(KEPT_IN_A_ROW - 1, True), (KEPT_IN_A_ROW, False)]
)
def test_search_ends_after_many_younger_orders_in_a_row(
    tables: sqlite3.Connection, younger: int, is_found: bool
) -> None:
    add(tables, 1, settled=0.0)
    for number in range(2, 2 + younger):
        add(tables, number, settled=9.0)
    add(tables, 1000, settled=0.0)
    schema.trim(tables, 1.0, 1 << 30)
    assert (1000 not in numbers(tables)) == is_found
    assert 1 not in numbers(tables)


def test_search_begins_to_count_at_the_first_order(tables: sqlite3.Connection) -> None:
    for number in range(1, KEPT_IN_A_ROW):
        add(tables, number, settled=9.0)
    add(tables, 1000, settled=0.0)
    schema.trim(tables, 1.0, 1 << 30)
    assert 1000 not in numbers(tables)


# After a restart


def test_unfinished_orders_have_all_their_facts(tables: sqlite3.Connection) -> None:
    tables.execute("INSERT INTO runs VALUES (3, ?)", (BOOT,))
    common = {"state": ACCEPTED, "accepted": 50.0, "run": 3, "clock": 500.0}
    add(tables, 1, **common, id=b"one", host=b"hostA", payload=b"12345", expires=60.0)
    add(tables, 2, **common, noted=1, cancelled=1, task=b"cancel task")
    add(tables, 3, **common, noted=1)
    tables.execute("INSERT INTO members VALUES (3, 0, x'5b5d', ?)", (b'{"making": true}',))
    tables.execute("INSERT INTO members VALUES (3, 1, NULL, NULL)")
    add(tables, 4)
    first, second, third = schema.unfinished(tables, BOOT, 503.0)
    assert first == Unfinished(
        number=1,
        id="one",
        accepted=50.0,
        cancelled=False,
        maybe_cancel=False,
        members={},
        host="hostA",
        expires=60.0,
        latest_begin=latest_begin_after_restart(60.0, 50.0, 503.0, 500.0),
        size=5,
    )
    assert first.latest_begin < math.inf
    assert (second.cancelled, second.maybe_cancel, second.size) == (True, True, 0)
    assert (second.expires, second.latest_begin) == (None, math.inf)
    assert second.members == {0: MemberState(None, {})}
    assert third.members == {0: MemberState(b"[]", {"making": True}), 1: MemberState(None, {})}


@pytest.mark.parametrize(
    ("task", "payload", "may_be_one"),
    [
        (b"cancel task", b"", True),
        (b"stop vm", b"cancel task", False),
        (b"", b"task: cancel task", True),
        (None, b"task: cancel task", True),
        (None, b"task: CANCEL TASK", False),
    ],
)
def test_order_without_a_title_may_be_a_cancel(
    tables: sqlite3.Connection, task: bytes | None, payload: bytes, may_be_one: bool
) -> None:
    add(tables, 1, state=ACCEPTED, task=task, payload=payload)
    (found,) = schema.unfinished(tables, BOOT, 0.0)
    assert found.maybe_cancel == may_be_one


def test_container_begins_with_its_first_member(tables: sqlite3.Connection) -> None:
    add(tables, 1)
    assert schema.began(tables, 1) is None
    for time, kind in ((3.0, "accepted"), (6.0, "begun"), (5.0, "begun")):
        tables.execute("INSERT INTO events VALUES (1, 0, ?, ?, x'', NULL)", (time, kind))
    assert schema.began(tables, 1) == 5.0
    add(tables, 2, began=4.0)
    assert schema.began(tables, 2) == 4.0
